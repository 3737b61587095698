"""Response labels: which cells of the response map show the target."""

from __future__ import annotations

import torch
from torch import Tensor


def response_labels(size: int, stride: int, radius: float, offsets: Tensor | None = None) -> Tensor:
    """1 within ``radius`` pixels (L1 distance) of the target, else 0.

    The L1 distance and the radius of 16 px at stride 8 (2 cells) are those of the widely used
    PyTorch SiamFC; the paper uses the Euclidean distance with the same radius.

    Args:
        size: side S of the response map in cells.
        stride: pixels of the search region per cell.
        radius: in pixels of the search region.
        offsets: (N, 2) float, the target's (x, y) displacement from the centre of the search
            region in its pixels, nan where it is not in it; None for one centred target.

    Returns:
        (N, 1, S, S) float32 of 0 and 1 (N = 1 without offsets), where the offsets are.
    """
    if offsets is None:
        offsets = torch.zeros(1, 2)
    cells = torch.arange(size, dtype=torch.float32, device=offsets.device)
    axis = (cells - (size - 1) / 2) * stride
    dx = (axis[None, :] - offsets[:, 0:1].float()).abs()
    dy = (axis[None, :] - offsets[:, 1:2].float()).abs()
    distance = dy[:, :, None] + dx[:, None, :]
    return (distance <= radius).float().unsqueeze(1)
