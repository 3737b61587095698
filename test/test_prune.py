"""What is left of a network, against least squares, and cases where nothing may change."""

import numpy as np
import pytest
import torch
from torch import nn

from siamkd_core.efficientnet import LITE0_WIDTHS, SLIM, STAGES, EfficientNet, scaled
from siamkd_core.errors import ConfigError
from siamkd_core.modelfile import new_card, save_model
from siamkd_core.pixelwise_head import PixelwiseHead
from siamkd_core.prune import Moments, eliminate, prune
from siamkd_core.prune_head import narrow_pixelwise_head, prune_head
from siamkd_core.pupil import Sample, fresh
from siamkd_core.siamfc import SiamFC, count_parameters
from siamkd_core.siamrpn import DepthwiseHead, HeadConfig, SiamRPN
from siamkd_core.xcorr import cross_correlate

WIDTHS = (4, 4, 6, 6, 8, 8, 12)
SLIM_NAME = "efficientnet_slim"


@pytest.fixture
def full():
    torch.manual_seed(0)
    network = EfficientNet(WIDTHS)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias)
            nn.init.normal_(module.running_mean, std=0.1)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
    return network.eval()


@pytest.fixture
def pairs(images):
    return lambda: Sample(images, images)


@pytest.fixture
def images():
    return torch.rand(2, 3, 127, 127, generator=torch.Generator().manual_seed(1)) * 255


def response(network, images):
    with torch.no_grad():
        features = network(images)
        return cross_correlate(features[:1, :, :4, :4], features[1:])


def test_what_is_not_slimmer_responds_as_before(full, images):
    same = EfficientNet(WIDTHS).eval()
    assert not torch.allclose(response(same, images), response(full, images), rtol=1e-2)
    prune(full, same, images)
    assert torch.allclose(response(same, images), response(full, images), rtol=1e-3)


def test_channels_that_never_change_go_and_nothing_is_lost(full, images):
    """Half of the channels inside of each block are constant, at 0, in 0..6 and at 6."""
    for stage in full.stages[1:]:
        for block in stage:
            norm = block.layers[-4]
            order = torch.randperm(norm.num_features)
            with torch.no_grad():
                norm.weight[order[::2]] = 0
                norm.bias[order[::2]] = torch.linspace(-3, 9, len(order[::2]))
    half = EfficientNet(WIDTHS, [stage._replace(expansion=3) for stage in STAGES]).eval()
    with pytest.raises(ValueError, match="no slimmer form"):
        prune(full, half, images)  # its first stage expands, the full one's does not
    prune(full, half := halved().train(), images)
    assert half.training and not full.training
    assert count_parameters(half) < 0.6 * count_parameters(full)
    assert torch.allclose(response(half.eval(), images), response(full, images), rtol=1e-3)


def test_a_norm_that_gives_nothing_is_not_divided_by(full, images):
    """One channel of a block, and all of another's."""
    with torch.no_grad():
        full.stages[3][1].layers[-1].weight[2] = 0
        full.stages[4][1].layers[-1].weight.zero_()
    same = EfficientNet(WIDTHS).eval()
    prune(full, same, images)
    assert torch.allclose(response(same, images), response(full, images), rtol=1e-3)
    prune(full, half := halved().eval(), images)
    assert torch.isfinite(response(half, images)).all()


def test_channels_that_are_copies_go_and_the_others_do_their_part(full, images):
    """Each channel inside of a block has a copy, of another weight in what the block gives."""
    for stage in full.stages[1:]:
        for block in stage:
            for layer in block.layers[:-2]:
                for tensor in layer.state_dict().values():
                    if tensor.ndim:
                        tensor[1::2] = tensor[::2]
    prune(full, half := halved().eval(), images)
    unseen = torch.rand(2, 3, 127, 127, generator=torch.Generator().manual_seed(2)) * 255
    assert torch.allclose(response(half, unseen), response(full, unseen), rtol=1e-2)


def halved():
    return EfficientNet(WIDTHS, [STAGES[0], *(s._replace(expansion=3) for s in STAGES[1:])])


