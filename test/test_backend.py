import numpy as np
import pytest
import torch

from siamkd_core.backend import TorchBackend
from siamkd_core.device import resolve_device, resolve_precision
from siamkd_core.errors import ConfigError
from siamkd_core.siamfc import SiamFC
from siamkd_core.siamrpn import HeadConfig, SiamRPN


def trained_looking(network):
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.weight, 0.5, 2)
            torch.nn.init.normal_(module.bias)
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
    return network.eval()


SHAPES = {
    "siamfc": (3, 7, 7),
    "upchannel": (3, 5, 5, 7, 7),
    "depthwise": (3, 5, 5, 7, 7),
    "pixelwise": (3, 5, 1, 7, 7),
    "ban": (3, 5, 1, 7, 7),
}


@pytest.mark.parametrize("kind", SHAPES)
def test_folding_batch_norm_does_not_change_the_answer(kind):
    rng = np.random.default_rng(0)
    torch.manual_seed(0)
    z = rng.integers(0, 256, (127, 127, 3), np.uint8)
    x = rng.integers(0, 256, (3, 175, 175, 3), np.uint8)
    widths = (4, 8, 8, 8, 4)
    if kind == "ban":
        widths, backbone = (4,) * 9 + (5,), "mobilenet_v3"
    else:
        backbone = "alexnet"
    made = SiamFC(widths) if kind == "siamfc" else SiamRPN(widths, HeadConfig(kind, 6), backbone)
    network = trained_looking(made)
    with torch.no_grad():
        expected = network(
            torch.from_numpy(z).permute(2, 0, 1)[None].float(),
            torch.from_numpy(x).permute(0, 3, 1, 2).float(),
        ).numpy()
    backend = TorchBackend(network, "cpu", "float32")
    found = backend.respond(backend.embed_exemplar(z), x)
    assert found.shape == SHAPES[kind]
    near = 2e-3 * np.abs(expected).max()
    assert found == pytest.approx(expected.reshape(found.shape), abs=near)
    assert not any(isinstance(m, torch.nn.BatchNorm2d) for m in backend.network.modules())


def test_unknown_device_and_precision_say_what_there_is():
    with pytest.raises(ConfigError, match="auto, cpu"):
        resolve_device("tpu9")
    with pytest.raises(ConfigError, match="CUDA devices"):
        resolve_device(f"cuda:{torch.cuda.device_count()}")
    with pytest.raises(ConfigError, match="bfloat16"):
        resolve_precision("int3", torch.device("cpu"))
    assert resolve_precision("float16", torch.device("cpu")) is torch.float16


def test_auto_precision_takes_bfloat16_only_where_the_cpu_has_it(monkeypatch):
    for has, expected in ((True, torch.bfloat16), (False, torch.float32)):
        monkeypatch.setattr("siamkd_core.device._cpu_has_bfloat16", lambda has=has: has)
        assert resolve_precision("auto", torch.device("cpu")) is expected
