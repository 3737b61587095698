"""A slim EfficientNet from a trained full one: the channels inside of its blocks that matter least
go, and the neck keeps what the response depends on most.

Our choice of a start for a student whose teacher is an EfficientNet. Keeping the channels that
contribute most is the idea of Li et al., "Pruning Filters for Efficient ConvNets", 2017; here the
contribution is a variance, so that what is constant of a channel can move into a bias.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

import torch
from torch import Tensor, nn

from siamkd_core.efficientnet import Block, EfficientNet


@torch.no_grad()
def prune(full: EfficientNet, slim: EfficientNet) -> None:
    """Give ``slim`` the weights of ``full`` that are left of it.

    Of a block, the channels inside are kept whose contribution to its output has the greatest
    variance (:func:`contributions`), the mean of the others' is taken off the running mean of the
    norm behind them. The neck is projected on its leading left singular vectors, which keep the
    products of its weights best (Eckart and Young).

    Raises:
        ValueError: they differ in more than the number and inside of the blocks and the necks.
    """
    try:
        slim.stem.load_state_dict(full.stem.state_dict())
        for block, left in _blocks(full, slim):
            _prune_block(block, left)
        for neck, narrow in zip(full.necks, slim.necks, strict=True):
            _project(cast(nn.Sequential, neck), cast(nn.Sequential, narrow))
    except (RuntimeError, ValueError, IndexError) as error:
        raise ValueError(f"no slimmer form of the network to start from: {error}") from error


def contributions(norm: nn.BatchNorm2d, project: nn.Conv2d, out: nn.BatchNorm2d) -> Tensor:
    """Variance that each channel inside of a block gives the sum over the block's outputs, as if
    channels did not depend on each other: ``Var(h_c) sum_o (gamma_o W_oc)^2 / (var_o + eps)``.

    ``h_c`` is a normal variable of the norm's mean and deviation, clipped by the ReLU6: as far as
    the norm's running statistics fit its weights. Those of a network that learnt with frozen
    statistics are older than its weights, and the choice is that much coarser.

    Returns:
        (C,) float64.
    """
    weights = project.weight.flatten(1) * _scale(out)[:, None]
    return _moments(norm)[1] * weights.square().sum(0)


def _blocks(full: EfficientNet, slim: EfficientNet) -> Iterator[tuple[Block, Block]]:
    """Those of the slim one, each with its counterpart; the full one may have more in a stage."""
    for theirs, ours in zip(full.stages, slim.stages, strict=True):
        whole, left = cast(nn.Sequential, theirs), cast(nn.Sequential, ours)
        if len(left) > len(whole):
            raise ValueError(f"a stage of {len(left)} blocks from one of {len(whole)}")
        pairs = zip(whole, left, strict=False)
        yield from cast(Iterator[tuple[Block, Block]], pairs)


def _prune_block(full: Block, slim: Block) -> None:
    theirs, ours = full.layers, slim.layers
    if len(theirs) != len(ours):
        raise ValueError("one of two blocks expands nothing")
    # from the end: of the filter, its norm, the projection, its norm
    norm, project, out = theirs[-4], theirs[-2], theirs[-1]
    assert isinstance(norm, nn.BatchNorm2d) and isinstance(project, nn.Conv2d)
    assert isinstance(out, nn.BatchNorm2d) and out.running_mean is not None
    worth = contributions(norm, project, out)
    order = worth.argsort(descending=True)
    kept, gone = order.tensor_split([cast(nn.BatchNorm2d, ours[-4]).num_features])
    kept = kept.sort().values
    state = theirs.state_dict()
    for name, tensor in state.items():
        last = name.startswith(f"{len(theirs) - 1}.")
        if name.startswith(f"{len(theirs) - 2}."):
            state[name] = tensor[:, kept]
        elif tensor.ndim and not last:
            state[name] = tensor[kept]
    constant = project.weight[:, gone].flatten(1) @ _moments(norm)[0][gone].float()
    state[f"{len(theirs) - 1}.running_mean"] = out.running_mean - constant
    ours.load_state_dict(state)


def _project(full: nn.Sequential, slim: nn.Sequential) -> None:
    """Both are a convolution of 1x1 and a norm."""
    (theirs, norm), (ours, bare) = full, slim
    assert isinstance(theirs, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d)
    assert isinstance(ours, nn.Conv2d) and isinstance(bare, nn.BatchNorm2d)
    assert norm.running_mean is not None and norm.running_var is not None
    assert bare.running_mean is not None and bare.running_var is not None
    scale = _scale(norm)
    matrix = theirs.weight.flatten(1) * scale[:, None]
    leading = torch.linalg.svd(matrix).U[:, : ours.out_channels].T
    ours.weight.copy_((leading @ matrix)[..., None, None])
    # what the norm is given has these statistics (the variance, as if channels did not depend on
    # each other), so that it does the same while it learns
    bare.running_mean.copy_(leading @ (scale * norm.running_mean))
    bare.running_var.copy_(leading.square() @ (scale.square() * norm.running_var))
    bare.weight.copy_((bare.running_var + bare.eps).sqrt())
    bare.bias.copy_(leading @ norm.bias)


def _scale(norm: nn.BatchNorm2d) -> Tensor:
    assert norm.running_var is not None
    scale: Tensor = norm.weight / (norm.running_var + norm.eps).sqrt()
    return scale


def _moments(norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """Mean and variance, (C,) float64 each, of what a norm gives a ReLU6: of a clipped normal
    variable, in closed form."""
    mean, deviation = norm.bias.double(), norm.weight.double().abs().clamp(min=1e-9)
    low, high = -mean / deviation, (6 - mean) / deviation
    at_low, at_high = (torch.exp(-(x**2) / 2) / (2 * torch.pi) ** 0.5 for x in (low, high))
    above = 1 - torch.special.ndtr(high)
    within = torch.special.ndtr(high) - torch.special.ndtr(low)
    edge = deviation * (at_low - at_high)
    first = mean * within + edge + 6 * above
    second = (mean**2 + deviation**2) * within + mean * edge + 36 * above
    second += deviation**2 * (low * at_low - high * at_high) + mean * edge
    return first, (second - first**2).clamp(min=0)
