"""The inference thread's work: owns the tracker, takes images and orders, gives results back.

No ROS in it: results go out through `Outputs`, so it is tested without a graph.
"""

from __future__ import annotations

import math
import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Protocol

from siamkd_core.box import Box
from siamkd_core.errors import ImageError
from siamkd_core.image import Image
from siamkd_core.presence import Presence, State
from siamkd_core.tracker import Track
from siamkd_ros.boxes import check_box
from siamkd_ros.diagnostics import Report
from siamkd_ros.frame import SECOND, Frame, FrameRing
from siamkd_ros.image_decode import decode
from siamkd_ros.inbox import Drop, Enable, Inbox, Order, Start
from siamkd_ros.parameters import TrackerParameters
from siamkd_ros.rejected import Rejected
from siamkd_ros.statistics import Statistics

# A box on an old frame is caught up within this time, skipping frames if it must.
CATCH_UP = 0.5
# How long a box may wait for the frame that it names.
START_PATIENCE = 1.0
SAME_ASPECT = 0.01


class TargetTracker(Protocol):
    """What is used of `siamkd_core.tracker.Tracker`."""

    @property
    def initialised(self) -> bool: ...

    def init(self, image: Image, box: Box) -> None: ...

    def update(self, image: Image) -> Track: ...

    def move_to(self, box: Box) -> None: ...

    def reset(self) -> None: ...


class Outputs(Protocol):
    """Where results go. Called from the inference thread."""

    def target(self, header: Any, track: Track | None, target: str, label: str) -> None:
        """One processed image: the box to report, or None for nothing there."""

    def status(self, report: Report) -> None:
        """The state changed, or a box was refused."""

    def rejected(self, error: Rejected) -> None:
        """An image or box was refused."""

    def failed(self, error: Exception) -> None:
        """Something unexpected; the work goes on."""

    def now(self) -> int:
        """The node's clock, nanoseconds."""
        ...


