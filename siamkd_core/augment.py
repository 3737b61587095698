"""Augmentation of a training crop: geometry as a 2x2 map for the one crop, then its colours."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

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
    """

    stretch: float = 0.05
    shift: float = 4.0
    rotate: float = 0.0
    flip: float = 0.0
    colour: float = 0.0
    grey: float = 0.0
    blur: float = 0.0

    def __post_init__(self) -> None:
        for name in ("stretch", "colour", "flip", "grey", "blur"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"augment.{name} must lie in 0..1, got {getattr(self, name)}")
        if self.shift < 0 or self.rotate < 0:
            raise ConfigError("augment.shift and augment.rotate must not be negative")


def random_linear(
    config: AugmentConfig, rng: np.random.Generator, flip: bool
) -> NDArray[np.float64]:
    """(2, 2) map of output offsets to image offsets: stretch, then rotation, then the flip."""
    stretch = np.diag(rng.uniform(1 - config.stretch, 1 + config.stretch, 2))
    angle = math.radians(rng.uniform(-config.rotate, config.rotate))
    rotation = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    mirror = np.diag([-1.0 if flip else 1.0, 1.0])
    return np.asarray(rotation @ stretch @ mirror, float)


def change_colours(
    crop: Image, config: AugmentConfig, rng: np.random.Generator, grey: bool
) -> Image:
    """Blur and colour changes of a uint8 BGR crop; returns a new array (or ``crop`` unchanged)."""
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
    return crop


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
