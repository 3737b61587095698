"""The one box convention, and the few formulas on boxes.

A box is ``x, y, w, h`` in float pixels, 0-based. ``x, y`` is the left and top *edge*, and pixel
``i`` spans ``[i, i + 1)``; so the box of the single pixel (0, 0) is ``0, 0, 1, 1`` and its
centre is ``x + w / 2 = 0.5``. Other conventions (1-based files, centre-based messages,
pixel-centre indices of an image warp) are converted at the edge where they enter or leave.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from siamkd_core.errors import BoxError

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]


class Box(NamedTuple):
    """``x, y, w, h``: float pixels, 0-based, x and y the left and top edge."""

    x: float
    y: float
    w: float
    h: float

    @property
    def cx(self) -> float:
        return self.x + self.w / 2

    @property
    def cy(self) -> float:
        return self.y + self.h / 2

    @classmethod
    def from_center(cls, cx: float, cy: float, w: float, h: float) -> Box:
        return cls(cx - w / 2, cy - h / 2, w, h)


def check_target_box(box: Box | tuple[float, float, float, float], width: int, height: int) -> Box:
    """Return ``box`` as a :class:`Box` if it can be a target in a ``width`` x ``height`` image.

    Raises:
        BoxError: not four numbers, not finite, side under one pixel, centre outside the image, or
            larger than eight times the image.
    """
    try:
        x, y, w, h = (float(v) for v in box)
    except (TypeError, ValueError) as error:
        raise BoxError(f"a box is four numbers x,y,w,h; got {box!r}") from error
    out = Box(x, y, w, h)
    if not all(np.isfinite(out)):
        raise BoxError(
            f"the box {_short(out)} holds a value that is not finite; give x,y,w,h pixels"
        )
    if w < 1 or h < 1:
        raise BoxError(f"the box {_short(out)} is under one pixel wide or high; draw a larger one")
    if not (0 <= out.cx <= width and 0 <= out.cy <= height):
        raise BoxError(
            f"the box {_short(out)} has its centre outside the {width}x{height} image; "
            "boxes are x,y,w,h with x,y the top-left corner in pixels of this image"
        )
    if w > 8 * width or h > 8 * height:
        raise BoxError(f"the box {_short(out)} is far larger than the {width}x{height} image")
    return out


def iou(a: FloatArray, b: FloatArray) -> FloatArray:
    """Intersection over union, row by row.

    Args:
        a, b: (N, 4) or (4,) float64, xywh, pixels; a row with nan gives nan.

    Returns:
        (N,) float64 in [0, 1]; 0 where the union is empty.
    """
    a, b = np.atleast_2d(np.asarray(a, float)), np.atleast_2d(np.asarray(b, float))
    left_top = np.maximum(a[:, :2], b[:, :2])
    right_bottom = np.minimum(a[:, :2] + a[:, 2:], b[:, :2] + b[:, 2:])
    overlap = np.prod(np.clip(right_bottom - left_top, 0, None), axis=1)
    union = np.prod(a[:, 2:], axis=1) + np.prod(b[:, 2:], axis=1) - overlap
    empty = union <= 0
    return np.where(empty, 0.0, overlap / np.where(empty, 1.0, union))


def present(boxes: FloatArray) -> BoolArray:
    """Which rows are boxes: (N,) bool, False for nan, infinity and sides that are not positive."""
    finite: BoolArray = np.all(np.isfinite(boxes), axis=1)
    sides = np.where(finite[:, None], boxes[:, 2:], 0.0)
    return np.logical_and(finite, np.all(sides > 0, axis=1))


def _short(box: Box) -> str:
    return ",".join(f"{v:g}" for v in box)
