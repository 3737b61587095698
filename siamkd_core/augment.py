"""Augmentation of a training crop: geometry as a 2x2 map for the one crop, then its pixels.

A change whose strength or probability is 0 takes no random number, so that an old recipe gives the
same pairs when a new kind of change is added.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from siamkd_core.box import Box
from siamkd_core.crop import rotation
from siamkd_core.errors import ConfigError
from siamkd_core.image import Image


@dataclass(frozen=True)
class AugmentConfig:
    """How much each crop of a pair is changed; the defaults are the published SiamFC recipe.

    Attributes:
        stretch: each side is scaled by its own factor, uniform in 1 -+ stretch.
        shift: the target's displacement in the search region, uniform in -+shift pixels per axis.
        rotate: degrees, uniform in -+rotate.
        flip: probability that both crops of a pair are mirrored left to right.
        colour: strength of brightness, contrast, saturation and gamma changes, each crop its own.
        grey: probability that both crops of a pair lose their colour.
        blur: probability of a Gaussian or motion blur, each crop its own.
        occlude: probability that a patch hides part of the search region, see :func:`occlude`.
        jpeg: probability of JPEG compression, each crop its own.
        jpeg_quality: lowest and highest JPEG quality, 1..100.
    """

    stretch: float = 0.05
    shift: float = 4.0
    rotate: float = 0.0
    flip: float = 0.0
    colour: float = 0.0
    grey: float = 0.0
    blur: float = 0.0
    occlude: float = 0.0
    jpeg: float = 0.0
    jpeg_quality: tuple[int, int] = (30, 90)

    def __post_init__(self) -> None:
        for name in ("stretch", "colour", "flip", "grey", "blur", "occlude", "jpeg"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"augment.{name} must lie in 0..1, got {getattr(self, name)}")
        if self.shift < 0 or self.rotate < 0:
            raise ConfigError("augment.shift and augment.rotate must not be negative")
        low, high = self.jpeg_quality
        if not 1 <= low <= high <= 100:
            raise ConfigError(
                f"augment.jpeg_quality must be 1 <= lowest <= highest <= 100, got {low}, {high}"
            )


def random_linear(
    config: AugmentConfig, rng: np.random.Generator, flip: bool
) -> NDArray[np.float64]:
    """(2, 2) map of output offsets to image offsets: stretch, then rotation, then the flip."""
    stretch = np.diag(rng.uniform(1 - config.stretch, 1 + config.stretch, 2))
    angle = math.radians(rng.uniform(-config.rotate, config.rotate))
    mirror = np.diag([-1.0 if flip else 1.0, 1.0])
    return np.asarray(rotation(angle) @ stretch @ mirror, float)


def reach(config: AugmentConfig, size: int) -> float:
    """Farthest that any crop of ``size`` pixels reaches from its target, along either image axis.

    In pixels of the crop: the corner of the square, displaced by the shift, stretched, then turned
    to where the sum of its parts along the axis is greatest.
    """
    angle = math.radians(min(config.rotate, 45.0))
    turned = math.cos(angle) + math.sin(angle)
    return (size / 2 + config.shift) * (1 + config.stretch) * turned


def change_colours(
    crop: Image, config: AugmentConfig, rng: np.random.Generator, grey: bool
) -> Image:
    """Blur, colour and JPEG changes of a uint8 BGR crop; a new array (or ``crop`` unchanged)."""
    if config.blur and rng.random() < config.blur:
        crop = _blur(crop, rng)
    if grey:
        crop = np.asarray(cv2.cvtColor(cv2.cvtColor(crop, cv2.COLOR_BGR2GRAY), cv2.COLOR_GRAY2BGR))
    if config.colour:
        s = config.colour
        saturation = 0.0 if grey else rng.uniform(-s, s)
        if saturation:
            plain = cv2.cvtColor(cv2.cvtColor(crop, cv2.COLOR_BGR2GRAY), cv2.COLOR_GRAY2BGR)
            crop = np.asarray(cv2.addWeighted(crop, 1 + saturation, plain, -saturation, 0))
        # contrast, brightness and gamma act on single values: one table of 256
        value = np.arange(256) / 255
        value = value ** math.exp(rng.uniform(-s, s) / 2)
        value = (value - 0.5) * (1 + rng.uniform(-s, s)) + 0.5 + rng.uniform(-s, s) / 3
        crop = np.asarray(cv2.LUT(crop, np.clip(value * 255, 0, 255).astype(np.uint8)))
    if config.jpeg and rng.random() < config.jpeg:
        low, high = config.jpeg_quality
        quality = int(rng.integers(low, high + 1))
        _, packed = cv2.imencode(".jpg", crop, [cv2.IMWRITE_JPEG_QUALITY, quality])
        crop = np.asarray(cv2.imdecode(packed, cv2.IMREAD_COLOR), np.uint8)
    return crop


def occlude(crop: Image, target: Box, fill: NDArray[np.float64], rng: np.random.Generator) -> Image:
    """Hide a rectangle of a search region, on the target or beside it; returns a new array.

    The sides are uniform in 0.2..0.7 of the target's, so that at least half of it stays in view;
    the centre is uniform in twice the target's box. One of three things takes its place, each as
    often: the mean colour, noise, or another piece of the crop.

    Args:
        crop: (S, S, 3) uint8.
        target: in pixels of the crop.
        fill: (3,) mean colour of the image.
    """
    side = crop.shape[0]
    width, height = np.rint(rng.uniform(0.2, 0.7, 2) * target[2:]).clip(1, side).astype(int)
    centre = (target.cx, target.cy) + rng.uniform(-1, 1, 2) * target[2:]
    room = (side - width, side - height)
    left, top = np.rint(centre - (width / 2, height / 2)).clip(0, room).astype(int)
    kind = rng.integers(3)
    patch: NDArray[np.generic]
    if kind == 0:
        patch = np.rint(fill).astype(np.uint8)
    elif kind == 1:
        patch = rng.integers(0, 256, (height, width, 3), np.uint8)
    else:
        x, y = rng.integers(0, side - width + 1), rng.integers(0, side - height + 1)
        patch = crop[y : y + height, x : x + width]
    out = crop.copy()
    out[top : top + height, left : left + width] = patch
    return out


def _blur(crop: Image, rng: np.random.Generator) -> Image:
    if rng.random() < 0.5:
        sigma = rng.uniform(0.5, 2.0)
        return np.asarray(cv2.GaussianBlur(crop, (0, 0), sigma), np.uint8)
    length = int(rng.integers(3, 12))
    kernel = np.zeros((length, length), np.float32)
    middle = (length - 1) / 2
    angle = rng.uniform(0, math.pi)
    for t in np.linspace(-middle, middle, 2 * length):
        row = round(middle + t * math.sin(angle))
        kernel[row, round(middle + t * math.cos(angle))] = 1
    return np.asarray(cv2.filter2D(crop, -1, kernel / kernel.sum()), np.uint8)
