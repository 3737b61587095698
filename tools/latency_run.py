"""One run of the latency measurement: what was published, what came back when, and its figures."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

NETWORK = ("model", "verify")
"""Stages between an image and its box in which the network runs; the second with its crop."""


@dataclass
class Run:
    """What one run measured. Stamps and arrivals in nanoseconds of one clock, the rest in seconds.

    Attributes:
        published: stamps of all images of the camera.
        results: (stamp, arrival) of what the receiver got.
        found: results with a box.
        network: time in the network, of frames of a tracker, by their stamp.
        faults: page faults of a tracker's process until a frame, by its stamp.
        timing, device: the node's own diagnostics.
    """

    size: tuple[int, int]
    rate: float
    published: list[int] = field(default_factory=list)
    results: list[tuple[int, int]] = field(default_factory=list)
    found: int = 0
    network: dict[int, float] = field(default_factory=dict)
    faults: dict[int, int] = field(default_factory=dict)
    timing: dict[str, str] = field(default_factory=dict)
    device: dict[str, str] = field(default_factory=dict)

    @property
    def latencies(self) -> list[float]:
        return [(arrival - stamp) / 1e9 for stamp, arrival in self.results]

    @property
    def beyond(self) -> list[float]:
        """The latencies of the frames whose time in the network is known, without that time."""
        return [
            (arrival - stamp) / 1e9 - self.network[stamp]
            for stamp, arrival in self.results
            if stamp in self.network
        ]

    @property
    def faults_per_image(self) -> float:
        """Page faults between the first and the last result, for each image of the camera that
        was published meanwhile; nan of fewer than two."""
        noted = [stamp for stamp, _ in self.results if stamp in self.faults]
        if len(noted) < 2:
            return math.nan
        first, last = noted[0], noted[-1]
        images = sum(first < stamp <= last for stamp in self.published)
        return (self.faults[last] - self.faults[first]) / images

    @property
    def out_of_order(self) -> int:
        stamps = [stamp for stamp, _ in self.results]
        return sum(later <= earlier for earlier, later in pairwise(stamps))

    @property
    def restamped(self) -> int:
        published = set(self.published)
        return sum(stamp not in published for stamp, _ in self.results)

    @property
    def share(self) -> float:
        """Of the images published while results were counted, how many had one."""
        first, last = self.results[0][0], self.results[-1][0]
        return len(self.results) / sum(first <= stamp <= last for stamp in self.published)


def median_p99(seconds: list[float]) -> tuple[float, float]:
    """Both, in milliseconds (linear interpolation)."""
    median, p99 = np.percentile(seconds, (50, 99)) * 1e3
    return float(median), float(p99)
