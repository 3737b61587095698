"""What is left of a network, against loops, sampling, and cases where nothing may change."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from siamkd_core.efficientnet import LITE0_WIDTHS, SLIM, STAGES, EfficientNet
from siamkd_core.errors import ConfigError
from siamkd_core.modelfile import new_card, save_model
from siamkd_core.pair_task import fresh
from siamkd_core.prune import contributions, prune
from siamkd_core.siamfc import SiamFC, count_parameters
from siamkd_core.xcorr import cross_correlate

WIDTHS = (4, 4, 6, 6, 8, 8, 12)


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
def images():
    return torch.rand(2, 3, 127, 127, generator=torch.Generator().manual_seed(1)) * 255


def response(network, images):
    with torch.no_grad():
        features = network(images)
        return cross_correlate(features[:1, :, :4, :4], features[1:])


def test_what_is_not_slimmer_responds_as_before(full, images):
    same = EfficientNet(WIDTHS).eval()
    assert not torch.allclose(response(same, images), response(full, images), rtol=1e-2)
    prune(full, same)
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
        prune(full, half)  # its first stage expands, the full one's does not
    half = EfficientNet(WIDTHS, [STAGES[0], *(s._replace(expansion=3) for s in STAGES[1:])]).eval()
    prune(full, half)
    assert count_parameters(half) < 0.6 * count_parameters(full)
    assert torch.allclose(response(half, images), response(full, images), rtol=1e-3)


def test_a_narrow_neck_keeps_the_products_best(full):
    """Those of six channels whole; those of eight but for the two smallest eigenvalues."""
    narrow = EfficientNet((*WIDTHS[:-1], 6)).eval()
    prune(full, narrow)

    def products(neck):
        convolution, norm = neck
        scale = norm.weight / (norm.running_var + norm.eps).sqrt()
        matrix = (convolution.weight.flatten(1) * scale[:, None]).detach().double()
        return (matrix.T @ matrix).numpy()

    fine, coarse = zip(full.necks, narrow.necks, strict=True)
    assert np.allclose(products(fine[0]), products(fine[1]), atol=1e-5)
    error = np.square(products(coarse[0]) - products(coarse[1])).sum()
    lost = np.linalg.eigvalsh(products(coarse[0]))[:2]
    assert error == pytest.approx(np.square(lost).sum(), rel=1e-3)


def test_a_narrow_neck_does_the_same_while_it_learns(full):
    """Its norms expect the statistics that they are given."""
    narrow = EfficientNet((*WIDTHS[:-1], 6)).eval()
    inputs = torch.randn(4, 6, 40, 40) * 2 + 1
    convolution, norm = full.necks[0]
    with torch.no_grad():
        nn.init.orthogonal_(convolution.weight[:6])
        convolution.weight[6:].zero_()
        norm.running_mean.copy_(convolution(inputs).mean((0, 2, 3)))
        norm.running_var.fill_(4)
    prune(full, narrow)
    neck = narrow.necks[0]
    with torch.no_grad():
        expected, found = neck(inputs), neck.train()(inputs)
    assert expected.std() > 0.5
    assert torch.allclose(found, expected, atol=0.15)


def test_a_stage_with_more_blocks_is_not_slimmer(full):
    plan = [*STAGES[:4], STAGES[4]._replace(blocks=4)]
    with pytest.raises(ValueError, match="4 blocks from one of 3"):
        prune(full, EfficientNet(WIDTHS, plan))


def test_contributions_are_the_variances_of_sampled_sums(full):
    layers = full.stages[3][1].layers
    norm, project, out = layers[-4], layers[-2], layers[-1]
    found = contributions(norm, project, out).tolist()
    samples = np.random.default_rng(0).normal(size=200_000)
    for c, value in enumerate(found[:6]):
        hidden = np.clip(norm.bias[c].item() + norm.weight[c].item() * samples, 0, 6)
        expected = 0.0
        for o in range(out.num_features):
            scale = out.weight[o].item() / math.sqrt(out.running_var[o].item() + out.eps)
            expected += np.var(hidden * project.weight[o, c, 0, 0].item() * scale)
        assert value == pytest.approx(expected, rel=0.02)


def test_a_student_starts_from_what_is_left_of_a_model(tmp_path):
    torch.manual_seed(3)
    network = SiamFC(WIDTHS, "efficientnet")
    nn.init.constant_(network.adjust.gain, 3.0)
    card = new_card("big", "siamfc", WIDTHS, "efficientnet")
    path = str(save_model(network, card, tmp_path))
    widths = (*WIDTHS[:-1], 4)
    pupil = fresh("small", "siamfc", widths, 0, path, "efficientnet_slim")
    assert pupil.origin["started_from"]["part"] == "backbone, pruned"
    assert pupil.network.adjust.gain.item() == 3
    assert torch.equal(pupil.network.backbone.stem[0].weight, network.backbone.stem[0].weight)
    assert pupil.card.parameters < 0.6 * count_parameters(network)
    for wrong in ((4, 4, 6, 6, 8, 9, 4), (4, 4, 6, 6, 8, 4), (4, 4, 6, 6, 8, 8, 13)):
        with pytest.raises(ConfigError, match="is not what is left of big"):
            fresh("small", "siamfc", wrong, 0, path, "efficientnet_slim")


def test_the_slim_plan_has_the_full_ones_geometry():
    assert [(s.kernel, s.stride) for s in SLIM] == [(s.kernel, s.stride) for s in STAGES]
    for slim, full in zip(SLIM, STAGES, strict=True):
        assert slim.blocks <= full.blocks and slim.expansion <= full.expansion
    assert count_parameters(SiamFC((*LITE0_WIDTHS, 32), "efficientnet_slim")) == 174_289
