"""SiamRPN's sizes and geometry; its head against loops."""

from functools import partial

import pytest
import torch
import torch.nn.functional as F

from siamkd_core.alexnet import TEACHER_WIDTHS
from siamkd_core.errors import ConfigError
from siamkd_core.siamfc import count_parameters
from siamkd_core.siamrpn import BACKBONES, DOUBLED_WIDTHS, HeadConfig, SiamRPN

WIDTHS = (4, 5, 6, 6, 3)


def backbone_by_hand(widths):
    a, b, c, d, e = widths
    convolutions = 364 * a + (25 * a + 1) * b + (9 * b + 1) * c + (9 * c + 1) * d + (9 * d + 1) * e
    return convolutions + 2 * sum(widths)


def head_by_hand(inputs, f):
    return 270 * inputs * f + 18 * inputs * f + 30 * f + 2 * f + 420


def test_the_published_numbers_of_parameters(monkeypatch):
    # 360 MB of random numbers take seconds and change no count
    monkeypatch.setattr(torch.nn.Conv2d, "reset_parameters", lambda _: None)
    monkeypatch.setattr(torch.nn.init, "kaiming_normal_", lambda *_, **__: None)
    assert count_parameters(SiamRPN(DOUBLED_WIDTHS, HeadConfig(width=512))) == 90_436_132
    assert count_parameters(SiamRPN(TEACHER_WIDTHS, HeadConfig(width=256))) == 22_632_932


@pytest.mark.parametrize("widths, f", [(WIDTHS, 7), ((45, 119, 179, 179, 119), 11)])
def test_the_number_of_parameters_at_any_width_by_hand(widths, f):
    expected = backbone_by_hand(widths) + head_by_hand(widths[-1], f)
    assert count_parameters(SiamRPN(widths, HeadConfig(width=f))) == expected


def test_the_depthwise_head_by_hand():
    e, f = WIDTHS[-1], 7
    # two convolutions of 3x3, one of 1x1, three BatchNorms and the last convolution with its bias
    branches = [18 * e * f + f * f + 6 * f + (f + 1) * outputs for outputs in (10, 20)]
    network = SiamRPN(WIDTHS, HeadConfig("depthwise", f))
    assert count_parameters(network) == backbone_by_hand(WIDTHS) + sum(branches)


def made(kind, width):
    """A network with a backbone that the head takes."""
    if kind == "ban":
        return SiamRPN((4,) * 9 + (5,), HeadConfig(kind, width), "mobilenet_v3")
    return SiamRPN(WIDTHS, HeadConfig(kind, width))


@pytest.mark.parametrize("kind", ["upchannel", "depthwise", "pixelwise", "ban"])
def test_one_exemplar_against_many_and_pair_by_pair(kind):
    torch.manual_seed(0)
    network = made(kind, 4).eval()
    z, x = torch.rand(2, 3, 127, 127) * 255, torch.rand(4, 3, 143, 143) * 255
    with torch.no_grad():
        together = network(z, x)
        assert (
            together.shape == (4, 5, 1 if kind in ("pixelwise", "ban") else 5, 3, 3)
            and together.dtype == torch.float32
        )
        for n in range(4):
            alone = network(z[n // 2 : n // 2 + 1], x[n : n + 1])
            assert torch.allclose(together[n], alone[0], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("widths", [(4, 4, 4, 4, 3), (4, 4, 4, 4, 6, 6, 3)])
def test_the_other_backbone_has_the_same_geometry(widths):
    network = SiamRPN(widths, HeadConfig(width=5), "efficientnet").eval()
    with torch.no_grad():
        features = network.embed(torch.rand(1, 3, 127, 127) * 255)
        found = network(torch.rand(1, 3, 127, 127) * 255, torch.rand(1, 3, 191, 191) * 255)
    assert features.shape[1:] == (network.backbone.channels, 6, 6)
    assert found.shape == (1, 5, 5, 9, 9)
    with pytest.raises(ValueError, match="alexnet, efficientnet"):
        SiamRPN(widths, backbone="vgg")


@pytest.mark.parametrize("backbone", BACKBONES)
@pytest.mark.parametrize("kind", ["upchannel", "depthwise", "pixelwise", "ban"])
def test_the_answer_is_float32_whatever_the_rest_computes_in(backbone, kind):
    widths = {"resnet18": (2,) * 6, "resnet50": (2,) * 6, "mobilenet_v3": (2,) * 10}
    widths["mobilenet_v3_slim"] = widths["mobilenet_v3"]
    build = partial(SiamRPN, widths.get(backbone, WIDTHS), HeadConfig(kind, 2), backbone)
    coarse = "mobile" in backbone
    if coarse != (kind == "ban"):
        with pytest.raises(ValueError, match=f"{kind} head does not fit the backbone {backbone}"):
            build()
        return
    network = build()
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        z, x = (network.eval().embed(torch.rand(1, 3, side, side)) for side in (127, 143))
        assert z.dtype == torch.bfloat16
        assert network.respond(network.kernels(z), x).dtype == torch.float32


def windows(features, side):
    """(C, H, W) -> every (row, column) with its square."""
    for row in range(features.shape[1] - side + 1):
        for column in range(features.shape[2] - side + 1):
            yield row, column, features[:, row : row + side, column : column + side]


def test_the_up_channel_head_is_the_published_one_up_to_a_factor():
    """Two class outputs and four deltas an anchor, each correlated on its own."""
    torch.manual_seed(1)
    f = 4
    head = SiamRPN(WIDTHS, HeadConfig(width=f)).head
    z, x = torch.randn(1, 3, 6, 6), torch.randn(1, 3, 9, 9)
    raw = {"score": torch.zeros(10, 4, 4), "box": torch.zeros(20, 4, 4)}
    with torch.no_grad():
        found = head.respond(head.kernels(z), x)[0]
        for name, out in raw.items():
            exemplar, search = getattr(head, f"exemplar_{name}"), getattr(head, f"search_{name}")
            kernels = F.conv2d(z, exemplar.weight, exemplar.bias)[0].split(f)
            features = F.conv2d(x, search.weight, search.bias)[0]
            for row, column, part in windows(features, 4):
                for k, kernel in enumerate(kernels):
                    out[k, row, column] = (part * kernel).sum() / (16 * f) ** 0.5
        deltas = torch.einsum("oi,ihw->ohw", head.adjust.weight[:, :, 0, 0], raw["box"])
        deltas += head.adjust.bias[:, None, None]
    for a in range(5):
        assert torch.allclose(found[0, a], raw["score"][5 + a] - raw["score"][a], atol=1e-5)
        for d in range(4):
            assert torch.allclose(found[1 + d, a], deltas[5 * d + a], atol=1e-5)


def test_a_shift_by_the_stride_shifts_the_answer_by_one_cell():
    torch.manual_seed(0)
    network = SiamRPN(WIDTHS, HeadConfig("depthwise", 4)).eval()
    z, wide = torch.rand(1, 3, 127, 127) * 255, torch.rand(1, 3, 159, 167) * 255
    with torch.no_grad():
        left, right = network(z, wide[..., :159]), network(z, wide[..., 8:])
    assert torch.allclose(left[..., 1:], right[..., :-1], atol=1e-3)


def test_an_impossible_head_is_refused():
    with pytest.raises(ConfigError, match="upchannel, depthwise, pixelwise, ban"):
        HeadConfig("sideways")
    with pytest.raises(ConfigError, match="width"):
        HeadConfig(width=0)
