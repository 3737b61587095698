"""Cross-correlation of exemplar and search features."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def cross_correlate(exemplar: Tensor, search: Tensor) -> Tensor:
    """Slide each exemplar over its search features: ``r[n] = z[n] (*) x[n]`` (SiamFC, eq. 1).

    Args:
        exemplar: (M, C, h, w) float, features of the exemplars.
        search: (N, C, H, W) float, N a multiple of M; search k belongs to exemplar k // (N // M)
            (one exemplar against several scales, or pair by pair if N = M).

    Returns:
        (N, 1, H - h + 1, W - w + 1) float.
    """
    return correlate_kernels(exemplar.unsqueeze(1), search)


def correlate_kernels(kernels: Tensor, search: Tensor) -> Tensor:
    """:func:`cross_correlate` with K kernels an exemplar (the up-channel head of SiamRPN, eq. 2).

    Args:
        kernels: (M, K, C, h, w) float.
        search: (N, C, H, W) float, N a multiple of M.

    Returns:
        (N, K, H - h + 1, W - w + 1) float.
    """
    grouped = _beside(search, kernels.shape[0], kernels.shape[2])
    out: Tensor = F.conv2d(grouped, kernels.flatten(0, 1), groups=kernels.shape[0])
    return _one_by_one(out, *kernels.shape[:2])


def correlate_pixels(exemplar: Tensor, search: Tensor) -> Tensor:
    """Products of every cell of an exemplar with every cell of its search regions (pixel-wise
    correlation; Yan et al., "Alpha-Refine", 2021).

    Args:
        exemplar: (M, C, h, w) float.
        search: (N, C, H, W) float, N a multiple of M.

    Returns:
        (N, h w, H, W) float; the exemplar's cells row by row.
    """
    return correlate_kernels(exemplar.flatten(2).transpose(1, 2)[..., None, None], search)


def correlate_channels(exemplar: Tensor, search: Tensor) -> Tensor:
    """:func:`cross_correlate` of each channel alone (SiamRPN++, section 3.3).

    Args:
        exemplar: (M, C, h, w) float.
        search: (N, C, H, W) float, N a multiple of M.

    Returns:
        (N, C, H - h + 1, W - w + 1) float.
    """
    grouped = _beside(search, *exemplar.shape[:2])
    kernels = exemplar.flatten(0, 1).unsqueeze(1)
    out: Tensor = F.conv2d(grouped, kernels, groups=kernels.shape[0])
    return _one_by_one(out, *exemplar.shape[:2])


def _beside(search: Tensor, exemplars: int, channels: int) -> Tensor:
    """(N, C, H, W) -> (N / M, M C, H, W), for one grouped convolution: a group is one exemplar (or
    a channel of it), its batch the searches that belong to it."""
    n = search.shape[0]
    if n % exemplars or search.shape[1] != channels:
        raise ValueError(
            f"search {tuple(search.shape)} does not fit {exemplars} exemplars of {channels}"
        )
    grouped = search.reshape(exemplars, n // exemplars, *search.shape[1:]).transpose(0, 1)
    together: Tensor = grouped.flatten(1, 2)
    return together


def _one_by_one(out: Tensor, exemplars: int, each: int) -> Tensor:
    """(N / M, M K, h, w) -> (N, K, h, w)."""
    apart: Tensor = out.unflatten(1, (exemplars, each)).transpose(0, 1)
    return apart.flatten(0, 1)
