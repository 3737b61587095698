"""What all losses share: the precision they are computed in, and a mean over some cells."""

from __future__ import annotations

import torch
from torch import Tensor


def at_least_float32(values: Tensor) -> Tensor:
    """The values as float32, where they are of half precision: it would lose the small differences
    that a loss is made of. float64 stays, for gradcheck."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """(N, ...) values and bool -> (N,) mean over the cells of ``mask``, 0 where there are none."""
    count = mask.flatten(1).sum(1).clamp(min=1)
    return (values * mask).flatten(1).sum(1) / count
