"""What comes in: messages are checked and left for the inference thread; none can end the node."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from siamkd_ros.any_image import image_size
from siamkd_ros.frame import SECOND, Frame, FrameRing
from siamkd_ros.inbox import Drop, Inbox
from siamkd_ros.statistics import Statistics
from siamkd_ros.stream_guard import Change, StreamGuard


class Intake:
    """The executor's side of inbox and ring.

    Args:
        now: the node's clock, nanoseconds.
        ring_limits: seconds and bytes.
    """

    def __init__(
        self,
        statistics: Statistics,
        now: Callable[[], int],
        ring_limits: tuple[float, int],
    ) -> None:
        self.inbox = Inbox()
        self.ring = FrameRing(*ring_limits)
        self._statistics = statistics
        self._now = now
        self._guard = StreamGuard()
        self._sequence = 0
        self._picture: Any = None  # the data of the image before

    def image(self, message: Any) -> None:
        """Check an image's fields and leave it.

        Raises:
            Rejected: it does not fit itself, or the stream.
        """
        arrived, now = time.monotonic(), self._now()
        stamp = nanoseconds(message.header.stamp)
        size = image_size(message)
        change = self._guard.inspect(stamp, size, now)
        if change is Change.TIME:
            self.forget("the image stamps jumped back (a bag that starts again?)")
        elif change is Change.SIZE:
            self.ring.clear(f"{change.value} to {size[0]}x{size[1]}")
            self.inbox.drop_frame()
        self._sequence += 1
        # unequal pictures differ within the first bytes, so this is dear only where it matters
        same = self._picture is not None and bool(self._picture == message.data)
        self._picture = message.data
        frame = Frame(self._sequence, stamp, arrived, message, size)
        self.ring.append(frame)
        if self.inbox.put_frame(frame):
            self._statistics.count("overwritten")
        self._statistics.received(stamp / SECOND, arrived, now / SECOND, frame.bytes, same)

    def forget(self, reason: str) -> None:
        """Time started anew: what was measured before belongs to another stream."""
        self._guard.reset()
        self.ring.clear(reason)
        self.inbox.drop_frame()
        self._statistics.clear_windows()
        self.inbox.put_order(Drop(reason))


def nanoseconds(stamp: Any) -> int:
    """A builtin_interfaces/Time as a number."""
    return int(stamp.sec) * SECOND + int(stamp.nanosec)
