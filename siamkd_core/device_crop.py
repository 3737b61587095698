"""The crop of :mod:`siamkd_core.crop` in PyTorch, on the device where the image is.

The geometry is that of :func:`siamkd_core.crop.plan_crop`, and grey levels are whole, as a network
learnt them. OpenCV 4 samples in steps of 1/32 pixel; OpenCV 5, and this, at the exact place.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from siamkd_core.arrays import Array, constant, library
from siamkd_core.crop import CropPlan, Square, part_edges, part_matrix, plan_crop, rotation


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
    theta = upload(np.stack([_unit_of(plan) for plan in plans]).astype(np.float32), frame.device)
    for plan, unit, crop in zip(plans, theta, out, strict=True):
        if plan is None:
            crop.copy_(colour.round().expand_as(crop))
            continue
        inside = _shrunk(frame[plan.rows, plan.columns], plan.shrink) - colour
        _sample(inside, unit, colour, crop)
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
    linear, (bounds, block) = upload(
        np.array(
            [
                rotation(square.turn),
                [[width, height], [min(shrink, width), min(shrink, height)]],
            ]
        ),
        device,
    )
    center = torch.stack([square.cx, square.cy])
    linear = linear * (square.side / size)
    begin, end = part_edges(center, square.side, size, linear, bounds)
    matrix = part_matrix(center, begin, block, size, linear)
    # as many blocks as a square that is shrunk so may need, with its margins; those behind its end,
    # like what lies outside of the image, are of the colour
    spread = abs(math.cos(square.turn)) + abs(math.sin(square.turn))
    most = math.ceil(((shrink + 1) * size * spread + 2 * (shrink + 4)) / shrink) + 1
    count = (end - begin).div(block, rounding_mode="floor")
    sides = min(shrink, width), min(shrink, height)
    columns, rows = (
        # an answer that is no number must not lead out of the image either
        (begin[axis] + _numbers(most * side, device)).long().clamp(0, edge - 1)
        for axis, (side, edge) in enumerate(zip(sides, (width, height), strict=True))
    )
    part = frame.index_select(0, rows).index_select(1, columns)
    blocks = _numbers(most, device)
    shown = (blocks[:, None] < count[1]) & (blocks < count[0])
    inside = (_shrunk(part, sides[::-1]) - colour) * shown
    _sample(inside, to_unit(matrix, torch.full_like(center, most / 2)).float(), colour, out[0])
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


def _sample(inside: Tensor, unit: Tensor, colour: Tensor, crop: Tensor) -> None:
    """Write a crop.

    Args:
        inside: (3, h, w) float32, a part of the image without the colour: what lies outside counts
            as 0, which is the colour then.
        unit: (2, 3) float32 of :func:`to_unit`.
        colour: (3, 1, 1).
        crop: (3, S, S), written to.
    """
    steps = _numbers(crop.shape[-1], crop.device).float()
    per_column, per_row, offset = unit.unbind(-1)
    grid = per_column * steps[:, None] + per_row * steps[:, None, None] + offset
    sampled = F.grid_sample(inside[None], grid[None], padding_mode="zeros", align_corners=False)
    crop.copy_((sampled[0] + colour).round_())


@lru_cache(maxsize=32)
def _numbers(count: int, device: torch.device) -> Tensor:
    """(count,) float64: 0, 1, 2 ..."""
    numbers: Tensor = constant(np.arange(float(count)), device)
    return numbers
