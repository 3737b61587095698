"""Necks for a MobileNetV3 that has none, or what is left of others."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from siamkd_core.mobilenet_pyramid import MobileNetPyramid
from siamkd_core.prune import CHUNK, moments_of, prune_neck

SURPLUS = 0.1
"""Of their random weights that outputs keep for which a level has no direction left."""
LEAST = 1e-9
"""Share of the power of a level's features that must vary; less is rounding."""


@torch.no_grad()
def start_necks(
    network: MobileNetPyramid, images: Tensor, full: MobileNetPyramid | None = None
) -> None:
    """Give the necks of a network with a trained backbone weights that fit it.

    What is left of those of ``full`` (:func:`siamkd_core.prune.prune_neck`); or, without one, the
    directions in which a level's features x vary most, the leading eigenvectors V of their
    covariance, which keep the products of a cross-correlation best (Eckart and Young):

        neck(x) = s V (x - mean x),    s^2 = 1 / (mean variance of the C outputs),

    so that all levels have the same say. Where a level has fewer channels than the neck is wide,
    the outputs behind them keep their random weights, at a tenth: a product of two zeros, exemplar
    and search region, would have no gradient. The networks are in evaluation mode meanwhile.

    Args:
        network: its necks change.
        images: (N, 3, H, W) float, BGR 0..255, sides 8k + 7: of the kind that the network is for.
        full: a network with necks at least as wide.

    Raises:
        ValueError: ``full`` has narrower necks, or no feature of a level varies.
    """
    others = [] if full is None else [full]
    modes = [(one, one.training) for one in (network, *others)]
    for one, _ in modes:
        one.eval()
    try:
        ours, *theirs = (_ends(one, images) for one, _ in modes)
        for number, (part, features) in enumerate(zip(network.necks, ours, strict=True)):
            if full is None:
                _lead(cast(nn.Sequential, part), features)
            else:
                wide = cast(nn.Sequential, full.necks[number])
                prune_neck(wide, cast(nn.Sequential, part), theirs[0][number], features)
    finally:
        for one, training in modes:
            one.train(training)


def _ends(network: MobileNetPyramid, images: Tensor) -> list[list[Tensor]]:
    """For each level what the parts of the images give."""
    parts = [network.ends(chunk) for chunk in images.split(CHUNK)]
    return [list(level) for level in zip(*parts, strict=True)]


def _lead(part: nn.Sequential, features: list[Tensor]) -> None:
    convolution, norm = part
    assert isinstance(convolution, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d)
    assert norm.running_mean is not None and norm.running_var is not None
    moments = moments_of(features, features)
    values, vectors = torch.linalg.eigh(moments.covariance)
    count = min(norm.num_features, len(values))
    power = moments.covariance.trace() + moments.inputs.square().sum()
    if not moments.covariance.trace() > LEAST * power:
        raise ValueError("the features of a level are the same for all images")
    # the largest first; a sign that does not depend on the solver
    leading = vectors.flip(1).T[:count]
    signs = leading.gather(1, leading.abs().argmax(1, keepdim=True)).sign()
    variances = values.flip(0)[:count].clamp(min=0)
    scale = (norm.num_features / variances.sum()).sqrt()
    weights = SURPLUS * convolution.weight.flatten(1).double()
    weights[:count] = signs * leading
    convolution.weight.copy_(weights[..., None, None])
    norm.running_mean.copy_(weights @ moments.inputs)
    norm.running_var.copy_((weights @ moments.covariance * weights).sum(1))
    norm.weight.copy_(scale * (norm.running_var + norm.eps).sqrt())
    norm.bias.zero_()
