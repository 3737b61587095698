"""Time per frame of several models in one run, fair to each.

The models take turns in short rounds, each round another one first, so whatever else the machine
does meets all of them; their ratios are taken within a round.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from siamkd_core.box import Box
from siamkd_core.image import Image
from siamkd_core.tracker import Tracker

BOX = Box(280.0, 140.0, 80.0, 80.0)
"""The target in :func:`picture`."""


@dataclass(frozen=True)
class Timing:
    """Seconds of one model's frames.

    Attributes:
        frames: (rounds, frames) float64, all of `Tracker.update`.
        network: (rounds, frames) float64, the stage ``model`` of it.
        second: (rounds, frames) float64, a look at what is in a box, which a score may take too.
    """

    frames: NDArray[np.float64]
    network: NDArray[np.float64]
    second: NDArray[np.float64]

    @property
    def median(self) -> float:
        return float(np.median(self.frames))

    @property
    def p95(self) -> float:
        return float(np.percentile(self.frames, 95))

    @property
    def network_median(self) -> float:
        return float(np.median(self.network))

    @property
    def second_median(self) -> float:
        return float(np.median(self.second))

    def ratio(self, other: Timing) -> float:
        """How many times as long a frame takes: the median over the rounds of the quotient of the
        two medians of a round."""
        quotients = np.median(self.frames, axis=1) / np.median(other.frames, axis=1)
        return float(np.median(quotients))


def measure(
    trackers: Mapping[str, Tracker],
    rounds: int,
    frames: int,
    on_round: Callable[[], None] = lambda: None,
) -> dict[str, Timing]:
    """Track ``frames`` frames with each, ``rounds`` times; ``on_round`` is called after each round.

    Every frame is searched at the same place for a target of the same size, and an adapting
    exemplar does not learn and nothing is looked at turned or again: otherwise the cost would hang
    on what a model sees. A round starts with an untimed frame.

    Args:
        trackers: by name, as :func:`uncalibrated` makes them where some would take a second look in
            their frames and some would not; that look is timed by itself.
        rounds, frames: at least 1.
    """
    image = picture()
    times: dict[str, list[list[tuple[float, float, float]]]] = {name: [] for name in trackers}
    for tracker in trackers.values():
        tracker.init(image, BOX)
    names = list(trackers)
    for number in range(rounds):
        first = number % len(names)
        for name in names[first:] + names[:first]:
            _frame(trackers[name], image)
            times[name].append([_frame(trackers[name], image) for _ in range(frames)])
        on_round()
    taken = {name: np.array(rows) for name, rows in times.items()}
    return {name: Timing(*np.moveaxis(rows, -1, 0)) for name, rows in taken.items()}


def uncalibrated(tracker: Tracker) -> Tracker:
    """The same without a calibrated score, so that a frame is the search alone."""
    return Tracker(tracker.backend, replace(tracker.card, score=None))


def picture() -> Image:
    """(360, 640, 3) uint8 BGR, smooth noise, always the same."""
    noise = np.random.default_rng(0).integers(0, 256, (360, 640, 3), np.uint8)
    return np.asarray(cv2.GaussianBlur(noise, (0, 0), 3), np.uint8)


def _frame(tracker: Tracker, image: Image) -> tuple[float, float, float]:
    """Seconds of a frame, of the network in it, and of a second look."""
    tracker.move_to(BOX)
    start = time.perf_counter()
    track = tracker.update(image, learn=False, turn=False, revisit=False)
    found = time.perf_counter()
    tracker.alike(image, BOX)
    return found - start, track.seconds["model"], time.perf_counter() - found
