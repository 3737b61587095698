"""The ResNet of SiamRPN++: sizes, geometry, levels; and its networks in training and tracking."""

from pathlib import Path

import pytest
import torch

from siamkd_core.alexnet import AlexNet
from siamkd_core.backend import fold_batch_norm
from siamkd_core.config import load_yaml
from siamkd_core.distill import on_one_grid
from siamkd_core.family import Answer
from siamkd_core.resnet import RESNET_WIDTHS, ResNet
from siamkd_core.siamfc import count_parameters, response_size
from siamkd_core.siamrpn import HeadConfig, SiamRPN
from siamkd_core.train import TrainConfig

THIN = (4, 3, 4, 4, 5, 3)
BLOCKS = {"resnet18": (2, 2, 2, 2), "resnet50": (3, 4, 6, 3)}


def parameters_by_hand(widths, blocks, factor):
    """Convolutions without bias and two numbers a channel of each BatchNorm; shortcuts where stride
    or channels change, of 3x3 from the second stage on, of 1x1 in the first."""
    stem, *stages, neck = widths
    count, inputs = 147 * stem + 2 * stem, stem
    for place, (width, number) in enumerate(zip(stages, blocks, strict=False)):
        outputs = factor * width
        for block in range(number):
            if factor == 4:
                count += inputs * width + 9 * width * width + width * outputs
                count += 4 * width + 2 * outputs
            else:
                count += 9 * inputs * width + 9 * width * width + 4 * width
            if block == 0 and (place == 1 or inputs != outputs):
                count += (9 if place else 1) * inputs * outputs + 2 * outputs
            inputs = outputs
        if place:
            count += outputs * neck + 2 * neck
    return count


def head_by_hand(channels, width):
    return sum(
        18 * channels * width + width * width + 6 * width + (width + 1) * outputs
        for outputs in (10, 20)
    )


@pytest.mark.parametrize("name, factor", [("resnet18", 1), ("resnet50", 4)])
@pytest.mark.parametrize("widths", [THIN, THIN[:4] + THIN[-1:]])
def test_the_number_of_parameters_by_hand(name, factor, widths):
    levels = len(widths) - 3
    expected = parameters_by_hand(widths, BLOCKS[name], factor)
    expected += levels * head_by_hand(widths[-1], 6) + 2 * levels
    network = SiamRPN(widths, HeadConfig("depthwise", 6), name)
    assert count_parameters(network) == expected
    assert network.backbone.levels == levels == len(network.head.heads)


def test_the_published_number_of_parameters(monkeypatch):
    """That of pysot's siamrpn_r50_l234_dwxcorr."""
    monkeypatch.setattr(torch.nn.Conv2d, "reset_parameters", lambda _: None)
    monkeypatch.setattr(torch.nn.init, "kaiming_normal_", lambda *_, **__: None)
    network = SiamRPN(RESNET_WIDTHS, HeadConfig("depthwise", 256), "resnet50")
    # of its 53,950,624 the necks and heads of three levels and their weights by hand
    ends = 3 * head_by_hand(256, 256) + 6 + sum(256 * 4 * w + 512 for w in (128, 256, 512))
    assert count_parameters(network) == 53_950_624
    assert (
        count_parameters(network.backbone)
        - sum(p.numel() for p in network.backbone.necks.parameters())
        == 53_950_624 - ends
    )


def test_the_committed_recipe_is_that_network():
    path = Path(__file__).parent.parent / "config" / "train" / "siamrpn_resnet50.yaml"
    config = load_yaml(TrainConfig, path)
    assert (config.backbone, config.widths) == ("resnet50", RESNET_WIDTHS)
    assert config.head == HeadConfig("depthwise", 256)


@pytest.mark.parametrize("name", BLOCKS)
@pytest.mark.parametrize("size", [127, 191, 255])
def test_features_are_on_stride_8_and_the_response_is_everybodys(name, size):
    network = SiamRPN(THIN, HeadConfig("depthwise", 4), name).eval()
    with torch.no_grad():
        features = network.embed(torch.zeros(1, 3, size, size))
        alexnet = AlexNet((2, 2, 2, 2, 2)).eval()(torch.zeros(1, 3, size, size))
        assert features.shape == (1, 9, *(side + 1 for side in alexnet.shape[-2:]))
        if size > 127:
            response = network(torch.zeros(1, 3, 127, 127), torch.zeros(1, 3, size, size))
            assert response.shape[-2:] == (response_size(size),) * 2