class Follower:
    """Follows one target through the images of an inbox.

    Attributes:
        enabled: False while images are left alone.
    """

    def __init__(
        self,
        tracker: TargetTracker,
        inbox: Inbox,
        ring: FrameRing,
        statistics: Statistics,
        outputs: Outputs,
        parameters: Callable[[], TrackerParameters],
    ) -> None:
        self.enabled = True
        self._tracker = tracker
        self._inbox = inbox
        self._ring = ring
        self._statistics = statistics
        self._outputs = outputs
        self._parameters = parameters
        self._announcing = threading.Lock()
        self._presence = Presence(parameters().presence)
        self._pending: Start | None = None
        self._done = 0  # sequence of the newest frame that was worked on
        self._before: Frame | None = None  # the frame whose elapsed time was counted last
        self._size = (0, 0)  # (width, height) that the target's box belongs to
        self._seen = Box(0.0, 0.0, 0.0, 0.0)  # where the target was last seen for sure
        self._score = 0.0
        self._target = ""
        self._label = ""
        self._since = 0.0
        self._reason = "waiting for a target on ~/init"
        # Ids differ between runs too: a restarted node's first target is not the old first one.
        self._run = secrets.token_hex(3)
        self._starts = 0

    def run(self) -> None:
        """Work until the inbox is closed. Nothing that an image or box does ends it."""
        while (work := self._inbox.take()) is not None:
            try:
                self.step(*work)
            except Exception as error:  # the node must outlive any one frame
                self._statistics.count("errors")
                self._outputs.failed(error)

    def step(self, orders: list[Order], frame: Frame | None) -> None:
        """Obey the orders, then work on the image."""
        for order in orders:
            self._obey(order)
        if self._pending and self.enabled:
            self._start(self._pending)
        if frame and frame.sequence > self._done:
            self._process(frame)

    def report(self) -> Report:
        """The state now."""
        paused = not self.enabled
        return Report(
            State.IDLE if paused else self._presence.state,
            "disabled by ~/enable" if paused else self._reason,
            self._since,
            self._target,
            self._score,
            self._presence.unseen,
        )

    def announce(self) -> None:
        """Send `~/status`."""
        # the state is read and sent under one lock: the last status sent is latched, so it must
        # not be an older state than another thread's
        with self._announcing:
            self._outputs.status(self.report())

    def refuse(self, error: Rejected) -> None:
        """A box cannot be used: count it and say so in the status; a target that is there stays.

        May be called from another thread.
        """
        self._reject(error)
        with self._announcing:
            self._outputs.status(replace(self.report(), reason=f"box refused: {error}"))

    def _obey(self, order: Order) -> None:
        if isinstance(order, Drop):
            self._drop(order.reason)
        elif isinstance(order, Start) and not self.enabled:
            self.refuse(Rejected("disabled", "a box was given while disabled by ~/enable"))
        elif isinstance(order, Start):
            self._pending = order
        elif isinstance(order, Enable) and order.enabled != self.enabled:
            self.enabled = order.enabled
            self._before = None
            self._changed(self._reason)

    def _start(self, start: Start) -> None:
        """Take the new target if its frame is there; the old one stays until that worked."""
        self._pending = None
        try:
            frame = self._ring.find(start.stamp)
            if frame is None:
                if start.stamp and time.monotonic() - start.received > START_PATIENCE:
                    raise Rejected("box_frame_missing", "the frame the box names did not arrive")
                self._pending = start
                return
            image = decode(frame.message)
            size = (image.shape[1], image.shape[0])
            self._tracker.init(image, check_box(start.box, *size))
        except Rejected as error:
            self.refuse(error)
            return
        except ImageError as error:
            self.refuse(Rejected("unusable", str(error)))
            return
        self._starts += 1
        self._target, self._label = f"{self._run}-{self._starts}", start.label
        self._size, self._seen, self._before = size, start.box, frame
        self._presence = Presence(self._parameters().presence)
        self._presence.start()
        self._score = 1.0
        began = time.monotonic()
        looked = self._catch_up(frame)
        text = f"target {self._target} given"
        if looked:
            spent = time.monotonic() - began
            text += f" on an earlier image, caught up over {looked} images in {spent:.2f} s"
        self._changed(text)

    def _catch_up(self, frame: Frame) -> int:
        """Follow through the kept frames to the newest; ends in about CATCH_UP seconds.

        Returns:
            how many frames were looked at.
        """
        deadline = time.monotonic() + CATCH_UP
        cost, looked = 0.0, 0
        while (backlog := self._ring.after(frame.sequence)) and not self._inbox.has_orders:
            began = time.monotonic()
            remaining = max(deadline - began, cost)
            stride = math.ceil(len(backlog) * cost / remaining) if remaining > 0 else len(backlog)
            frame = backlog[min(max(stride, 1), len(backlog)) - 1]
            self._process(frame)
            cost = max(cost, time.monotonic() - began)
            looked += 1
            # what came meanwhile is the inbox's: a slow tracker would never reach the newest
            if frame is backlog[-1]:
                break
        if looked:
            self._statistics.count("catch_ups")
        return looked

    def _process(self, frame: Frame) -> None:
        """Find the target, judge its presence, publish. A frame that is older than one that was
        published already (catching up) is not published: the output's order stays the camera's."""
        if not self.enabled:
            return
        began = time.monotonic()
        try:
            track = self._follow(frame) if self._tracker.initialised else None
        except Rejected as error:
            self._reject(error)
            return
        if frame.sequence <= self._done:
            return
        self._done = frame.sequence
        shown = track if self._presence.state in (State.TRACKING, State.UNCERTAIN) else None
        worked = time.monotonic()
        self._outputs.target(frame.message.header, shown, self._target, self._label)
        published = time.monotonic()
        self._statistics.count("processed")
        self._statistics.timed({"wait": began - frame.arrived, "publish": published - worked})
        if frame.stamp:
            latency = (self._outputs.now() - frame.stamp) / SECOND
            self._statistics.latency(latency, self._parameters().latency_deadline)

    def _follow(self, frame: Frame) -> Track | None:
        """Find the target in a frame; None if the frame's size made us drop it.

        Raises:
            Rejected: the frame is unusable; the target stays.
        """
        began = time.monotonic()
        image = decode(frame.message)
        self._fit_size(image)
        if not self._tracker.initialised:
            return None
        decoded = time.monotonic()
        try:
            track = self._tracker.update(image)
        except ImageError as error:
            raise Rejected("unusable", str(error)) from error
        self._statistics.timed({"decode": decoded - began, **track.seconds})
        self._judge(track, self._elapsed(frame))
        return track

    def _judge(self, track: Track, elapsed: float) -> None:
        state = self._presence.state
        self._presence.config = config = self._parameters().presence
        self._score = track.score
        now = self._presence.update(track.score, elapsed)
        if now is State.TRACKING:
            self._seen = track.box
        elif now is State.LOST and not track.score >= config.recover_score:
            # what is not the target must not be followed: keep looking where it was last seen
            self._tracker.move_to(self._seen)
        if now is not state:
            self._changed(f"score {track.score:.2f}, last seen {self._presence.unseen:.1f} s ago")

    def _elapsed(self, frame: Frame) -> float:
        """Seconds of video since the frame before; by arrival where the stamps do not say."""
        before, self._before = self._before, frame
        if before is None:
            return 0.0
        if frame.stamp > before.stamp > 0:
            return (frame.stamp - before.stamp) / SECOND
        return max(frame.arrived - before.arrived, 0.0)

    def _fit_size(self, image: Image) -> None:
        """The camera changed its size: carry the target over if the view is the same, else drop."""
        old, new = self._size, (image.shape[1], image.shape[0])
        if new == old:
            return
        factor = new[0] / old[0]
        if abs(new[1] / old[1] / factor - 1) > SAME_ASPECT:
            self._drop(f"the image changed from {old[0]}x{old[1]} to {new[0]}x{new[1]}")
            return
        self._seen = Box(*(factor * value for value in self._seen))
        self._size = new
        self._tracker.move_to(self._seen)

    def _drop(self, reason: str) -> None:
        self._tracker.reset()
        self._presence.stop()
        self._pending = None
        self._target, self._label, self._score, self._before = "", "", 0.0, None
        self._changed(reason)

    def _reject(self, error: Rejected) -> None:
        self._statistics.reject(error.reason)
        self._outputs.rejected(error)

    def _changed(self, reason: str) -> None:
        self._reason = reason
        self._since = self._outputs.now() / SECOND
        self.announce()
