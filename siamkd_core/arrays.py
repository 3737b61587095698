"""A formula that is written once and runs on NumPy arrays and on tensors of any device.

NumPy stays in use beside PyTorch because these arrays are small: on a CPU that others use too, a
PyTorch operation on one waits for its threads for longer than it computes.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Array: TypeAlias = Any
"""A NumPy array or a tensor. Code on it keeps to what both spell alike, and never asks a tensor for
its value: that would wait for the device."""
Scalar: TypeAlias = Any
"""A NumPy scalar, or a tensor without dimensions."""


def library(array: Array) -> Any:
    """The module, ``torch`` or ``numpy``, whose functions take this array."""
    return torch if isinstance(array, Tensor) else np


def device_of(array: Array) -> torch.device | None:
    """Where its data is; None: a NumPy array."""
    return array.device if isinstance(array, Tensor) else None


def clip(value: Scalar, least: float, greatest: float) -> Scalar:
    """The value within limits; of two that leave no room, the greatest."""
    if isinstance(value, Tensor):
        return value.clamp(least, greatest)
    return min(max(value, least), greatest)


def constant(values: NDArray[np.float64], device: torch.device | None) -> Array:
    """These values beside the arrays they are used with: a tensor on the device, or as they are."""
    if device is None:
        return values
    # a constant outlives the call that makes it first, so it must not be an inference tensor
    with torch.inference_mode(False):
        return torch.from_numpy(values).to(device)


@lru_cache(maxsize=8)
def cosine_window(size: int, total: float | None, device: torch.device | None) -> Array:
    """(size, size) float64 Hann window, highest in the middle.

    Args:
        size: of a side.
        total: its sum; None: its highest value, at an odd size, is 1.
        device: see :func:`device_of`.
    """
    window = np.outer(np.hanning(size), np.hanning(size))
    if total is not None:
        window = window / (window.sum() / total)
    return constant(window, device)
