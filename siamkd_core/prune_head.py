"""The head of a slim SiamRPN from that of a trained full one, see :mod:`siamkd_core.prune`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from siamkd_core.pixelwise_head import PixelwiseHead
from siamkd_core.prune import eliminate, moments_of, take_rows
from siamkd_core.siamrpn import Branch, DepthwiseHead
from siamkd_core.xcorr import correlate_channels


@torch.no_grad()
def prune_head(
    full: DepthwiseHead,
    slim: DepthwiseHead,
    bases: Sequence[Tensor],
    exemplars: Tensor,
    search: Tensor,
) -> None:
    """Give ``slim`` the weights of ``full`` that are left of it.

    In each branch, first of the channels behind the mixing layer, then of those that are correlated
    as many stay as ``slim`` has (:func:`siamkd_core.prune.eliminate`), and what is behind them is
    fitted to what it was. The 3x3 convolutions take the slim features through ``bases``.

    Args:
        full, slim: heads; the slim one's features may have fewer channels.
        bases: of :func:`siamkd_core.prune.prune`.
        exemplars, search: (N, C, h, w) and (N, C, H, W) float, features of N pairs from the full
            backbone.

    Raises:
        ValueError: the slim head is wider.
    """
    if slim.score.width > full.score.width:
        raise ValueError(f"a head of {slim.score.width} from one of {full.score.width}")
    modes = full.training, slim.training
    full.eval()
    slim.eval()
    basis = torch.block_diag(*bases)
    try:
        for theirs, ours in ((full.score, slim.score), (full.box, slim.box)):
            _prune_branch(theirs, ours, basis, exemplars, search)
    finally:
        full.train(modes[0])
        slim.train(modes[1])


@torch.no_grad()
def narrow_pixelwise_head(
    full: PixelwiseHead, slim: PixelwiseHead, bases: Sequence[Tensor]
) -> None:
    """Give ``slim`` the weights of ``full``, for features of fewer channels: it answers to them as
    ``full`` does to ``bases`` times them.

    Products of cells are the same in both features, since the columns of ``bases`` are orthonormal;
    the 3x3 convolutions take the slim features through them.

    Args:
        full, slim: heads.
        bases: of :func:`siamkd_core.prune.prune`.

    Raises:
        ValueError: the heads differ in width.
    """
    width, other = full.answer.in_channels, slim.answer.in_channels
    if width != other:
        raise ValueError(f"a pixel-wise head of {other} from one of {width}; it keeps its width")
    basis, state = torch.block_diag(*bases), full.state_dict()
    for name in ("exemplar.0.weight", "search.0.weight"):
        state[name] = torch.einsum("ochw,ck->okhw", state[name], basis)
    # products are scaled by the channels that they sum over
    state["gather.0.weight"] = state["gather.0.weight"] * (basis.shape[1] / basis.shape[0]) ** 0.5
    slim.load_state_dict(state)


def _prune_branch(
    full: Branch, slim: Branch, basis: Tensor, exemplars: Tensor, search: Tensor
) -> None:
    correlated = correlate_channels(full.exemplar(exemplars), full.search(search))
    mixing, norm, _, last = full.mix
    assert isinstance(mixing, nn.Conv2d) and isinstance(last, nn.Conv2d)
    assert isinstance(norm, nn.BatchNorm2d) and last.bias is not None
    hidden = full.mix[:3](correlated)
    moments = moments_of([hidden], [last(hidden)])
    kept, weights = eliminate(moments, last.weight.flatten(1), slim.width)
    ours = cast(nn.Conv2d, slim.mix[3])
    assert ours.bias is not None
    ours.weight.copy_(weights[..., None, None])
    ours.bias.copy_(moments.targets - weights @ moments.inputs[kept])
    take_rows(norm, slim.mix[1], kept)

    left = mixing.weight[kept].flatten(1)
    moments = moments_of([correlated], [mixing(correlated)[:, kept]])
    paired, weights = eliminate(moments, left, slim.width)
    behind, bare = cast(nn.Conv2d, slim.mix[0]), cast(nn.BatchNorm2d, slim.mix[1])
    assert bare.running_mean is not None
    behind.weight.copy_(weights[..., None, None])
    bare.running_mean -= moments.targets - weights @ moments.inputs[paired]
    for theirs, layer in ((full.exemplar, slim.exemplar), (full.search, slim.search)):
        first = cast(nn.Conv2d, theirs[0]).weight[paired]
        cast(nn.Conv2d, layer[0]).weight.copy_(torch.einsum("ochw,ck->okhw", first, basis))
        take_rows(theirs[1], layer[1], paired)
