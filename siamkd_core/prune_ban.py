"""A narrower head without anchors from a trained one, see :mod:`siamkd_core.prune`."""

from __future__ import annotations

from functools import partial
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from siamkd_core.ban_head import BanHead, Branch, PixelMaps
from siamkd_core.prune import eliminate, moments_of, project, rows, take_rows, through_norm


@torch.no_grad()
def prune_ban_head(full: BanHead, slim: BanHead, exemplars: Tensor, search: Tensor) -> None:
    """Give ``slim`` the weights of ``full`` that are left of it.

    The products of cells are those of the fewest directions that keep them best; of the channels
    that are correlated one by one, and of those between two layers behind, those stay that the
    others replace worst (:func:`siamkd_core.prune.eliminate`), and each layer is fitted to what the
    full one gives in its place.

    Args:
        full, slim: heads on as many channels.
        exemplars, search: (N, C, 8, 8) and (N, C, H, H) float, features of N pairs.

    Raises:
        ValueError: the slim head is wider, or on other channels; it is as it was.
    """
    if full.inputs != slim.inputs or full.width < slim.width:
        raise ValueError(
            f"a head of {slim.width} on {slim.inputs} channels from one of {full.width} on "
            f"{full.inputs}"
        )
    if full.width == slim.width:
        slim.load_state_dict(full.state_dict())
        return
    modes = full.training, slim.training
    full.eval()
    slim.eval()
    try:
        for theirs, ours in ((full.score, slim.score), (full.box, slim.box)):
            _prune_branch(theirs, ours, exemplars, search, slim.width)
    finally:
        full.train(modes[0])
        slim.train(modes[1])


def _prune_branch(
    full: Branch, slim: Branch, exemplars: Tensor, search: Tensor, width: int
) -> None:
    _narrow_products(full.pixels, slim.pixels, exemplars, search)
    single = full.channels(exemplars, search)
    target = full.merge(torch.cat([full.pixels(exemplars, search), single], 1))
    maps = torch.cat([slim.pixels(exemplars, search), single], 1)
    cells = maps.shape[1] - single.shape[1]
    moments = moments_of([maps], [target])
    kept, weights = eliminate(moments, full.merge.weight.flatten(1), cells + width, cells)
    for theirs, ours in (
        (full.channels.exemplar, slim.channels.exemplar),
        (full.channels.search, slim.channels.search),
    ):
        for layer, narrow in zip(theirs, ours, strict=True):
            take_rows(layer, narrow, kept[cells:] - cells)
    bias = moments.targets - weights @ moments.inputs[kept]
    made = _through(maps[:, kept], weights, bias)

    def leave(staying: Tensor, weights: Tensor = weights, bias: Tensor = bias) -> None:
        slim.merge.weight.copy_(weights[staying][..., None, None])
        cast(Tensor, slim.merge.bias).copy_(bias[staying])

    # which of a layer's outputs stay is known when the next one has been fitted
    for whole, left in zip(full.tower, slim.tower, strict=True):
        *filters, convolution, norm = cast(nn.Sequential, whole)
        *slimmer, mixing, last = cast(nn.Sequential, left)
        target, hidden = whole(target), nn.Sequential(*filters)(made)
        moments = moments_of([hidden], [target])
        kept, weights = eliminate(moments, through_norm(convolution, norm), width)
        leave(kept)
        for layer, pruned in zip(filters, slimmer, strict=True):
            take_rows(layer, pruned, kept)
        made = _through(hidden[:, kept], weights, moments.targets - weights @ moments.inputs[kept])
        leave = partial(project, norm, (mixing, last), moments, kept, weights)
    moments = moments_of([made], [full.answer(target)])
    kept, weights = eliminate(moments, full.answer.weight.flatten(1), width)
    leave(kept)
    slim.answer.weight.copy_(weights[..., None, None])
    constant = moments.targets - weights @ moments.inputs[kept]
    cast(Tensor, slim.answer.bias).copy_(constant)


def _through(features: Tensor, weights: Tensor, bias: Tensor) -> Tensor:
    """(N, K, H, W) -> (N, O, H, W) float32, by a convolution of 1x1."""
    return F.conv2d(features, weights.float()[..., None, None], bias.float())


def _narrow_products(full: PixelMaps, slim: PixelMaps, exemplars: Tensor, search: Tensor) -> None:
    """``z^T x`` of two cells as ``(U^T z)^T (V^T x)`` of fewer numbers, with the least error over
    these: ``U = A^-1/2 P s^1/2`` and ``V = B^-1/2 Q s^1/2`` of the largest singular values s of
    ``A^1/2 B^1/2 = P s Q^T``, with A and B the second moments of z and x (Eckart and Young)."""
    z, x = full.exemplar(exemplars), full.search(search)
    (a, back_a), (b, back_b) = (_roots(part) for part in (z, x))
    left, values, right = torch.linalg.svd(a @ b)
    count = cast(nn.Conv2d, slim.exemplar[0]).out_channels
    root = values[:count].sqrt()
    for theirs, ours, features, basis in (
        (full.exemplar, slim.exemplar, z, back_a @ left[:, :count] * root),
        (full.search, slim.search, x, back_b @ right[:count].T * root),
    ):
        convolution, norm = theirs
        narrow, bare = cast(nn.Conv2d, ours[0]), cast(nn.BatchNorm2d, ours[1])
        cells = rows(features) @ basis
        narrow.weight.copy_((basis.T @ through_norm(convolution, norm).double())[..., None, None])
        cast(Tensor, narrow.bias).zero_()
        # its own statistics, so that it does the same while it learns
        mean, variance = cells.mean(0), cells.var(0, unbiased=False)
        constant = basis.T @ _constant(cast(nn.Conv2d, convolution), cast(nn.BatchNorm2d, norm))
        cast(Tensor, bare.running_mean).copy_(mean - constant)
        cast(Tensor, bare.running_var).copy_(variance)
        bare.weight.copy_((cast(Tensor, bare.running_var) + bare.eps).sqrt())
        bare.bias.copy_(mean)
    slim.attention.load_state_dict(full.attention.state_dict())
    slim.gather.load_state_dict(full.gather.state_dict())


def _roots(features: Tensor) -> tuple[Tensor, Tensor]:
    """(C, C) root of the second moments of the cells of (N, C, H, W), and its inverse; float64."""
    cells = rows(features)
    values, vectors = torch.linalg.eigh(cells.T @ cells / len(cells))
    # a direction in which nothing lies must not be divided by
    root = values.clamp(min=max(1e-8 * float(values[-1]), 1e-12)).sqrt()
    return vectors * root @ vectors.T, vectors / root @ vectors.T


def _constant(convolution: nn.Conv2d, norm: nn.BatchNorm2d) -> Tensor:
    """What convolution and norm give for 0; float64."""
    out: Tensor = norm(cast(Tensor, convolution.bias)[None, :, None, None]).flatten()
    return out.double()