def test_a_shift_by_the_stride_shifts_the_inner_features_by_one_cell():
    torch.manual_seed(0)
    # the first level: its cells see little of the border
    network = ResNet((4, 3, 4, 4, 3), BLOCKS["resnet18"], False).eval()
    wide = torch.rand(1, 3, 255, 263) * 255
    with torch.no_grad():
        left, right = network(wide[..., :255])[:, :3], network(wide[..., 8:])[:, :3]
    inner = (..., slice(5, -5), slice(5, -5))
    assert torch.allclose(left[..., 1:][inner], right[..., :-1][inner], atol=1e-3)
    assert float(left.std()) > 1e-2


def test_levels_are_added_with_weights_that_learn():
    torch.manual_seed(0)
    network = SiamRPN(THIN, HeadConfig("depthwise", 4), "resnet18").eval()
    head = network.head
    with torch.no_grad():
        head.score_weight.copy_(torch.tensor([0.5, -1.0, 2.0]))
        head.box_weight.copy_(torch.tensor([1.0, 0.0, -0.5]))
        z, x = torch.randn(2, 9, 7, 7), torch.randn(2, 9, 11, 11)
        found = network.respond(network.kernels(z), x)
        assert found.shape == (2, 5, 5, 5, 5)
        expected = torch.zeros_like(found)
        weights = [torch.softmax(w, 0) for w in (head.score_weight, head.box_weight)]
        for level in range(3):
            part = slice(3 * level, 3 * level + 3)
            one = head.heads[level]
            answer = one.respond(one.kernels(z[:, part]), x[:, part])
            expected[:, 0] += weights[0][level] * answer[:, 0]
            expected[:, 1:] += weights[1][level] * answer[:, 1:]
    assert torch.allclose(found, expected, atol=1e-5)
    assert not torch.allclose(weights[0], weights[1])


@pytest.mark.parametrize("kind", ["upchannel", "depthwise"])
def test_one_exemplar_against_many_and_pair_by_pair(kind):
    torch.manual_seed(0)
    network = SiamRPN((*THIN[:4], 3), HeadConfig(kind, 4), "resnet50").eval()
    z, x = torch.rand(2, 3, 127, 127) * 255, torch.rand(4, 3, 143, 143) * 255
    with torch.no_grad():
        together = network(z, x)
        for n in range(4):
            alone = network(z[n // 2 : n // 2 + 1], x[n : n + 1])
            # near 0 a rounding of the large ones is all there is
            assert (together[n] - alone[0]).abs().max() < 1e-4 * together.abs().max()


def test_folding_changes_nothing():
    torch.manual_seed(2)
    network = SiamRPN(THIN, HeadConfig("depthwise", 4), "resnet50")
    network.train()
    images = torch.rand(2, 3, 127, 127) * 255
    for _ in range(3):
        network(images, torch.rand(2, 3, 143, 143) * 255)
    network.eval()
    with torch.no_grad():
        before = network.embed(images)
        folded = fold_batch_norm(network)
        assert not any(isinstance(m, torch.nn.BatchNorm2d) for m in folded.modules())
        assert torch.allclose(folded.embed(images), before, atol=1e-3)


def test_features_half_a_cell_apart_are_brought_together():
    torch.manual_seed(0)
    odd, even = torch.rand(1, 2, 7, 7), torch.rand(1, 3, 6, 6)
    wide, narrow = torch.rand(1, 2, 15, 15), torch.rand(1, 3, 14, 14)
    resnet, alexnet = (Answer(*pair, torch.zeros(1)) for pair in ((odd, wide), (even, narrow)))
    for ours, theirs in ((resnet, alexnet), (alexnet, resnet)):
        pair = on_one_grid(ours, theirs)
        moved, kept = pair if ours is resnet else pair[::-1]
        assert kept is alexnet and moved.search.shape[-1] == 14
        four = odd[..., 2:4, 3:5].mean((-2, -1))
        assert torch.allclose(moved.exemplar[..., 2, 3], four)
    assert on_one_grid(resnet, resnet) == (resnet, resnet)


def test_impossible_widths_and_sides_are_refused():
    with pytest.raises(ValueError, match="two to four stages"):
        SiamRPN((4, 4, 4), backbone="resnet18")
    with pytest.raises(ValueError, match="8k \\+ 7 pixels, got 250x250"):
        SiamRPN(THIN, backbone="resnet18").embed(torch.zeros(1, 3, 250, 250))
