"""A follower without ROS around it, and a tracker that is told what to find."""

from __future__ import annotations

import itertools
import time
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np

from siamkd_core.box import Box, check_target_box
from siamkd_core.presence import State
from siamkd_core.tracker import Track
from siamkd_core.tracker_config import SearchConfig
from siamkd_ros.diagnostics import Report
from siamkd_ros.follower import Follower
from siamkd_ros.frame import SECOND, Frame, FrameRing
from siamkd_ros.inbox import Inbox, Order, Start
from siamkd_ros.parameters import TrackerParameters
from siamkd_ros.rejected import Rejected
from siamkd_ros.statistics import Statistics

RATE = 30
BOX = Box(10, 10, 20, 20)


class FakeTracker:
    """Moves its box one pixel to the right with every image."""

    config = SearchConfig()

    def __init__(self) -> None:
        self.box: Box | None = None
        self.score = 0.9
        self.cost = 0.0
        self.events: list[str] = []
        self.fails: Exception | None = None
        self.values: list[int] = []  # first byte of every image seen, to tell them apart

    @property
    def initialised(self) -> bool:
        return self.box is not None

    def init(self, image: Any, box: Box) -> None:
        self.box = check_target_box(box, image.shape[1], image.shape[0])
        self.values = [int(image[0, 0, 0])]

    def find(
        self, image: Any, learn: bool = True, turn: bool = True, revisit: bool = True
    ) -> Track:
        if self.fails:
            raise self.fails
        time.sleep(self.cost)
        assert self.box
        self.values.append(int(image[0, 0, 0]))
        self.box = self.box._replace(x=self.box.x + 1)
        seconds = {"crop": 0.001, "model": 0.002, "post": 0.003, "verify": 0.001}
        return Track(box=self.box, score=self.score, value=1.0, peak=1.0, seconds=seconds)

    def learn(self) -> float:
        self.events.append("learn")
        return 0.004

    def move_to(self, box: Box, turned: float = 0.0) -> None:
        self.box = box

    def reset(self) -> None:
        self.box = None


class Rig:
    """A follower with its surroundings; notes everything that goes out."""

    def __init__(self, **parameters: Any) -> None:
        self.tracker = FakeTracker()
        self.inbox = Inbox()
        self.ring = FrameRing(10.0, 10**9)
        self.statistics = Statistics()
        self.parameters = replace(TrackerParameters(), **parameters)
        self.targets: list[tuple[Any, Track | None, str, str]] = []
        self.reports: list[Report] = []
        self.refused: list[str] = []
        self.errors: list[Exception] = []
        self.clock = 0
        self.drawn: list[tuple[int, Track | None]] = []
        self.drawing = 0  # nanoseconds
        self.follower = Follower(
            self.tracker, self.inbox, self.ring, self.statistics, self, lambda: self.parameters
        )
        self._count = itertools.count(1)
        self._began = time.monotonic()

    def target(self, frame: Frame, track: Track | None, target: str, label: str) -> None:
        self.tracker.events.append("publish")
        self.targets.append((frame.message.header, track, target, label))

    def picture(self, frame: Frame, track: Track | None) -> None:
        self.drawn.append((self.clock, track))
        self.clock += self.drawing

    def status(self, report: Report) -> None:
        self.reports.append(report)

    def rejected(self, error: Rejected) -> None:
        self.refused.append(error.reason)

    def failed(self, error: Exception) -> None:
        self.errors.append(error)

    def now(self) -> int:
        return self.clock

    def frame(
        self,
        seconds: float | None = None,
        size: tuple[int, int] = (64, 48),
        arrives_in: float = 0.0,
    ) -> Frame:
        """The next image; its first byte is its number."""
        number = next(self._count)
        stamp = round((number / RATE if seconds is None else seconds) * SECOND)
        data = np.full((size[1], size[0], 3), number % 256, np.uint8).tobytes()
        message = SimpleNamespace(
            header=SimpleNamespace(stamp=stamp, frame_id=f"frame{number}"),
            height=size[1],
            width=size[0],
            encoding="bgr8",
            is_bigendian=0,
            step=3 * size[0],
            data=data,
        )
        frame = Frame(number, stamp, self._began + arrives_in + number / RATE, message, size)
        self.ring.append(frame)
        return frame

    def feed(self, count: int = 1, **kind: Any) -> None:
        for _ in range(count):
            self.follower.step([], self.frame(**kind))

    def order(self, *orders: Order) -> None:
        self.follower.step(list(orders), None)

    def start(self, stamp: float = 0.0, box: Box = BOX, received: float | None = None) -> None:
        received = time.monotonic() if received is None else received
        self.order(Start(box, round(stamp * SECOND), "dog", received))

    @property
    def state(self) -> State:
        return self.follower.report().state
