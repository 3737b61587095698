"""The one crop: a square around the target with context, padded with the mean colour.

Training pairs and the tracker both cut their exemplar and search regions here. Source of the
geometry: Bertinetto et al., "Fully-Convolutional Siamese Networks for Object Tracking", 2016.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from siamkd_core.image import Image

CONTEXT = 0.5
"""Share of (w + h) that is added to each side of the target before the square is taken."""


def exemplar_side(w: float, h: float, context: float = CONTEXT) -> float:
    """Side in image pixels of the square that becomes the exemplar.

    ``s^2 = (w + p)(h + p)`` with ``p = context * (w + h)`` (SiamFC, section 2.4).
    """
    pad = context * (w + h)
    return math.sqrt((w + pad) * (h + pad))


def mean_colour(image: Image) -> NDArray[np.float64]:
    """(3,) float64 BGR mean of an image, the colour crops are padded with."""
    return np.array(cv2.mean(image)[:3])


class Square(NamedTuple):
    """A square of an image.

    Attributes:
        cx, cy, side: its centre and side, pixels, edge convention of :mod:`siamkd_core.box`.
        turn: radians by which it is turned about its centre, from x towards y (clockwise as seen).
    """

    cx: float
    cy: float
    side: float
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
    of the image."""
    linear = np.eye(2) if transform is None else np.asarray(transform, float)
    linear = linear * (side / out_side)
    # Corners of the output in the image, to cut the part that is needed before any resampling.
    half = out_side / 2
    corners = np.array([[-half, -half], [half, -half], [-half, half], [half, half]]) @ linear.T
    corners += np.asarray(center, float)
    height, width = shape[:2]
    margin = 2 + math.ceil(side / out_side)
    x0 = int(np.clip(math.floor(corners[:, 0].min()) - margin, 0, width))
    y0 = int(np.clip(math.floor(corners[:, 1].min()) - margin, 0, height))
    x1 = int(np.clip(math.ceil(corners[:, 0].max()) + margin, 0, width))
    y1 = int(np.clip(math.ceil(corners[:, 1].max()) + margin, 0, height))
    if x1 - x0 < 1 or y1 - y0 < 1:
        return None
    # A bilinear warp that shrinks more than twice skips pixels; average whole blocks first.
    shrink = int(side / out_side)
    shrink_x, shrink_y = max(1, min(shrink, x1 - x0)), max(1, min(shrink, y1 - y0))
    cols, rows = (x1 - x0) // shrink_x, (y1 - y0) // shrink_y
    # Edge coordinates: u_out -> image -> part. The warp wants pixel-centre indices, hence the 0.5.
    scale = np.array([1 / shrink_x, 1 / shrink_y])
    matrix = np.empty((2, 3))
    matrix[:, :2] = linear * scale[:, None]
    offset = (np.asarray(center, float) - (x0, y0)) * scale - matrix[:, :2] @ [half, half]
    matrix[:, 2] = offset + matrix[:, :2] @ [0.5, 0.5] - 0.5
    return CropPlan(
        slice(y0, y0 + rows * shrink_y),
        slice(x0, x0 + cols * shrink_x),
        (shrink_y, shrink_x),
        matrix,
    )


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
        ValueError: an image or ``out`` of another kind.
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
