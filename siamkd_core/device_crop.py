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

from siamkd_core.arrays import Array, library
from siamkd_core.crop import (
    CropPlan,
    Square,
    most_blocks,
    part_edges,
    part_matrix,
    plan_crop,
    rotation,
)


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
    units = upload(np.stack([_unit_of(plan) for plan in plans]).astype(np.float32), frame.device)
    for plan, grid, crop in zip(plans, _grids(units, size), out, strict=True):
        if plan is None:
            crop.copy_(colour.round().expand_as(crop))
            continue
        inside = _shrunk(frame[plan.rows, plan.columns], plan.shrink) - colour
        _sample(inside, grid, colour, crop)
    return out


def crop_located(frame: Tensor, colour: Tensor, square: Square, shrink: int, out: Tensor) -> Tensor:
    """:func:`crop_squares` of a square that the device alone knows; nothing waits for it.

    Args:
        frame, colour: see :func:`crop_squares`.
        square: its centre, which lies in the image, and its side are float64 tensors.
        shrink: :func:`siamkd_core.crop.shrink_of` of the side. Of another side the crop is of no
            use.
        out: (1, 3, S, S), written to.

    Returns:
        ``out``.
    """
    size, device = out.shape[-1], frame.device
    height, width = frame.shape[:2]
    sides = min(shrink, width), min(shrink, height)
    # blocks behind the part's end, like what lies outside of the image, are of the colour
    most = most_blocks(shrink, size, square.turn)
    counts = min(most, width // sides[0]), min(most, height // sides[1])
    given = upload(
        np.array([*rotation(square.turn), (width, height), sides, np.array(counts) / 2]), device
    )
    linear, (bounds, block, half) = given[:2] * (square.side / size), given[2:]
    center = torch.stack([square.cx, square.cy])
    begin, end = part_edges(center, square.side, size, linear, bounds)
    matrix = part_matrix(center, begin, block, size, linear)
    columns, rows = (
        # an answer that is no number must not lead out of the image either
        (first + torch.arange(count * side, device=device)).long().clamp(0, edge - 1)
        for first, count, side, edge in zip(begin, counts, sides, (width, height), strict=True)
    )
    part = frame.index_select(0, rows).index_select(1, columns)
    across, down = (
        torch.arange(count, device=device) < shown
        for count, shown in zip(
            counts, (end - begin).div(block, rounding_mode="floor"), strict=True
        )
    )
    inside = (_shrunk(part, sides[::-1]) - colour) * (down[:, None] & across)
    (grid,) = _grids(to_unit(matrix, half).float()[None], size)
    _sample(inside, grid, colour, out[0])
    return out


def to_unit(matrix: Array, half: Array) -> Array:
    """(2, 3) ``matrix`` of :class:`siamkd_core.crop.CropPlan`, but to the coordinates of
    ``grid_sample``, in which the edges of a part of half this (2,) width and height are -1 and
    1."""
    offset = (matrix[:, 2] + 0.5) / half - 1
    return library(matrix).concatenate([matrix[:, :2] / half[:, None], offset[:, None]], 1)


def _unit_of(plan: CropPlan | None) -> NDArray[np.float64]:
    if plan is None:
        return np.zeros((2, 3))
    extents = (plan.columns.stop - plan.columns.start, plan.rows.stop - plan.rows.start)
    made: NDArray[np.float64] = to_unit(
        plan.matrix, np.array(extents, float) / plan.shrink[::-1] / 2
    )
    return made


def _shrunk(part: Tensor, shrink: tuple[int, int]) -> Tensor:
    """(H, W, 3) uint8 -> (3, H / rows, W / columns) float32, the means of blocks."""
    part = part.permute(2, 0, 1)
    if shrink == (1, 1):
        return part.float()
    # halves go up, as in OpenCV's blocks of 2x2
    return (F.avg_pool2d(part[None].float(), shrink)[0] + 0.5).floor()


def _grids(units: Tensor, size: int) -> Tensor:
    """(N, 2, 3) float32 of :func:`to_unit` -> (N, size, size, 2): where each pixel of each crop is
    sampled."""
    steps = torch.arange(size, device=units.device, dtype=torch.float32)
    per_column, per_row, offset = units[:, None, None].unbind(-1)
    return per_column * steps[:, None] + per_row * steps[:, None, None] + offset


def _sample(inside: Tensor, grid: Tensor, colour: Tensor, crop: Tensor) -> None:
    """Write a crop.

    Args:
        inside: (3, h, w) float32, a part of the image without the colour: what lies outside counts
            as 0, which is the colour then.
        grid: (S, S, 2) of :func:`_grids`.
        colour: (3, 1, 1).
        crop: (3, S, S), written to.
    """
    sampled = F.grid_sample(inside[None], grid[None], padding_mode="zeros", align_corners=False)
    crop.copy_((sampled[0] + colour).round_())
