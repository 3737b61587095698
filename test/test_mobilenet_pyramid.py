"""A SiamFC's MobileNetV3: where its cells lie, and how its necks start."""

import numpy as np
import pytest
import torch
from torch import nn

from siamkd_core.alexnet import AlexNet
from siamkd_core.errors import ConfigError
from siamkd_core.mobilenet import MOBILENET_WIDTHS, SLIM_BLOCKS, MobileNetV3
from siamkd_core.mobilenet_pyramid import MobileNetPyramid, without_neck
from siamkd_core.modelfile import check_backbone_takes, new_card, save_model
from siamkd_core.pupil import Sample, fresh
from siamkd_core.siamfc import SiamFC, count_parameters
from siamkd_core.siamrpn import HeadConfig, SiamRPN
from siamkd_core.start_necks import start_necks

TRUNK = (8, 8, 8, 8, 12, 12, 12, 12, 12, 16)
WIDTHS = (*TRUNK, 6)
BAN = HeadConfig("ban", 6)


def crops(seed, count=6, side=127):
    """Blurred noise."""
    made = torch.Generator().manual_seed(seed)
    return nn.functional.interpolate(
        torch.rand(count, 3, side // 8, side // 8, generator=made) * 255, (side, side)
    )


def settled(network):
    """With statistics of images, as after a training."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None
    network.train()
    backbone = getattr(network, "backbone", network)
    for seed in range(2):
        backbone(crops(seed))
    return network.eval()


@pytest.fixture
def pyramid():
    torch.manual_seed(0)
    return settled(MobileNetPyramid(WIDTHS))


@pytest.mark.parametrize("size", [127, 143, 207, 215, 223, 239, 255])
def test_the_geometry_is_alexnets(size):
    image, network = torch.zeros(1, 3, size, size), MobileNetPyramid(WIDTHS).eval()
    with torch.no_grad():
        ours, alexnet = network(image), AlexNet((2, 2, 2, 2, 2)).eval()(image)
    assert ours.shape[-2:] == alexnet.shape[-2:]
    assert ours.shape[1] == network.channels == 2 * 6


@torch.no_grad()
def test_its_levels_are_those_of_a_mobilenet(pyramid):
    plain = MobileNetV3(TRUNK).eval()
    weights = pyramid.state_dict()
    plain.load_state_dict({name: weights[name] for name in plain.state_dict()})
    for part in pyramid.necks:
        part[1].running_mean.zero_()
        part[1].running_var.fill_(1 - part[1].eps)
        nn.init.dirac_(part[0].weight)
    image = crops(3, 1)
    got, deep = pyramid(image), plain(image)
    flat = plain.blocks[:3](plain.stem(image))
    assert flat.shape == (1, 8, 16, 16) and deep.shape == (1, 16, 8, 8)
    assert torch.allclose(got[:, :6], flat[:, :6, 5:-5, 5:-5], atol=1e-5)
    # an even fine cell sees the coarse one it lies on, an odd one the mean of its neighbours
    assert torch.allclose(got[:, 6:, 1::2, 1::2], deep[:, :6, 3:6, 3:6], atol=1e-5)
    between = (deep[:, :6, 2:5, 3:6] + deep[:, :6, 3:6, 3:6]) / 2
    assert torch.allclose(got[:, 6:, 0::2, 1::2], between, atol=1e-5)


def test_the_number_of_parameters_by_hand():
    trunk = count_parameters(MobileNetV3(MOBILENET_WIDTHS, SLIM_BLOCKS))
    network = SiamFC((*MOBILENET_WIDTHS, 64), "mobilenet_v3_slim")
    # two necks of 24 and 96 channels with their norms, gain and bias
    assert count_parameters(network) == trunk + 64 * (24 + 96) + 2 * 2 * 64 + 2 == 134_058
    inside = (17,) * 8
    assert without_neck((*MOBILENET_WIDTHS, 64, *inside)) == (*MOBILENET_WIDTHS, *inside)
    wider = SiamFC((*MOBILENET_WIDTHS, 64, *inside), "mobilenet_v3_slim")
    assert wider.backbone.blocks[4].layers[0][0].out_channels == 17


@pytest.mark.parametrize("widths", [TRUNK, (*TRUNK, 0), (*TRUNK[:-1], 0, 4), (*WIDTHS, 8)])
def test_impossible_widths_are_refused(widths):
    with pytest.raises(ValueError, match=r"of its neck, and none or 8 inside of its blocks, got"):
        MobileNetPyramid(widths)


def test_other_sides_are_refused():
    with pytest.raises(ValueError, match="a SiamFC's MobileNetV3 needs sides of 8k"):
        MobileNetPyramid(WIDTHS)(torch.zeros(1, 3, 250, 250))
    card = new_card("it", "siamfc", WIDTHS, "mobilenet_v3")
    check_backbone_takes(card, 239)
    with pytest.raises(ConfigError, match="search_size to 255, not 250"):
        check_backbone_takes(card, 250)
    # a siamrpn's cells are its own
    check_backbone_takes(new_card("it", "siamrpn", TRUNK, "mobilenet_v3", BAN), 250)


@torch.no_grad()
def test_necks_start_with_the_directions_that_vary_most(pyramid):
    images = crops(5, 20)
    start_necks(pyramid.train(), images)
    assert pyramid.training
    pyramid.eval()
    for level, ends in enumerate(pyramid.ends(images)):
        x = ends.movedim(1, -1).flatten(0, 2).double().numpy()
        x = x - x.mean(0)
        y = pyramid.necks[level](ends).movedim(1, -1).flatten(0, 2).double().numpy()
        values, vectors = np.linalg.eigh(x.T @ x / len(x))
        leading = vectors[:, ::-1][:, :6]
        assert np.allclose(y.mean(0), 0, atol=1e-3)
        assert np.isclose(y.var(0).mean(), 1, rtol=1e-3)
        # the same up to the sign of each
        expected = x @ leading * (6 / values[::-1][:6].sum()) ** 0.5
        assert np.allclose(np.abs(y), np.abs(expected), atol=1e-2 * expected.std())
        # their products are those of all channels, as nearly as six can give them
        products = expected @ expected.T
        assert np.allclose(y @ y.T, products, atol=1e-2 * products.std())


def test_all_outputs_of_a_neck_wider_than_its_level_learn(pyramid):
    wide = MobileNetPyramid((*TRUNK, 10))
    trained = pyramid.state_dict()
    wide.load_state_dict({n: t for n, t in trained.items() if "necks" not in n}, strict=False)
    start_necks(wide.eval(), crops(5))
    features = wide(crops(6))
    spread = features.std((0, 2, 3))
    # of eight channels, so that two outputs repeat what there is, and say little at first
    assert (spread > 0).all() and spread[8:10].max() < 0.3 * spread[:8].max()
    features.square().mean().backward()
    for part in wide.necks:
        assert (part[0].weight.grad.flatten(1).norm(dim=1) > 0).all()


def test_features_that_never_change_have_no_directions(tmp_path):
    dead = SiamRPN(TRUNK, BAN, "mobilenet_v3")
    for block in dead.backbone.blocks:
        nn.init.zeros_(block.layers[-1][1].weight)
        nn.init.constant_(block.layers[-1][1].bias, 3.0)
    path = str(save_model(dead, new_card("dead", "siamrpn", TRUNK, "mobilenet_v3", BAN), tmp_path))
    with pytest.raises(ConfigError, match="does not fit a siamfc: the features of a level"):
        fresh("fc", "siamfc", WIDTHS, 0, path, "mobilenet_v3", fitted_on=sample)


@torch.no_grad()
def test_what_is_left_of_wider_necks_keeps_their_products(pyramid):
    wide = settled(MobileNetPyramid((*TRUNK, 16)))
    weights = wide.state_dict()
    for name in ("necks.0", "necks.1"):
        # six directions are all there is
        full = weights[f"{name}.0.weight"]
        full.copy_((full[:6].flatten(1).T @ torch.randn(6, 16)).T[..., None, None])
        weights[f"{name}.1.running_mean"].zero_()
        weights[f"{name}.1.bias"].zero_()
    same = MobileNetPyramid(WIDTHS)
    same.load_state_dict({n: t for n, t in weights.items() if "necks" not in n}, strict=False)
    start_necks(same.eval(), crops(5, 20), wide)
    ours, theirs = (one(crops(6)).flatten(2) for one in (same, wide))
    products = theirs.transpose(1, 2) @ theirs
    assert torch.allclose(ours.transpose(1, 2) @ ours, products, atol=1e-2 * float(products.std()))


@pytest.fixture
def nano(tmp_path):
    torch.manual_seed(0)
    network = settled(SiamRPN(TRUNK, BAN, "mobilenet_v3"))
    card = new_card("nano", "siamrpn", TRUNK, "mobilenet_v3", BAN)
    return network, str(save_model(network, card, tmp_path))


def weights(network):
    """And statistics; a file has no count of batches."""
    return {n: t for n, t in network.state_dict().items() if t.is_floating_point()}


def sample():
    return Sample(crops(7), crops(8, side=159))


@torch.no_grad()
def test_a_siamfc_starts_from_the_backbone_of_a_siamrpn(nano):
    network, path = nano
    pupil = fresh("fc", "siamfc", WIDTHS, 0, path, "mobilenet_v3", fitted_on=sample)
    assert pupil.origin["started_from"]["part"] == "backbone"
    trained = weights(network.backbone)
    ours = weights(pupil.network.backbone)
    assert all(torch.equal(ours[name], tensor) for name, tensor in trained.items())
    # its necks are fitted, and to search regions
    again = MobileNetPyramid(WIDTHS)
    again.load_state_dict(trained, strict=False)
    start_necks(again, sample().search)
    assert all(torch.equal(ours[name], tensor) for name, tensor in weights(again).items())


@torch.no_grad()
def test_and_a_slim_one_from_what_is_left_of_it(nano, tmp_path):
    network, path = nano
    # as many channels inside as the full one has: nothing may be lost
    inside = [block.layers[-1][0].in_channels for block in network.backbone.blocks[1:]]
    widths = (*WIDTHS, *inside)
    pupil = fresh("fc", "siamfc", widths, 0, path, "mobilenet_v3_slim", fitted_on=sample)
    assert pupil.origin["started_from"]["part"] == "backbone, pruned"
    slim = pupil.network.backbone.eval()
    got, expected = slim.blocks(slim.stem(crops(9))), network.backbone(crops(9))
    assert torch.allclose(got, expected, atol=1e-2 * float(expected.std()))
    assert torch.allclose(slim(crops(8, side=159)).mean((0, 2, 3)), torch.zeros(12), atol=0.1)
    # and of a siamfc with its necks, gain and bias
    siamfc = settled(SiamFC((*TRUNK, 8), "mobilenet_v3"))
    siamfc.adjust.gain.fill_(3.0)
    card = new_card("fc", "siamfc", (*TRUNK, 8), "mobilenet_v3")
    of = str(save_model(siamfc, card, tmp_path))
    pupil = fresh("slim", "siamfc", WIDTHS, 0, of, "mobilenet_v3_slim", fitted_on=sample)
    assert pupil.origin["started_from"]["part"] == "pruned"
    assert pupil.network.adjust.gain.item() == 3
    with pytest.raises(ConfigError, match="a neck of 9 from 8"):
        fresh("slim", "siamfc", (*TRUNK, 9), 0, of, "mobilenet_v3_slim", fitted_on=sample)
    # a siamrpn takes the backbone without the necks
    pupil = fresh("nano", "siamrpn", TRUNK, 0, of, "mobilenet_v3", head=BAN)
    theirs = weights(siamfc.backbone)
    for name, tensor in weights(pupil.network.backbone).items():
        assert torch.equal(tensor, theirs[name]), name


def test_a_start_that_does_not_fit_is_named(nano):
    _, path = nano
    with pytest.raises(ConfigError, match="they must be the same to start from it"):
        fresh("fc", "siamfc", (*TRUNK[:-1], 12, 6), 0, path, "mobilenet_v3", fitted_on=sample)
    with pytest.raises(ConfigError, match="fitted on images"):
        fresh("fc", "siamfc", WIDTHS, 0, path, "mobilenet_v3")


@torch.no_grad()
def test_a_slim_one_starts_from_a_wider_slim_one(tmp_path):
    inside = (12, 12, 16, 16, 16, 16, 16, 24)
    wide = settled(SiamFC((*TRUNK, 8, *inside), "mobilenet_v3_slim"))
    wide.adjust.gain.fill_(3.0)
    card = new_card("wide", "siamfc", (*TRUNK, 8, *inside), "mobilenet_v3_slim")
    path = str(save_model(wide, card, tmp_path))

    def started(neck, *widths):
        made = fresh(
            "left", "siamfc", (*TRUNK, neck, *widths), 0, path, card.backbone, fitted_on=sample
        )
        assert made.network.adjust.gain.item() == 3
        assert made.origin["started_from"]["part"] == "pruned"
        return made.network.backbone.eval()

    images = crops(8, side=159)
    # a narrower neck alone: the blocks lose nothing, and the neck keeps the most of its products
    narrow = started(6, *inside)
    ends = zip(narrow.ends(images), wide.backbone.ends(images), strict=True)
    for ours, theirs in ends:
        assert torch.allclose(ours, theirs, atol=1e-2 * float(theirs.std()))
    # fewer channels inside: most of what the last block says is left
    fewer = started(8, *(width - 1 for width in inside))
    ours, theirs = fewer.ends(images)[-1], wide.backbone.ends(images)[-1]
    spread = theirs - theirs.mean((0, 2, 3), keepdim=True)
    assert (ours - theirs).square().mean() < 0.3 * spread.square().mean()
    with pytest.raises(ConfigError, match="is not what is left of wide"):
        started(8, *(width + 2 for width in inside))
