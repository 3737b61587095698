"""A slim MobileNetV3 from a trained full one, as :mod:`siamkd_core.prune` does with an
EfficientNet."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from siamkd_core.mobilenet import Block, Excitation, MobileNetV3
from siamkd_core.prune import (
    CHUNK,
    Moments,
    eliminate,
    moments_of,
    project,
    take_rows,
    through_norm,
)


@torch.no_grad()
def prune_mobilenet(full: MobileNetV3, slim: MobileNetV3, images: Sequence[Tensor]) -> None:
    """Give ``slim`` the weights of ``full`` that are left of it.

    Block by block: of the channels inside as many stay as ``slim`` has
    (:func:`siamkd_core.prune.eliminate`); of the excitation those of its inner units that the
    others replace worst; and the projection is fitted to what the full block gives, on what the
    slim blocks before give. Both networks are in evaluation mode meanwhile.

    Args:
        full, slim: networks.
        images: (N, 3, H, W) float each, BGR 0..255, of the kinds that the network is for.

    Raises:
        ValueError: they differ in more than the inside of the blocks, or the slim one is not
            slimmer; its weights are partly those of the full one then.
    """
    modes = full.training, slim.training
    full.eval()
    slim.eval()
    try:
        slim.stem.load_state_dict(full.stem.state_dict())
        theirs = [full.stem(chunk) for part in images for chunk in part.split(CHUNK)]
        ours = list(theirs)
        for whole, left in zip(full.blocks, slim.blocks, strict=True):
            theirs = [whole(features) for features in theirs]
            _prune_block(cast(Block, whole), cast(Block, left), theirs, ours)
            ours = [left(features) for features in ours]
    except (RuntimeError, ValueError, IndexError) as error:
        raise ValueError(f"no slimmer form of the network to start from: {error}") from error
    finally:
        full.train(modes[0])
        slim.train(modes[1])


def _prune_block(full: Block, slim: Block, targets: list[Tensor], inputs: list[Tensor]) -> None:
    if slim.residual:
        targets = [y - x for y, x in zip(targets, inputs, strict=True)]
    *theirs, last = full.layers
    *ours, end = slim.layers
    convolution, norm = cast(nn.Sequential, last)
    hidden = nn.Sequential(*theirs)
    count = cast(nn.Conv2d, cast(nn.Sequential, end)[0]).in_channels
    moments = moments_of((hidden(features) for features in inputs), targets)
    kept, weights = eliminate(moments, through_norm(convolution, norm), count)
    for number, (layer, pruned) in enumerate(zip(theirs, ours, strict=True)):
        if isinstance(layer, Excitation):
            before = nn.Sequential(*theirs[:number])
            means = torch.cat([before(features).mean((2, 3)) for features in inputs])
            _prune_excitation(layer, cast(Excitation, pruned), kept, means)
        else:
            take_rows(layer, pruned, kept)
    # what the slim excitation makes of the channels is not quite what the full one does
    hidden = nn.Sequential(*ours)
    moments = moments_of((hidden(features) for features in inputs), targets)
    everything, weights = eliminate(moments, weights, count)
    project(norm, cast(nn.Sequential, end), moments, everything, weights)


def _prune_excitation(full: Excitation, slim: Excitation, kept: Tensor, means: Tensor) -> None:
    """From (N, C) means of the channels."""
    first, _, second, _ = full.layers
    narrow, _, out, _ = slim.layers
    assert isinstance(first, nn.Linear) and isinstance(second, nn.Linear)
    assert isinstance(narrow, nn.Linear) and isinstance(out, nn.Linear)
    inner = first(means).relu()
    moments = _moments(inner, second(inner)[:, kept])
    units, weights = eliminate(moments, second.weight[kept], narrow.out_features)
    out.weight.copy_(weights)
    out.bias.copy_(moments.targets - weights @ moments.inputs[units])
    moments = _moments(means[:, kept], first(means)[:, units])
    _, weights = eliminate(moments, first.weight[units][:, kept], len(kept))
    narrow.weight.copy_(weights)
    narrow.bias.copy_(moments.targets - weights @ moments.inputs)


def _moments(inputs: Tensor, targets: Tensor) -> Moments:
    """Of (N, C) and (N, O)."""
    return moments_of([inputs[..., None, None]], [targets[..., None, None]])
