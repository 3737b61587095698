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
from typing import Protocol

from siamkd_core.errors import ImageError, first_line
from siamkd_core.image import Image
from siamkd_core.longterm import LongTermTracker, ShortTermTracker
from siamkd_core.presence import State
from siamkd_core.tracker import Track
from siamkd_ros.any_image import decode_image
from siamkd_ros.boxes import check_box
from siamkd_ros.diagnostics import Report
from siamkd_ros.frame import SECOND, Frame, FrameRing
from siamkd_ros.inbox import Drop, Enable, GaveWay, Inbox, Order, Start
from siamkd_ros.parameters import TrackerParameters
from siamkd_ros.rejected import REFUSED, Rejected
from siamkd_ros.statistics import Statistics

# A box on an old frame is caught up within this time, skipping frames if it must.
CATCH_UP = 0.5
# How long a box may wait for the frame that it names.
START_PATIENCE = 1.0
SAME_ASPECT = 0.01


class Outputs(Protocol):
    """Where results go. Called from the inference thread."""

    def target(self, frame: Frame, track: Track | None, target: str, label: str) -> None:
        """One processed image: the box to report, or None for nothing there."""

    def picture(self, frame: Frame, track: Track | None) -> None:
        """The same for people, after the result is out and its time was taken."""

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
        tracker: ShortTermTracker,
        inbox: Inbox,
        ring: FrameRing,
        statistics: Statistics,
        outputs: Outputs,
        parameters: Callable[[], TrackerParameters],
    ) -> None:
        self.enabled = True
        self._tracker = LongTermTracker(tracker, parameters().presence)
        self._inbox = inbox
        self._ring = ring
        self._statistics = statistics
        self._outputs = outputs
        self._parameters = parameters
        self._announcing = threading.Lock()
        self._pending: Start | None = None
        self._done = 0  # sequence of the newest frame that was worked on
        self._before: Frame | None = None  # the frame whose elapsed time was counted last
        self._size = (0, 0)  # (width, height) that the target's box belongs to
        self._target = ""
        self._label = self._box_id = ""
        self._since = 0.0
        self._reason = "waiting for a target on ~/init"
        # Ids differ between runs too: a restarted node's first target is not the old first one.
        self._run = secrets.token_hex(3)
        self._starts = 0

    def run(self) -> None:
        """Work until the inbox is closed. Nothing that an image or box does ends it."""
        while (work := self._inbox.take(self._patience())) is not None:
            try:
                self.step(*work)
            except Exception as error:  # the node must outlive any one frame
                self._fail(error)

    def step(self, orders: list[Order], frame: Frame | None) -> None:
        """Obey the orders, then work on the image."""
        for order in orders:
            self._obey(order)
        if self._pending:
            self._start(self._pending)
        if frame and frame.sequence > self._done:
            self._process(frame)

    def report(self) -> Report:
        """The state now."""
        paused = not self.enabled
        return Report(
            State.IDLE if paused else self._tracker.state,
            "disabled by ~/enable" if paused else self._reason,
            self._since,
            self._target,
            self._box_id,
            self._tracker.score,
            self._tracker.unseen,
        )

    def announce(self) -> None:
        """Send `~/status`."""
        # the state is read and sent under one lock: the last status sent is latched, so it must
        # not be an older state than another thread's
        with self._announcing:
            self._outputs.status(self.report())

    def refuse(self, error: Rejected, box_id: str) -> None:
        """A box cannot be used: count it and say so in the status; a target that is there stays.

        May be called from another thread.

        Args:
            box_id: of the message that it came in.
        """
        self._reject(error)
        with self._announcing:
            refused = replace(self.report(), reason=f"{REFUSED}: {error}", box_id=box_id)
            self._outputs.status(refused)

    def _obey(self, order: Order) -> None:
        if isinstance(order, Drop):
            self._drop(order.reason)
        elif isinstance(order, Start) and not self.enabled:
            error = Rejected("disabled", "a box was given while disabled by ~/enable")
            self.refuse(error, order.box_id)
        elif isinstance(order, Start):
            self._wait_with(order)
        elif isinstance(order, GaveWay):
            self._refuse_replaced(order)
        elif isinstance(order, Enable) and order.enabled != self.enabled:
            self._give_up_pending("disabled by ~/enable")
            self.enabled = order.enabled
            self._before = None
            self._changed(self._reason)

    def _wait_with(self, start: Start) -> None:
        """Let a box wait for its image. The one that waits gives way; sent again, it waits on."""
        waiting, self._pending = self._pending, start
        if waiting and start.resends(waiting):
            self._pending = waiting  # its patience runs on
        elif waiting:
            self._refuse_replaced(GaveWay(1, (waiting.box_id,)))

    def _refuse_replaced(self, replaced: GaveWay) -> None:
        """Boxes gave way to others: count each, and say so to each that has a name of its own."""
        told = dict.fromkeys(replaced.box_ids)
        for _ in range(replaced.count - len(told)):
            self._statistics.reject("box_replaced")
        for box_id in told:
            self.refuse(Rejected("box_replaced", "another box took its place"), box_id)

    def _start(self, start: Start) -> None:
        """Take the new target if its frame is there; the old one stays until that worked."""
        self._pending = None
        try:
            frame = self._ring.find(start.stamp)
            if frame is None or self._is_stale(frame, start):
                if time.monotonic() - start.received < START_PATIENCE:
                    self._pending = start
                    return
                raise Rejected(
                    "box_frame_missing",
                    "the image the box was drawn on did not arrive"
                    if start.stamp
                    else "no image arrives: is the camera running?",
                )
            image = decode_image(frame.message)
            size = (image.shape[1], image.shape[0])
            self._tracker.init(image, check_box(start.box, *size))
        except Rejected as error:
            self.refuse(error, start.box_id)
            return
        except ImageError as error:
            self.refuse(Rejected("unusable", str(error)), start.box_id)
            return
        except Exception as error:  # whoever gave the box must hear that it is not followed
            why = self._fail(error)
            failed = Rejected("failed", f"the tracker could not start on it: {why}")
            self.refuse(failed, start.box_id)
            return
        self._starts += 1
        self._target, self._label = f"{self._run}-{self._starts}", start.label
        self._box_id = start.box_id
        self._size, self._before = size, frame
        began = time.monotonic()
        told = [f"target {self._target} given on an image {began - frame.arrived:.2f} s old"]
        if start.stamp and frame.stamp != start.stamp:
            away = abs(frame.stamp - start.stamp) / SECOND
            told.append(f"the nearest, {away:.2f} s away")
        try:
            if looked := self._catch_up(frame):
                images = "image" if looked == 1 else "images"
                spent = time.monotonic() - began
                told.append(f"caught up over {looked} {images} in {spent:.2f} s")
        finally:  # a frame that fails does not take the target back
            if self._tracker.initialised:
                self._changed(", ".join(told))
            else:
                dropped = f"dropped while it was caught up with: {self._reason}"
                self.refuse(Rejected("box_dropped", dropped), start.box_id)

    def _is_stale(self, frame: Frame, start: Start) -> bool:
        """Whether a box for the newest image found one of a camera that has stopped since."""
        timeout = self._parameters().image_timeout
        return start.stamp == 0 and start.received - frame.arrived > timeout

    def _patience(self) -> float | None:
        """Seconds until a waiting box must be looked at again; None where none waits."""
        if self._pending is None:
            return None
        return max(self._pending.received + START_PATIENCE - time.monotonic(), 0.0)

    def _give_up_pending(self, reason: str) -> None:
        """Refuse the box that was not used yet, if there is one; its image may have come."""
        pending, self._pending = self._pending, None
        if pending:
            error = Rejected("box_dropped", f"dropped before it could be used: {reason}")
            self.refuse(error, pending.box_id)

    def _catch_up(self, frame: Frame) -> int:
        """Follow through the kept frames to the newest; ends in about CATCH_UP seconds.

        Returns:
            how many frames were looked at.
        """
        deadline = time.monotonic() + CATCH_UP
        cost, looked = 0.0, 0
        while (backlog := self._ring.after(frame.sequence)) and not self._inbox.ends_the_target:
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
        if frame.sequence > self._done:
            self._done = frame.sequence
            self._publish(frame, track, began)
        # nobody waits for it
        if track is not None:
            try:
                self._statistics.timed({"adapt": self._tracker.learn()})
            except Exception as error:  # the target was found all the same
                self._fail(error)

    def _publish(self, frame: Frame, track: Track | None, began: float) -> None:
        """Publish what was found in a frame that was begun with at ``began``."""
        shown = track if self._tracker.state in (State.TRACKING, State.UNCERTAIN) else None
        worked = time.monotonic()
        self._outputs.target(frame, shown, self._target, self._label)
        published = time.monotonic()
        self._statistics.count("processed")
        self._statistics.timed({"wait": began - frame.arrived, "publish": published - worked})
        if frame.stamp:
            latency = (self._outputs.now() - frame.stamp) / SECOND
            self._statistics.latency(latency, self._parameters().latency_deadline)
        self._outputs.picture(frame, shown)

    def _follow(self, frame: Frame) -> Track | None:
        """Find the target in a frame; None if the frame's size made us drop it, or the tracker
        failed.

        Raises:
            Rejected: the frame is unusable; the target stays.
        """
        began = time.monotonic()
        image = decode_image(frame.message)
        self._fit_size(image)
        if not self._tracker.initialised:
            return None
        decoded = time.monotonic()
        state, track, why = self._tracker.state, None, ""
        self._tracker.config = self._parameters().presence
        try:
            track = self._tracker.find(image, self._elapsed(frame))
        except ImageError as error:
            raise Rejected("unusable", str(error)) from error
        except Exception as error:  # a network gone wrong sees nothing: that must not be silence
            why = f", the tracker failed: {self._fail(error)}"
            self._tracker.miss(self._elapsed(frame))
        self._before = frame
        self._statistics.timed({"decode": decoded - began, **(track.seconds if track else {})})
        if self._tracker.state is not state:
            unseen = f"last seen {self._tracker.unseen:.1f} s ago"
            self._changed(f"score {self._tracker.score:.2f}, {unseen}{why}")
        return track

    def _elapsed(self, frame: Frame) -> float:
        """Seconds of video since the frame before; by arrival where the stamps do not say."""
        before = self._before
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
        self._size = new
        self._tracker.rescale(factor)

    def _drop(self, reason: str) -> None:
        self._give_up_pending(reason)
        self._tracker.reset()
        self._target, self._label, self._box_id, self._before = "", "", "", None
        self._changed(reason)

    def _fail(self, error: Exception) -> str:
        """Count and log what nobody foresaw; its first line."""
        self._statistics.count("errors")
        self._outputs.failed(error)
        return first_line(error)

    def _reject(self, error: Rejected) -> None:
        self._statistics.reject(error.reason)
        self._outputs.rejected(error)

    def _changed(self, reason: str) -> None:
        self._reason = reason
        self._since = self._outputs.now() / SECOND
        self.announce()
