"""A picture of the same place without its target: what a camera sees after the target has gone."""

from __future__ import annotations

import numpy as np

from siamkd_core.box import Box
from siamkd_core.image import Image

MARGIN = 0.15
"""Share of the box's sides that is covered beyond each of them: annotated boxes are tight, and hide
neither a shadow nor the blur of a moving edge."""


def without_target(image: Image, box: Box, rng: np.random.Generator) -> Image | None:
    """``image`` with its target covered by an equally large piece from directly beside it.

    The piece is the one to the left or right, above or below, each as often where it lies inside
    of the image. None if none does, as the target fills too much of the image, or if the target is
    not in it.

    Args:
        image: (H, W, 3) uint8; it is not changed.
        box: of the target, in pixels.
        rng: chooses the piece.
    """
    height, width = image.shape[:2]
    x0, y0 = np.floor((box.x - MARGIN * box.w, box.y - MARGIN * box.h)).clip(0).astype(int)
    x1 = min(int(np.ceil(box.x + (1 + MARGIN) * box.w)), width)
    y1 = min(int(np.ceil(box.y + (1 + MARGIN) * box.h)), height)
    if x1 <= x0 or y1 <= y0:
        return None
    w, h = x1 - x0, y1 - y0
    beside = [
        (x, y)
        for x, y in ((x0 - w, y0), (x1, y0), (x0, y0 - h), (x0, y1))
        if 0 <= x <= width - w and 0 <= y <= height - h
    ]
    if not beside:
        return None
    x, y = beside[int(rng.integers(len(beside)))]
    out = image.copy()
    out[y0:y1, x0:x1] = image[y : y + h, x : x + w]
    return out
