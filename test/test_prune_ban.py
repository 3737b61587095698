"""What is left of a MobileNetV3 and of a head without anchors, where nothing may be lost."""

import pytest
import torch
from torch import nn

from siamkd_core.ban_head import BanHead
from siamkd_core.errors import ConfigError
from siamkd_core.mobilenet import BLOCKS, MOBILENET_WIDTHS, SLIM_BLOCKS, Excitation, MobileNetV3
from siamkd_core.modelfile import new_card, save_model
from siamkd_core.prune_ban import prune_ban_head
from siamkd_core.prune_mobilenet import prune_mobilenet
from siamkd_core.pupil import Sample, fresh
from siamkd_core.siamfc import count_parameters
from siamkd_core.siamrpn import HeadConfig, SiamRPN

WIDTHS = (16,) * 10
WIDE = [BLOCKS[0], *(block._replace(expansion=4) for block in BLOCKS[1:])]
HALF = [BLOCKS[0], *(block._replace(expansion=2) for block in BLOCKS[1:])]
"""Channels inside of the blocks, and units inside of their excitations."""


def crops(seed, count=12, side=127):
    """Blurred noise of different brightness and contrast."""
    made = torch.Generator().manual_seed(seed)
    coarse = torch.rand(count, 3, side // 8, side // 8, generator=made)
    gain, level = (torch.rand(count, 3, 1, 1, generator=made) for _ in range(2))
    return nn.functional.interpolate(coarse * gain * 155 + level * 100, (side, side))


def lively(network):
    """Norms of every kind, with the statistics of images."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias)
    return network


def settled(network, *inputs):
    network.train()
    for _ in range(2):
        network(*inputs)
    return network.eval()


@pytest.fixture
def full():
    torch.manual_seed(0)
    return settled(lively(MobileNetV3(WIDTHS, WIDE)), crops(1))


def double(*layers):
    """Each other channel a copy of the one before it."""
    for layer in layers:
        for tensor in layer.state_dict().values():
            if tensor.ndim:
                tensor[1::2] = tensor[::2]


def double_inside(block):
    *inner, _ = block.layers
    for layer in inner:
        if isinstance(layer, Excitation):
            double(layer.layers[0], layer.layers[2])
        else:
            double(layer)


@torch.no_grad()
def test_a_backbone_that_is_not_slimmer_gives_the_same(full):
    same = MobileNetV3(WIDTHS, WIDE)
    prune_mobilenet(full, same, [crops(1)])
    assert same.training and not full.training
    unseen, expected = crops(2), full(crops(2))
    assert torch.allclose(same.eval()(unseen), expected, atol=1e-3 * expected.std())


@torch.no_grad()
def test_channels_and_units_that_are_copies_go_and_the_others_do_their_part(full):
    for block in full.blocks[1:]:
        double_inside(block)
    half = MobileNetV3(WIDTHS, HALF).eval()
    assert count_parameters(half) < 0.6 * count_parameters(full)
    prune_mobilenet(full, half, [crops(1), crops(3, side=159)])
    unseen, expected = crops(2), full(crops(2))
    assert expected.std() > 0.1
    assert (half(unseen) - expected).std() < 0.02 * expected.std()
    # the excitation of one channel depends on all: without it they do not
    for block in half.blocks:
        for layer in block.layers:
            if isinstance(layer, Excitation):
                layer.layers[2].bias += 0.5
    assert (half(unseen) - expected).std() > 0.1 * expected.std()


@torch.no_grad()
def test_widths_inside_of_the_blocks_take_the_place_of_the_plans(full):
    inside = (64,) * 8
    same = MobileNetV3((*WIDTHS, *inside), HALF)
    assert count_parameters(same) == count_parameters(full)
    prune_mobilenet(full, same, [crops(1)])
    unseen, expected = crops(2), full(crops(2))
    assert torch.allclose(same.eval()(unseen), expected, atol=1e-3 * expected.std())
    slimmer = MobileNetV3((*WIDTHS, 8, *inside[1:]), HALF)
    assert slimmer.blocks[1].layers[0][0].out_channels == 8  # type: ignore[index,union-attr]
    prune_mobilenet(full, slimmer, [crops(1)])
    for wrong in (inside[1:], (*inside, 8)):
        with pytest.raises(ValueError, match="none or 8 inside of them"):
            MobileNetV3((*WIDTHS, *wrong), HALF)


def test_what_is_no_slimmer_form_is_named(full):
    for other in (
        MobileNetV3(WIDTHS, [BLOCKS[0], *(b._replace(expansion=5) for b in BLOCKS[1:])]),
        MobileNetV3((*WIDTHS[:-1], 12), HALF),
        MobileNetV3(WIDTHS, [HALF[0], HALF[1]._replace(expansion=1), *HALF[2:]]),
    ):
        with pytest.raises(ValueError, match="no slimmer form"):
            prune_mobilenet(full, other, [crops(1)])


def head(width, inputs=12):
    torch.manual_seed(4)
    return lively(BanHead(inputs, width))


def features(seed, count=6):
    made = torch.Generator().manual_seed(seed)
    return (
        torch.randn(count, 12, 8, 8, generator=made),
        torch.randn(count, 12, 15, 15, generator=made),
    )


def answers(network, seed):
    z, x = features(seed)
    return torch.cat([network.score(z, x), network.box(z, x)], 1)


@torch.no_grad()
def test_a_head_that_is_not_narrower_answers_the_same():
    full, same = head(8), BanHead(12, 8)
    settled(full.score, *features(1))
    settled(full.box, *features(1))
    prune_ban_head(full.eval(), same, *features(1))
    assert same.training and not full.training
    expected, found = answers(full, 2), answers(same.eval(), 2)
    assert expected.std((0, 2, 3)).min() > 0.01
    assert torch.allclose(found, expected, atol=1e-3)


@torch.no_grad()
def test_what_is_left_of_a_wider_head_answers_as_it_does():
    """Its channels are copies of each other, with other weights in what comes of them, and the
    cells that are multiplied lie in a space of half as many dimensions."""
    full, narrow = head(8), BanHead(12, 4).eval()
    for branch in (full.score, full.box):
        for layer in (branch.channels.exemplar, branch.channels.search, branch.merge):
            double(layer)
        for pointwise in (branch.pixels.exemplar, branch.pixels.search):
            space = torch.linalg.qr(torch.randn(8, 4)).Q
            pointwise[0].weight.copy_(
                torch.einsum("od,dc->oc", space, torch.randn(4, 12))[..., None, None]
            )
            pointwise[0].bias.zero_()
            pointwise[1].reset_parameters()
        for layer in branch.tower:
            double(layer)
        settled(branch, *features(1))
        for pointwise in (branch.pixels.exemplar, branch.pixels.search):
            # whatever its scale, it stays in that space
            pointwise[1].running_mean.zero_()
            pointwise[1].running_var.fill_(1.5)
        for layer in branch.tower:
            double(layer)
    prune_ban_head(full.eval(), narrow, *features(1, 40))
    assert count_parameters(narrow) < count_parameters(full)
    expected, found = answers(full, 2), answers(narrow, 2)
    assert expected.std((0, 2, 3)).min() > 0.01
    assert ((found - expected).std((0, 2, 3)) < 0.02 * expected.std((0, 2, 3))).all()
    # the norms expect the statistics that they are given: it does the same while it learns
    learning = narrow.train().score.pixels.search(features(1, 40)[1])
    used = narrow.eval().score.pixels.search(features(1, 40)[1])
    assert torch.allclose(learning, used, atol=1e-3)


@torch.no_grad()
def test_the_products_of_cells_are_those_of_the_best_directions():
    """The error of all products is that of the singular values that are left out (Eckart, Young),
    of the full layer's cells."""
    full, narrow = head(8), BanHead(12, 3)
    settled(full.score, *features(1))
    z, x = features(1, 4)
    prune_ban_head(full.eval(), narrow.eval(), z, x)

    def cells(branch):
        return [
            part(given).movedim(1, 0).flatten(1).double()
            for part, given in ((branch.pixels.exemplar, z), (branch.pixels.search, x))
        ]

    a, b = cells(full.score)
    products = a.T @ b
    c, d = cells(narrow.score)
    lost = (products - c.T @ d).square().sum()
    values = torch.linalg.svdvals(products)
    assert lost == pytest.approx(float(values[3:].square().sum()), rel=1e-3)


def test_a_head_that_is_not_narrower_or_on_other_channels_is_named():
    for other in (BanHead(12, 9), BanHead(11, 4)):
        with pytest.raises(ValueError, match=r"a head of \d on \d+ channels from one of 8 on 12"):
            prune_ban_head(head(8), other, *features(1))


def test_a_student_starts_from_what_is_left_of_a_model(tmp_path):
    torch.manual_seed(3)
    widths, kind = (4, 4, 4, 4, 4, 4, 4, 4, 4, 6), HeadConfig("ban", 4)
    network = SiamRPN(widths, kind, "mobilenet_v3")
    pairs = Sample(crops(1, 4), crops(2, 4, 143))
    settled(network, *pairs)
    card = new_card("nano", "siamrpn", widths, "mobilenet_v3", kind)
    path = str(save_model(network, card, tmp_path))

    def begin(widths, head):
        slim = "mobilenet_v3_slim"
        return fresh("s", "siamrpn", widths, 0, path, slim, head=head, fitted_on=lambda: pairs)

    pupil = begin(widths, kind)
    assert pupil.origin["started_from"]["part"] == "pruned"
    assert pupil.card.parameters < count_parameters(network)
    for name, value in network.head.state_dict().items():
        assert not value.ndim or torch.equal(pupil.network.head.state_dict()[name], value)
    with torch.no_grad():
        expected, found = (one.eval().embed(crops(5)) for one in (network, pupil.network))
        z, x = (network.embed(part) for part in pairs)
    assert (found - expected).square().mean() < 0.5 * expected.var()
    narrow, alone = begin(widths, HeadConfig("ban", 3)).network.head, BanHead(6, 3)
    prune_ban_head(network.head, alone, z, x)
    for name, value in alone.state_dict().items():
        assert not value.ndim or torch.allclose(narrow.state_dict()[name], value, atol=1e-4)
    for wrong in (((4, 4, 4, 4, 4, 4, 4, 4, 4, 5), kind), (widths, HeadConfig("ban", 5))):
        with pytest.raises(ConfigError, match="is not what is left of nano"):
            begin(*wrong)


def test_cells_that_say_nothing_are_divided_by_nothing():
    full, narrow = head(8), BanHead(12, 4)
    with torch.no_grad():
        full.score.pixels.exemplar[1].weight.zero_()
        full.score.pixels.exemplar[1].bias.zero_()
    prune_ban_head(full.eval(), narrow.eval(), *features(1))
    with torch.no_grad():
        assert torch.isfinite(answers(narrow, 2)).all()


def test_the_slim_plan_has_the_full_ones_geometry():
    for slim, full in zip(SLIM_BLOCKS, BLOCKS, strict=True):
        assert slim.expansion <= full.expansion
        assert slim._replace(expansion=full.expansion) == full
    sizes = [
        count_parameters(SiamRPN(MOBILENET_WIDTHS, HeadConfig("ban", width), "mobilenet_v3_slim"))
        for width in (64, 96)
    ]
    assert sizes == [278_765, 385_101]
