"""The precision that losses are computed in."""

from __future__ import annotations

import torch
from torch import Tensor


def at_least_float32(values: Tensor) -> Tensor:
    """The values as float32, where they are of half precision: it would lose the small differences
    that a loss is made of. float64 stays, for gradcheck."""
    return values.to(torch.promote_types(values.dtype, torch.float32))
