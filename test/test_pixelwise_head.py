"""The pixel-wise head against loops, and what it begins with."""

import pytest
import torch

from siamkd_core.pixelwise_head import AROUND, PixelwiseHead
from siamkd_core.siamfc import RESPONSE_GAIN, SiamFC, count_parameters
from siamkd_core.siamrpn import HeadConfig, SiamRPN
from siamkd_core.xcorr import cross_correlate

WIDTHS = (4, 4, 4, 4, 6, 6, 3)


def features(count=2, channels=6, side=9):
    torch.manual_seed(3)
    return torch.randn(1, channels, 6, 6), torch.randn(count, channels, side, side)


def test_the_number_of_parameters_by_hand():
    inputs, f, maps = 6, 5, 72
    branches = 2 * (9 * inputs * f + 2 * f)
    gather = 100 * maps + 2 * maps
    mix = (maps + f) * f + 2 * f + 2 * (9 * f + 2 * f + f * f + 2 * f)
    answer = 5 * f + 5
    assert count_parameters(PixelwiseHead(inputs, f, 2)) == 2 + branches + gather + mix + answer


def test_the_maps_are_the_products_of_each_cell_looked_for_around_its_place():
    """With the weights that a head begins with but for their noise."""
    head = PixelwiseHead(6, 4, levels=2).eval()
    with torch.no_grad():
        convolution = head.gather[0]
        convolution.weight.copy_((convolution.weight > 0.5).float())
    seen = []
    head.mix.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    z, x = features()
    with torch.no_grad():
        head.respond(z, x)
    (mixed,) = seen
    assert mixed.shape == (2, 72 + 4, 4, 4)
    for n, level, row, column in ((0, 0, 0, 0), (1, 0, 5, 2), (1, 1, 3, 4)):
        part = slice(3 * level, 3 * level + 3)
        for i, j in ((0, 0), (3, 1)):
            there = x[n, part, i + row, j + column]
            expected = float((z[0, part, row, column] * there).sum()) * 3**-0.5
            found = mixed[n, 36 * level + 6 * row + column, i, j]
            # of a fresh BatchNorm's variance, 1, and its eps; ReLU
            assert found == pytest.approx(max(expected, 0), rel=1e-4, abs=1e-6)


def test_a_cell_looks_as_far_as_around_it():
    head = PixelwiseHead(6, 4).eval()
    z, x = features(1)
    with torch.no_grad():
        head.gather[0].weight.fill_(1.0)
    seen = []
    head.mix.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    with torch.no_grad():
        head.respond(z, x)
        products = torch.einsum("c,cij->ij", z[0, :, 2, 3], x[0]) * 6**-0.5
    # the window of the response's cell 1, 2, and as many more on each side
    top, left = max(1 - AROUND, 0), max(2 - AROUND, 0)
    around = products[top : 1 + 6 + AROUND, left : 2 + 6 + AROUND]
    assert seen[0][0, 6 * 2 + 3, 1, 2] == pytest.approx(max(float(around.sum()), 0), rel=1e-4)


def test_it_begins_as_the_siamfc_and_the_box_as_given():
    head = PixelwiseHead(6, 4, levels=2).eval()
    z, x = features()
    with torch.no_grad():
        head.answer.weight.zero_()
        found = head.respond(head.kernels(z), x)
        siamfc = SiamFC(WIDTHS, "efficientnet").adjust(RESPONSE_GAIN * cross_correlate(z, x))
    assert found.shape == (2, 5, 1, 4, 4) and found.dtype == torch.float32
    assert torch.allclose(found[:, 0], siamfc)
    assert not found[:, 1:].any()


@pytest.mark.parametrize(
    "backbone, widths, levels",
    [
        ("alexnet", (4, 5, 6, 6, 3), 1),
        ("efficientnet", (4, 4, 4, 4, 3), 1),
        ("efficientnet", WIDTHS, 2),
        ("efficientnet_slim", WIDTHS, 2),
    ],
)
def test_each_level_of_a_backbone_has_its_maps(backbone, widths, levels):
    network = SiamRPN(widths, HeadConfig("pixelwise", 4), backbone)
    assert network.head.levels == levels
    assert network.head.gather[0].out_channels == 36 * levels
