"""The one crop: a square around the target with context, padded with the mean colour.

Training pairs and the tracker both cut their exemplar and search regions here. Source of the
geometry: Bertinetto et al., "Fully-Convolutional Siamese Networks for Object Tracking", 2016.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import NamedTuple

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from siamkd_core.arrays import Array, Scalar, constant, device_of, library
from siamkd_core.image import Image

CONTEXT = 0.5
"""Share of (w + h) that is added to each side of the target before the square is taken."""
MARGIN = 2
"""Pixels of the image around what a crop shows, beside those of one of its own pixels."""


def exemplar_side(w: Scalar, h: Scalar, context: float = CONTEXT) -> Scalar:
    """Side in image pixels of the square that becomes the exemplar.

    ``s^2 = (w + p)(h + p)`` with ``p = context * (w + h)`` (SiamFC, section 2.4).

    Args:
        w, h: of the target, floats, or tensors without dimensions; then the side is one too.
        context: see :data:`CONTEXT`.
    """
    pad = context * (w + h)
    area = (w + pad) * (h + pad)
    return torch.sqrt(area) if library(area) is torch else math.sqrt(area)


def mean_colour(image: Image) -> NDArray[np.float64]:
    """(3,) float64 BGR mean of an image, the colour crops are padded with."""
    return np.array(cv2.mean(image)[:3])


class Square(NamedTuple):
    """A square of an image.

    Attributes:
        cx, cy, side: its centre and side, pixels, edge convention of :mod:`siamkd_core.box`.
            Floats, or tensors without dimensions where it is known to their device alone.
        turn: radians by which it is turned about its centre, from x towards y (clockwise as seen).
    """

    cx: Scalar
    cy: Scalar
    side: Scalar
    turn: float = 0.0


def rotation(turn: float) -> NDArray[np.float64]:
    """(2, 2) float64, maps offsets in a turned square to those in the image.

    Args:
        turn: radians from x towards y.
    """
    cos, sin = math.cos(turn), math.sin(turn)
    return np.array([[cos, -sin], [sin, cos]])


class CropPlan(NamedTuple):
    """How a square becomes a crop, whatever library does it: a part of the image is shrunk by
    averaging whole blocks of pixels, then sampled (bilinear; the pad colour outside the part).

    Attributes:
        rows, columns: the part, whole blocks of it.
        shrink: height and width of a block, pixels, from 1 on.
        matrix: (2, 3) float64, maps pixel-centre indices (column, row, 1) of the crop to those of
            the shrunk part.
    """

    rows: slice
    columns: slice
    shrink: tuple[int, int]
    matrix: NDArray[np.float64]


def plan_crop(
    shape: tuple[int, ...],
    center: tuple[float, float],
    side: float,
    out_side: int,
    transform: NDArray[np.float64] | None = None,
) -> CropPlan | None:
    """The geometry of :func:`crop_square` in an image of this shape; None: the square shows nothing
    of the image.

    Raises:
        ValueError: a square that is not finite.
    """
    linear = np.eye(2) if transform is None else np.asarray(transform, float)
    linear = linear * (side / out_side)
    middle, (height, width) = np.asarray(center, float), shape[:2]
    if not math.isfinite(side + middle[0] + middle[1]):
        raise ValueError(f"a square at {tuple(center)} with a side of {side} is no place to look")
    begin, end = (
        edge.astype(int)
        for edge in part_edges(middle, side, out_side, linear, np.array([width, height], float))
    )
    if (end - begin).min() < 1:
        return None
    shrink = np.maximum(1, np.minimum(shrink_of(side, out_side), end - begin))
    x1, y1 = (begin + (end - begin) // shrink * shrink).tolist()
    return CropPlan(
        slice(int(begin[1]), y1),
        slice(int(begin[0]), x1),
        (int(shrink[1]), int(shrink[0])),
        part_matrix(middle, begin, shrink, out_side, linear),
    )


def shrink_of(side: float, out_side: int) -> int:
    """Side of the blocks of pixels that are averaged: a bilinear warp that shrinks more than twice
    skips pixels."""
    return max(1, int(side / out_side))


def part_edges(
    center: Array, side: Scalar, out_side: int, linear: Array, size: Array
) -> tuple[Array, Array]:
    """The part of an image that is needed for a crop: (2,) first and (2,) last column and row, the
    last excluded; whole numbers, float64, of the library and device of ``center``.

    Args:
        center: (2,) x, y of the square, pixels.
        side: of the square, pixels.
        out_side: of the crop.
        linear: (2, 2) maps offsets from the centre of the crop to those in the image.
        size: (2,) width and height of the image.
    """
    xp = library(center)
    corners = _corners(out_side, device_of(center)) @ linear.T + center
    margin = MARGIN + xp.ceil(side / out_side)
    none = xp.zeros_like(size)
    begin = xp.floor(xp.amin(corners, 0)) - margin
    end = xp.ceil(xp.amax(corners, 0)) + margin
    return xp.clip(begin, none, size), xp.clip(end, none, size)


def most_blocks(shrink: int, out_side: int, turn: float) -> int:
    """How many blocks along an axis the part of any square has at most that is shrunk by
    ``shrink`` (:func:`shrink_of`) and turned by these radians; see :func:`part_edges`."""
    spread = abs(math.cos(turn)) + abs(math.sin(turn))
    # the side is below shrink + 1 pixels a pixel of the crop, and its edges are made whole
    pixels = (shrink + 1) * out_side * spread + 2 * (MARGIN + shrink + 1) + 2
    return math.ceil(pixels / shrink)


def part_matrix(center: Array, begin: Array, block: Array, out_side: int, linear: Array) -> Array:
    """(2, 3) float64, ``matrix`` of :class:`CropPlan`; arguments as in :func:`part_edges`, and the
    (2,) width and height of a block of pixels."""
    # edge coordinates: crop -> image -> part; the warp wants pixel-centre indices, hence the 0.5
    matrix = linear / block[:, None]
    offset = (center - begin) / block - matrix.sum(1) * (out_side / 2 - 0.5) - 0.5
    return library(center).concatenate([matrix, offset[:, None]], 1)


@lru_cache(maxsize=8)
def _corners(out_side: int, device: torch.device | None) -> Array:
    """(4, 2) float64 corners of a crop, from its centre."""
    half = out_side / 2
    return constant(np.array([[-half, -half], [half, -half], [-half, half], [half, half]]), device)


def crop_square(
    image: Image,
    center: tuple[float, float],
    side: float,
    out_side: int,
    pad_colour: NDArray[np.float64],
    transform: NDArray[np.float64] | None = None,
    out: Image | None = None,
) -> Image:
    """Cut a square and resample it to ``out_side`` x ``out_side``, exact to a fraction of a pixel.

    Args:
        image: (H, W, 3) uint8.
        center: (x, y) of the square in pixels, edge convention of :mod:`siamkd_core.box`.
        side: side of the square in image pixels, above 0.
        out_side: side of the result in pixels.
        pad_colour: (3,) colour outside the image.
        transform: optional (2, 2) linear map applied to offsets from the centre on their way from
            the output to the image (rotation, stretch or flip in training); identity if None.
        out: contiguous (out_side, out_side, 3) uint8 that the result is written to; None: new
            memory.

    Returns:
        (out_side, out_side, 3) uint8, ``out`` where that is given.

    Raises:
        ValueError: an image or ``out`` of another kind, or a square that is not finite.
    """
    if out is None:
        out = np.empty((out_side, out_side, 3), np.uint8)
    plan = plan_crop(image.shape, center, side, out_side, transform)
    if plan is None:
        out[:] = np.rint(pad_colour)
        return out
    part = image[plan.rows, plan.columns]
    down, across = plan.shrink
    if plan.shrink != (1, 1):
        size = (part.shape[1] // across, part.shape[0] // down)
        part = np.asarray(cv2.resize(part, size, interpolation=cv2.INTER_AREA), np.uint8)
    made = cv2.warpAffine(
        part,
        plan.matrix,
        (out_side, out_side),
        dst=out,
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_CONSTANT,
        borderValue=tuple(float(v) for v in pad_colour),
    )
    if made is not out:  # OpenCV takes other memory where that does not fit
        raise ValueError(
            f"an image of {image.dtype}, {image.shape}, does not give crops of uint8 in memory of "
            f"{out.dtype}, {out.shape}"
        )
    return out
