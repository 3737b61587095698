"""A slim EfficientNet from a trained full one: of the channels inside of its blocks those go that
the others replace best, and the neck keeps what the response depends on most.

Our choice of a start for a student. Each layer that is left is
fitted to what the full network has in its place, on images, as Luo et al., "ThiNet", 2017, do;
which channels go is decided one by one, each time with the weights of the others adapted, as
Hassibi and Stork, "Optimal Brain Surgeon", 1993, do with weights.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from siamkd_core.efficientnet import Block, EfficientNet, scaled

CHUNK = 8
"""Images that go through a layer at once."""
RIDGE = 1e-4
"""Pull towards the weights that were there, in mean variances of a layer's inputs."""


class Moments(NamedTuple):
    """Of C inputs x and O targets y of a layer; float64.

    Attributes:
        inputs: (C,) mean of x.
        targets: (O,) mean of y.
        covariance: (C, C) of x.
        cross: (O, C) covariance of y and x.
    """

    inputs: Tensor
    targets: Tensor
    covariance: Tensor
    cross: Tensor


@torch.no_grad()
def prune(full: EfficientNet, slim: EfficientNet, images: Tensor) -> list[Tensor]:
    """Give ``slim`` the weights of ``full`` that are left of it.

    Block by block: of the channels inside as many stay as ``slim`` has (:func:`eliminate`), and
    their projection is fitted to what the full block gives, on what the slim blocks before give; in
    the last block of a stage, to what the full stage gives. A neck is fitted to the projection of
    the full one's outputs on the leading eigenvectors of their second moments, which keep the
    products of a cross-correlation best (Eckart and Young). Both networks are in evaluation mode
    meanwhile.

    Args:
        full, slim: networks.
        images: (N, 3, H, W) float, BGR 0..255, sides 8k + 7: of the kind that the network is for.

    Returns:
        For each neck a (C, C') float32 matrix: its times the slim neck's features (of C' channels)
        are about the full one's.

    Raises:
        ValueError: they differ in more than the number and inside of the blocks and the necks.
    """
    modes, bases = (full.training, slim.training), []
    full.eval()
    slim.eval()
    try:
        slim.stem.load_state_dict(full.stem.state_dict())
        theirs = [full.stem(scaled(chunk)) for chunk in images.split(CHUNK)]
        ours = list(theirs)
        necks = zip(full.necks, slim.necks, strict=True)
        stages = zip(full.stages, slim.stages, strict=True)
        for number, (whole, left) in enumerate(stages, 1):
            theirs, ours = _prune_stage(_blocks(whole), _blocks(left), theirs, ours)
            if number in full.ends:
                neck, narrow = next(necks)
                pair = cast(nn.Sequential, neck), cast(nn.Sequential, narrow)
                bases.append(prune_neck(*pair, theirs, ours))
    except (RuntimeError, ValueError, IndexError) as error:
        raise ValueError(f"no slimmer form of the network to start from: {error}") from error
    finally:
        full.train(modes[0])
        slim.train(modes[1])
    return bases


def eliminate(
    moments: Moments, weights: Tensor, count: int, keep_first: int = 0
) -> tuple[Tensor, Tensor]:
    """The inputs of a linear layer that go, and the weights of those that stay.

    The weights start where the mean of ``|y - Wx|^2``, and a small pull towards ``weights``, is
    least. One by one the input c goes whose loss raises it least, by

        sum_o W_oc^2 / [H^-1]_cc,        W <- W - W_c [H^-1]_c / [H^-1]_cc,

    with H the inputs' covariance, and the others make up for it.

    Args:
        moments: of inputs and targets.
        weights: (O, C) that were there.
        count: how many stay.
        keep_first: how many of the first stay whatever they are worth, at most ``count``.

    Returns:
        (count,) numbers of those that stay, increasing; (O, count) their weights, float64.
    """
    weights = weights.double()
    ridge = RIDGE * moments.covariance.diagonal().mean().clamp(min=1e-12)
    inverse = torch.linalg.inv(
        moments.covariance + ridge * torch.eye(weights.shape[1], device=weights.device)
    )
    weights = weights + (moments.cross - weights @ moments.covariance) @ inverse
    left = torch.ones(weights.shape[1], dtype=torch.bool, device=weights.device)
    choice = torch.arange(weights.shape[1], device=weights.device) >= keep_first
    for _ in range(weights.shape[1] - count):
        diagonal = inverse.diagonal()
        cost = torch.where(
            left & choice, weights.square().sum(0) / diagonal.clamp(min=1e-300), torch.inf
        )
        c = int(cost.argmin())
        row = inverse[c] / diagonal[c]
        weights = weights - weights[:, c, None] * row
        inverse = inverse - inverse[:, c, None] * row
        left[c] = False
    return left.nonzero().squeeze(1), weights[:, left]


def _blocks(stage: nn.Module) -> list[Block]:
    return [cast(Block, block) for block in cast(nn.Sequential, stage)]


def _prune_stage(
    whole: Sequence[Block], left: Sequence[Block], theirs: list[Tensor], ours: list[Tensor]
) -> tuple[list[Tensor], list[Tensor]]:
    """What full and slim stage make of these features."""
    if len(left) > len(whole):
        raise ValueError(f"a stage of {len(left)} blocks from one of {len(whole)}")
    for number, slim in enumerate(left, 1):
        full, *dropped = whole[number - 1 :] if number == len(left) else [whole[number - 1]]
        theirs = [full(features) for features in theirs]
        for block in dropped:
            theirs = [block(features) for features in theirs]
        _prune_block(full, slim, theirs, ours)
        ours = [slim(features) for features in ours]
    return theirs, ours


