"""The picture for people: the image with the target's box, small and seldom."""

from __future__ import annotations

import time

import cv2
import numpy as np

from siamkd_core.box import Box
from siamkd_core.draw import LOST, PREDICTION, draw_track
from siamkd_core.image import Image
from siamkd_core.presence import State
from siamkd_core.tracker import Track


class Pace:
    """Lets something happen at most `rate` times a second, on the steady clock."""

    def __init__(self) -> None:
        self._due = 0.0

    def due(self, rate: float) -> bool:
        now = time.monotonic()
        if now < self._due:
            return False
        self._due = now + 1 / rate
        return True


def draw_overlay(image: Image, track: Track | None, state: State, max_width: int) -> Image:
    """The image, shrunk to `max_width`, with box, score and state.

    Args:
        image: (H, W, 3) uint8 BGR; not changed.
        track: None where nothing is reported.
    """
    height, width = image.shape[:2]
    factor = min(1.0, max_width / width)
    if factor < 1:
        size = (round(width * factor), max(1, round(height * factor)))
        image = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)
    if track is None:
        return draw_track(image, None, corner=state.value)
    box = Box(*(factor * value for value in track.box))
    colour = PREDICTION if state is State.TRACKING else LOST
    return draw_track(image, box, track.score, colour=colour, corner=state.value)
