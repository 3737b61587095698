"""What can be a target: which boxes are used, and a box with its image.

Training from images and ``siamkd prepare`` choose alike because they both choose here.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from siamkd_core.box import BoolArray, Box, FloatArray
from siamkd_core.crop import mean_colour
from siamkd_core.image import Image


class View(NamedTuple):
    """A target in an image: the box in its pixels, and the (3,) BGR colour that lies around it."""

    image: Image
    box: Box
    fill: FloatArray


def look(image: Image, box: Box, max_share: float) -> View | None:
    """The target ``box`` of an image; None if it covers more than ``max_share`` of it."""
    if box.w * box.h > max_share * image.shape[0] * image.shape[1]:
        return None
    return View(image, box, mean_colour(image))


def usable(boxes: FloatArray, min_side: float) -> BoolArray:
    """(N,) which of the boxes (N, 4) have no side under ``min_side`` pixels; absent ones do not."""
    with np.errstate(invalid="ignore"):
        return np.asarray((boxes[:, 2:] >= min_side).all(axis=1))


def random_box(width: int, height: int, min_side: float, rng: np.random.Generator) -> Box:
    """A box inside an image of ``width`` x ``height``: sides log-uniform from ``min_side`` to half
    the image's, with an aspect ratio of at most 3, its place uniform."""
    limits = (max(min_side, 0.5 * width), max(min_side, 0.5 * height))
    w = min_side * (limits[0] / min_side) ** rng.random()
    low, high = max(min_side, w / 3), min(limits[1], 3 * w)
    h = low * (high / low) ** rng.random() if high > low else low
    x, y = rng.random(2) * (max(width - w, 0.0), max(height - h, 0.0))
    return Box(float(x), float(y), float(w), float(h))