def _prune_block(full: Block, slim: Block, targets: list[Tensor], inputs: list[Tensor]) -> None:
    if len(full.layers) != len(slim.layers):
        raise ValueError("one of two blocks expands nothing")
    # the last two are the projection and its norm
    hidden = (full.layers[:-2](features) for features in inputs)
    if slim.residual:
        targets = [y - x for y, x in zip(targets, inputs, strict=True)]
    moments = moments_of(hidden, targets)
    *theirs, convolution, norm = full.layers
    *ours, narrow, last = slim.layers
    count = cast(nn.Conv2d, narrow).in_channels
    kept, weights = eliminate(moments, through_norm(convolution, norm), count)
    for layer, pruned in zip(theirs, ours, strict=True):
        take_rows(layer, pruned, kept)
    project(norm, (narrow, last), moments, kept, weights)


def through_norm(convolution: nn.Module, norm: nn.Module) -> Tensor:
    """(O, C) weights of a convolution of 1x1 and the norm behind it as one."""
    assert isinstance(convolution, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d)
    assert norm.running_var is not None
    scale = norm.weight / (norm.running_var + norm.eps).sqrt()
    return convolution.weight.flatten(1) * scale[:, None]


def project(
    out: nn.Module,
    slim: Iterable[nn.Module],
    moments: Moments,
    kept: Tensor,
    weights: Tensor,
    staying: Tensor | None = None,
) -> None:
    """Give a convolution of 1x1 and the norm behind it what is fitted.

    Args:
        out: norm of the full network, of which the slim one has variances and bias.
        slim: convolution and norm.
        moments: of inputs and targets.
        kept: (K,) numbers of the inputs that are left.
        weights: (O, K) of them.
        staying: numbers of the outputs that are left; None: all.
    """
    convolution, norm = slim
    assert isinstance(convolution, nn.Conv2d) and isinstance(out, nn.BatchNorm2d)
    assert out.running_var is not None
    left = slice(None) if staying is None else staying
    deviation = (out.running_var + out.eps).sqrt()
    true = out.weight / deviation
    # a norm that gives next to nothing must not be divided by
    greatest = true.abs().max()
    greatest = torch.where(greatest > 0, greatest, 1.0)
    scale = torch.where(true.abs() > 1e-3 * greatest, true, greatest)
    convolution.weight.copy_((weights / scale[:, None])[left, :, None, None])
    state = out.state_dict()
    constant = moments.targets - weights @ moments.inputs[kept]
    state["running_mean"] = (out.bias - constant) / scale
    state["weight"] = scale * deviation
    norm.load_state_dict({name: one[left] if one.ndim else one for name, one in state.items()})


def take_rows(full: nn.Module, slim: nn.Module, kept: Tensor) -> None:
    """Give a layer what another has for these of its output channels; scalars are copied."""
    state = full.state_dict()
    slim.load_state_dict({name: one[kept] if one.ndim else one for name, one in state.items()})


def prune_neck(
    full: nn.Sequential, slim: nn.Sequential, theirs: list[Tensor], ours: list[Tensor]
) -> Tensor:
    """Give the neck ``slim`` of the features ``ours`` what ``full`` makes of ``theirs``, on fewer
    channels.

    Both are a convolution of 1x1 and a norm; the features are (N, C, H, W) each.

    Returns:
        (C, C') float32, see :func:`prune`.

    Raises:
        ValueError: ``slim`` has more channels.
    """
    (convolution, norm), (narrow, bare) = full, slim
    assert isinstance(convolution, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d)
    assert isinstance(narrow, nn.Conv2d) and isinstance(bare, nn.BatchNorm2d)
    assert norm.running_var is not None
    assert bare.running_mean is not None and bare.running_var is not None
    if narrow.out_channels > convolution.out_channels:
        raise ValueError(f"a neck of {narrow.out_channels} from {convolution.out_channels}")
    outputs = [full(features) for features in theirs]
    flat = torch.cat([rows(one) for one in outputs])
    leading = torch.linalg.eigh(flat.T @ flat).eigenvectors[:, -narrow.out_channels :].T.float()
    targets = [torch.einsum("kc,nchw->nkhw", leading, one) for one in outputs]
    moments = moments_of(ours, targets)
    scale = norm.weight / (norm.running_var + norm.eps).sqrt()
    before = leading @ (convolution.weight.flatten(1) * scale[:, None])
    _, weights = eliminate(moments, before, before.shape[1])
    narrow.weight.copy_(weights[..., None, None])
    # about the statistics that the norm is given, so that it does nearly the same while it learns:
    # the network cuts off the border, and interpolates between cells of stride 16
    bare.running_mean.copy_(weights @ moments.inputs)
    bare.running_var.copy_((weights @ moments.covariance * weights).sum(1))
    bare.weight.copy_((bare.running_var + bare.eps).sqrt())
    bare.bias.copy_(moments.targets)
    basis: Tensor = leading.T
    return basis


def moments_of(inputs: Iterator[Tensor] | list[Tensor], targets: list[Tensor]) -> Moments:
    """Of (N, C, H, W) and (N, O, H, W), over all cells of all parts."""
    count, sums, products = 0, torch.zeros(()), torch.zeros(())
    channels = 0
    for x, y in zip(inputs, targets, strict=True):
        channels = x.shape[1]
        cells = torch.cat((rows(x), rows(y)), 1)
        count += len(cells)
        sums = sums + cells.sum(0)
        products = products + cells.T @ cells
    mean = sums / count
    covariance = products / count - mean[:, None] * mean
    return Moments(
        mean[:channels], mean[channels:], covariance[:channels, :channels],
        covariance[channels:, :channels],
    )  # fmt: skip


def rows(features: Tensor) -> Tensor:
    """(N, C, H, W) -> (N H W, C) float64."""
    return features.movedim(1, -1).flatten(0, 2).double()