def samples(inputs=6, outputs=3, count=400):
    """Inputs that depend on each other, and what a layer with noise makes of them."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(count, inputs)) @ rng.normal(size=(inputs, inputs)) + 2
    weights = rng.normal(size=(outputs, inputs))
    y = x @ weights.T + rng.normal(size=(count, outputs)) + 1
    every = np.cov(np.concatenate((x, y), 1).T, bias=True)
    moments = Moments(
        *map(
            torch.from_numpy,
            (x.mean(0), y.mean(0), every[:inputs, :inputs], every[inputs:, :inputs]),
        )
    )
    return x, y, weights, moments


@pytest.mark.parametrize("count", [6, 5, 3, 1])
def test_each_time_the_input_goes_that_the_others_replace_best(count):
    """Against least squares without each of those that are left."""
    x, y, weights, moments = samples()

    def fit(columns):
        design = np.concatenate((x[:, columns], np.ones((len(x), 1))), 1)
        solution = np.linalg.lstsq(design, y, rcond=None)[0]
        return np.square(y - design @ solution).sum(), solution[:-1].T

    left = list(range(6))
    while len(left) > count:
        losses = [fit([c for c in left if c != gone])[0] for gone in left]
        del left[int(np.argmin(losses))]
    kept, found = eliminate(moments, torch.from_numpy(weights), count)
    assert kept.tolist() == left
    assert np.allclose(found, fit(left)[1], atol=2e-2)


def test_inputs_that_are_copies_are_told_apart_by_nothing():
    """A singular covariance: one of two copies goes, the other takes over its weight."""
    x = np.random.default_rng(1).normal(size=(50, 2))
    x = np.concatenate((x, x[:, :1]), 1)
    weights = np.array([[1.0, -2.0, 3.0]])
    moments = Moments(
        *map(torch.from_numpy, (x.mean(0), weights @ x.mean(0))),
        *map(torch.from_numpy, (np.cov(x.T, bias=True), weights @ np.cov(x.T, bias=True))),
    )
    kept, found = eliminate(moments, torch.from_numpy(weights), 2)
    assert 1 in kept.tolist()
    assert sorted(found.flatten().tolist()) == pytest.approx([-2, 4], rel=1e-3)


def test_a_narrow_neck_keeps_the_products_best(full, images):
    """The largest eigenvalues of the second moments of what the full one gives."""
    narrow = EfficientNet((*WIDTHS[:-1], 6)).eval()
    prune(full, narrow, images)
    given = []
    full.stages[-1].register_forward_hook(lambda module, inputs, features: given.append(features))
    with torch.no_grad():
        full(images)
        whole, left = (
            network.necks[1](given[0]).movedim(1, 0).flatten(1).double().numpy()
            for network in (full, narrow)
        )
    largest = np.linalg.eigvalsh(whole @ whole.T)[-6:]
    assert np.allclose(np.linalg.eigvalsh(left @ left.T), largest, rtol=1e-3)


def test_a_narrow_neck_does_the_same_while_it_learns(full, images):
    """Its norms expect the statistics that they are given."""
    narrow = EfficientNet((*WIDTHS[:-1], 6)).eval()
    prune(full, narrow, images)
    with torch.no_grad():
        features = narrow.stem(scaled(images))
        for stage in narrow.stages[:3]:
            features = stage(features)
        expected, found = narrow.necks[0](features), narrow.necks[0].train()(features)
    assert expected.std() > 0.05
    assert torch.allclose(found, expected, atol=0.02 * expected.std())


def test_a_stage_with_more_blocks_or_a_wider_neck_is_not_slimmer(full, images):
    plan = [*STAGES[:4], STAGES[4]._replace(blocks=4)]
    with pytest.raises(ValueError, match="4 blocks from one of 3"):
        prune(full, EfficientNet(WIDTHS, plan), images)
    with pytest.raises(ValueError, match="a neck of 13 from 12"):
        prune(full, EfficientNet((*WIDTHS[:-1], 13)), images)


def test_a_student_starts_from_what_is_left_of_a_model(tmp_path, pairs):
    torch.manual_seed(3)
    network = SiamFC(WIDTHS, "efficientnet")
    nn.init.constant_(network.adjust.gain, 3.0)
    card = new_card("big", "siamfc", WIDTHS, "efficientnet")
    path = str(save_model(network, card, tmp_path))
    widths = (*WIDTHS[:-1], 4)
    pupil = fresh("small", "siamfc", widths, 0, path, SLIM_NAME, fitted_on=pairs)
    assert pupil.origin["started_from"]["part"] == "pruned"
    assert pupil.network.adjust.gain.item() == 3
    assert torch.equal(pupil.network.backbone.stem[0].weight, network.backbone.stem[0].weight)
    assert pupil.card.parameters < 0.6 * count_parameters(network)
    for wrong in ((4, 4, 6, 6, 8, 9, 4), (4, 4, 6, 6, 8, 4), (4, 4, 6, 6, 8, 8, 13)):
        with pytest.raises(ConfigError, match="is not what is left of big"):
            fresh("small", "siamfc", wrong, 0, path, SLIM_NAME, fitted_on=pairs)
    with pytest.raises(ConfigError, match="fitted on images"):
        fresh("small", "siamfc", widths, 0, path, SLIM_NAME)
    # what is left of what is left
    again = str(save_model(pupil.network, pupil.card, tmp_path))
    smaller = fresh("smaller", "siamfc", (*widths[:-1], 3), 0, again, SLIM_NAME, fitted_on=pairs)
    assert smaller.origin["started_from"]["part"] == "pruned"
    assert smaller.network.adjust.gain.item() == 3


def test_what_is_left_of_a_wider_head_answers_as_it_does(full):
    """Every channel of the wide head has a copy of another weight; the neck's features lie in a
    space of as many dimensions as the narrow one has."""
    torch.manual_seed(4)
    wide, narrow = DepthwiseHead(24, 8).eval(), DepthwiseHead(16, 4).eval()
    for branch in (wide.score, wide.box):
        for layer in (branch.exemplar, branch.search, branch.mix[:2]):
            for tensor in layer.state_dict().values():
                if tensor.ndim:
                    tensor[1::2] = tensor[::2]
    bases = [torch.linalg.qr(torch.randn(12, 8)).Q for _ in range(2)]

    def full_features(part):
        return torch.einsum("ck,nkhw->nchw", torch.block_diag(*bases), part)

    exemplar, search = torch.randn(4, 16, 6, 6), torch.randn(4, 16, 22, 22)
    prune_head(wide, narrow, bases, full_features(exemplar), full_features(search))
    exemplar, search = torch.randn(2, 16, 6, 6), torch.randn(2, 16, 22, 22)
    with torch.no_grad():
        expected = wide.respond(wide.kernels(full_features(exemplar)), full_features(search))
        found = narrow.respond(narrow.kernels(exemplar), search)
    assert expected.std() > 0.02
    assert torch.allclose(found, expected, atol=0.05 * expected.std().item())
    with pytest.raises(ValueError, match="a head of 9 from one of 8"):
        prune_head(wide, DepthwiseHead(16, 9), bases, exemplar, search)


def test_a_pixelwise_head_for_fewer_channels_answers_as_the_full_one():
    torch.manual_seed(5)
    wide, narrow = PixelwiseHead(24, 8, 2).eval(), PixelwiseHead(16, 8, 2).eval()
    for module in wide.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.running_var, 0.5, 2)
            torch.nn.init.normal_(module.running_mean)
    torch.nn.init.normal_(wide.answer.weight)  # it begins small
    torch.nn.init.constant_(wide.adjust.gain, 3.0)
    torch.nn.init.constant_(wide.adjust.bias, -1.0)
    bases = [torch.linalg.qr(torch.randn(12, 8)).Q for _ in range(2)]
    narrow_pixelwise_head(wide, narrow, bases)
    exemplar, search = torch.randn(2, 16, 6, 6), torch.randn(2, 16, 22, 22)
    with torch.no_grad():
        found = narrow.respond(narrow.kernels(exemplar), search)
        fuller = (
            torch.einsum("ck,nkhw->nchw", torch.block_diag(*bases), part)
            for part in (exemplar, search)
        )
        expected = wide.respond(*fuller)
    assert expected.std((0, 2, 3, 4)).min() > 0.01
    assert torch.allclose(found, expected, atol=1e-4)
    with pytest.raises(ValueError, match="head of 4 from one of 8; it keeps its width"):
        narrow_pixelwise_head(wide, PixelwiseHead(16, 4, 2), bases)


def test_a_siamrpn_starts_from_what_is_left_of_one_or_of_a_siamfc(tmp_path, pairs):
    torch.manual_seed(3)
    head, narrow, widths = (
        HeadConfig("depthwise", 6),
        HeadConfig("depthwise", 4),
        (*WIDTHS[:-1], 4),
    )
    rpn, fc = SiamRPN(WIDTHS, head, "efficientnet"), SiamFC(WIDTHS, "efficientnet")
    cards = (
        new_card("rpn", "siamrpn", WIDTHS, "efficientnet", head),
        new_card("fc", "siamfc", WIDTHS, "efficientnet"),
    )
    paths = [
        str(save_model(net, card, tmp_path)) for net, card in zip((rpn, fc), cards, strict=True)
    ]
    for path, part in zip(paths, ("pruned", "backbone, pruned"), strict=True):
        pupil = fresh("s", "siamrpn", widths, 0, path, SLIM_NAME, head=narrow, fitted_on=pairs)
        assert pupil.origin["started_from"]["part"] == part
        assert pupil.network.head_config == narrow
    crops = Sample(torch.rand(4, 3, 127, 127) * 255, torch.rand(4, 3, 143, 143) * 255)
    made = [
        fresh("s", "siamrpn", WIDTHS, 0, path, SLIM_NAME, head=head, fitted_on=lambda: crops)
        for path in paths
    ]
    with torch.no_grad():
        expected, pruned, other = (
            network.eval()(*crops)[:, 0].flatten() for network in (rpn, *(m.network for m in made))
        )
    assert torch.corrcoef(torch.stack((expected, pruned)))[0, 1] > 0.9
    assert torch.corrcoef(torch.stack((expected, other)))[0, 1] < 0.5  # a head of its own
    other = HeadConfig("pixelwise", 6)
    shaped = SiamRPN(WIDTHS, other, "efficientnet")
    card = new_card("shaped", "siamrpn", WIDTHS, "efficientnet", other)
    path = str(save_model(shaped, card, tmp_path))
    pupil = fresh("s", "siamrpn", WIDTHS, 0, path, SLIM_NAME, head=other, fitted_on=lambda: crops)
    assert pupil.origin["started_from"]["part"] == "pruned"
    # of the fresh head's boxes none is like the full one's
    alone = fresh(
        "s", "siamrpn", WIDTHS, 0, paths[1], SLIM_NAME, head=other, fitted_on=lambda: crops
    )
    with torch.no_grad():
        boxes = [
            network.eval()(*crops)[:, 1:, 0].movedim(1, 0).flatten(1)
            for network in (shaped, pupil.network, alone.network)
        ]
    for expected, pruned, fresh_one in zip(*boxes, strict=True):
        assert torch.corrcoef(torch.stack((expected, pruned)))[0, 1] > 0.8
        assert torch.corrcoef(torch.stack((expected, fresh_one)))[0, 1].abs() < 0.6
    with pytest.raises(
        ConfigError, match="a pixel-wise head of 4 from one of 6; it keeps its width"
    ):
        less = HeadConfig("pixelwise", 4)
        fresh("s", "siamrpn", WIDTHS, 0, path, SLIM_NAME, head=less, fitted_on=lambda: crops)
    wider = HeadConfig("depthwise", 7)
    with pytest.raises(ConfigError, match="head of 7 is not what is left of rpn, a siamrpn of"):
        fresh("s", "siamrpn", widths, 0, paths[0], SLIM_NAME, head=wider, fitted_on=pairs)


def test_the_slim_plan_has_the_full_ones_geometry():
    assert [(s.kernel, s.stride) for s in SLIM] == [(s.kernel, s.stride) for s in STAGES]
    for slim, full in zip(SLIM, STAGES, strict=True):
        assert slim.blocks <= full.blocks and slim.expansion <= full.expansion
    assert count_parameters(SiamFC((*LITE0_WIDTHS, 32), "efficientnet_slim")) == 174_289
