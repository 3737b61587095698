"""The scene of the measurements: a vivid patch that circles over a blurred background."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from siamkd_core.image import Image

CLIP_FRAMES = 60
SIDE = 60
RADIUS = 40


def place(n: int, width: int, height: int) -> tuple[int, int]:
    """Left top corner of the target in frame `n`: a circle over the clip's length, 4 px a frame."""
    angle = 2 * math.pi * n / CLIP_FRAMES
    x = (width - SIDE) / 2 + RADIUS * math.cos(angle)
    y = (height - SIDE) / 2 + RADIUS * math.sin(angle)
    return int(x), int(y)


def images(width: int, height: int) -> Iterator[Image]:
    """The frames of one round, (height, width, 3) uint8 BGR."""
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (height, width, 3), np.uint8)
    background = cv2.normalize(cv2.GaussianBlur(noise, (0, 0), 4), noise, 60, 190, cv2.NORM_MINMAX)
    cells = rng.integers(0, 256, (8, 8, 3), np.uint8)
    patch = cv2.resize(cells, (SIDE, SIDE), interpolation=cv2.INTER_NEAREST)
    for n in range(CLIP_FRAMES):
        image = np.array(background, np.uint8)
        x, y = place(n, width, height)
        image[y : y + SIDE, x : x + SIDE] = patch
        yield image


def write_clip(folder: Path, width: int, height: int) -> Path:
    """The frames as uncompressed images, which are cheap to read."""
    folder.mkdir()
    for n, image in enumerate(images(width, height)):
        cv2.imwrite(str(folder / f"{n:03d}.bmp"), image)
    return folder
