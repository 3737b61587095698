"""The crop of :mod:`siamkd_core.crop` in PyTorch, on the device where the image is.

The geometry is that of :func:`siamkd_core.crop.plan_crop`, and grey levels are whole, as a network
learnt them. OpenCV 4 samples in steps of 1/32 pixel; OpenCV 5, and this, at the exact place.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from siamkd_core.crop import CropPlan, Square, plan_crop, rotation


def upload(array: NDArray[np.generic], device: torch.device) -> Tensor:
    """A copy on the device, that nothing waits for: the array may change as soon as this returns.

    A copy that does not wait needs pinned memory. PyTorch keeps what it has pinned and hands it out
    again once its copy is over, so a frame pins nothing new unless it is larger than all before.
    """
    dtype = torch.from_numpy(np.empty(0, array.dtype)).dtype
    # NumPy does the copy to the host's buffer: it takes arrays that are read-only or flipped too
    buffer = torch.empty(array.shape, dtype=dtype, pin_memory=device.type == "cuda")
    np.copyto(buffer.numpy(), array)
    return buffer.to(device, non_blocking=True)


def mean_colour(frame: Tensor) -> Tensor:
    """:func:`siamkd_core.crop.mean_colour`: (H, W, 3) uint8 -> (3, 1, 1) float32."""
    return frame.mean((0, 1), dtype=torch.float32)[:, None, None]


def crop_squares(frame: Tensor, colour: Tensor, squares: Sequence[Square], out: Tensor) -> Tensor:
    """:func:`siamkd_core.crop.crop_square` of several squares; nothing waits for the device.

    Args:
        frame: (H, W, 3) uint8 BGR.
        colour: (3, 1, 1) float32 on the same device, the colour outside the image.
        squares: N of them.
        out: (N, 3, S, S) of any float type on the same device, written to.

    Returns:
        ``out``.
    """
    size = out.shape[-1]
    shape = tuple(frame.shape)
    plans = [plan_crop(shape, s[:2], s.side, size, rotation(s.turn)) for s in squares]
    grids = _grids(plans, size, frame.device)
    for plan, grid, crop in zip(plans, grids, out, strict=True):
        if plan is None:
            crop.copy_(colour.round().expand_as(crop))
            continue
        part = frame[plan.rows, plan.columns].permute(2, 0, 1)
        if plan.shrink != (1, 1):
            # halves go up, as in OpenCV's blocks of 2x2
            part = (F.avg_pool2d(part[None].float(), plan.shrink)[0] + 0.5).floor()
        # what lies outside counts as 0: with the colour subtracted, that is the colour
        inside = (part - colour)[None]
        sampled = F.grid_sample(inside, grid[None], padding_mode="zeros", align_corners=False)
        crop.copy_((sampled[0] + colour).round_())
    return out


def _grids(plans: Sequence[CropPlan | None], size: int, device: torch.device) -> Tensor:
    """(N, size, size, 2) float32: where each pixel of each crop is sampled, in the coordinates of
    ``grid_sample``: the part's edges are -1 and 1."""
    steps = torch.arange(size, device=device, dtype=torch.float32)
    theta = upload(np.stack([_to_unit(plan) for plan in plans]).astype(np.float32), device)
    per_column, per_row, offset = theta[:, None, None].unbind(-1)
    return per_column * steps[:, None] + per_row * steps[:, None, None] + offset


def _to_unit(plan: CropPlan | None) -> NDArray[np.float64]:
    """A plan's (2, 3) matrix, but to those coordinates."""
    if plan is None:
        return np.zeros((2, 3))
    extents = (plan.columns.stop - plan.columns.start, plan.rows.stop - plan.rows.start)
    half = np.array(extents, float) / plan.shrink[::-1] / 2
    matrix: NDArray[np.float64] = plan.matrix / half[:, None]
    matrix[:, 2] += 0.5 / half - 1
    return matrix
