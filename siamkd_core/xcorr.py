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
    m, channels = exemplar.shape[:2]
    n = search.shape[0]
    if n % m or search.shape[1] != channels:
        raise ValueError(f"exemplar {tuple(exemplar.shape)} does not fit {tuple(search.shape)}")
    # One grouped convolution: a group is one exemplar, its batch the searches that belong to it.
    grouped = search.view(m, n // m, channels, *search.shape[-2:]).transpose(0, 1)
    grouped = grouped.reshape(n // m, m * channels, *search.shape[-2:])
    out = F.conv2d(grouped, exemplar, groups=m)
    return out.transpose(0, 1).reshape(n, 1, *out.shape[-2:])
