import numpy as np
import pytest
import torch

from siamkd_core.backend import TorchBackend
from siamkd_core.device import resolve_device, resolve_precision
from siamkd_core.errors import ConfigError
from siamkd_core.siamfc import SiamFC


def trained_looking_network():
    torch.manual_seed(0)
    network = SiamFC((4, 8, 8, 8, 4))
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.weight, 0.5, 2)
            torch.nn.init.normal_(module.bias)
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
    return network.eval()


def test_folding_batch_norm_does_not_change_the_response():
    rng = np.random.default_rng(0)
    z = rng.integers(0, 256, (127, 127, 3), np.uint8)
    x = rng.integers(0, 256, (3, 175, 175, 3), np.uint8)
    network = trained_looking_network()
    with torch.no_grad():
        expected = network(
            torch.from_numpy(z).permute(2, 0, 1)[None].float(),
            torch.from_numpy(x).permute(0, 3, 1, 2).float(),
        )[:, 0].numpy()
    backend = TorchBackend(network, "cpu", "float32")
    found = backend.respond(backend.embed_exemplar(z), x)
    assert found.shape == (3, 7, 7)
    assert found == pytest.approx(expected, rel=1e-3, abs=1e-4)


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
