"""A received image that passed the checks, and the ring of the recent ones."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass
from typing import Any

from siamkd_ros.rejected import Rejected

SECOND = 1_000_000_000
# A box may name a frame that is still on its way to us, or that was lost to us.
AHEAD = SECOND
# Where its own frame was lost, it may start on one that is no further away.
NEAR = SECOND // 4
LIMITS = "ring_seconds, ring_megabytes"
FIRST = "no image came before"


@dataclass(frozen=True)
class Frame:
    """One image message.

    Attributes:
        sequence: counts up with every accepted image.
        stamp: of the header, nanoseconds; 0 where the camera stamps nothing.
        arrived: steady clock, seconds.
        message: the sensor_msgs/Image or CompressedImage, not decoded.
        size: (width, height), pixels.
    """

    sequence: int
    stamp: int
    arrived: float
    message: Any
    size: tuple[int, int]

    @property
    def bytes(self) -> int:
        return len(self.message.data)


class FrameRing:
    """The recent frames, bounded in time and memory; the newest is always kept.

    It holds the messages themselves, so keeping one costs no copy. Safe to use from two threads.
    """

    def __init__(self, seconds: float, limit: int) -> None:
        """`limit` is in bytes."""
        self._frames: deque[Frame] = deque()
        self._bytes = 0
        self._begins = FIRST  # why it goes back no further
        self._lock = threading.Lock()
        self.seconds = seconds
        self.limit = limit

    def resize(self, seconds: float, limit: int) -> None:
        """Other bounds, from the next frame on."""
        with self._lock:
            self.seconds, self.limit = seconds, limit

    def append(self, frame: Frame) -> None:
        with self._lock:
            self._frames.append(frame)
            self._bytes += frame.bytes
            while len(self._frames) > 1 and (
                self._bytes > self.limit or frame.arrived - self._frames[0].arrived > self.seconds
            ):
                self._bytes -= self._frames.popleft().bytes
                self._begins = LIMITS

    def clear(self, reason: str) -> None:
        """Forget all frames; `reason` is told to whom a box on one of them is refused."""
        with self._lock:
            self._frames.clear()
            self._bytes = 0
            self._begins = reason

    def after(self, sequence: int) -> list[Frame]:
        """Frames newer than `sequence`, oldest first."""
        with self._lock:
            return [frame for frame in self._frames if frame.sequence > sequence]

    def find(self, stamp: int) -> Frame | None:
        """The frame that a box was drawn on.

        Args:
            stamp: nanoseconds; 0 means the newest. Where no frame has exactly this stamp (it was
                lost on its way here), the nearest one within NEAR is taken.

        Returns:
            None if it has not arrived yet.

        Raises:
            Rejected: `box_stamped`, `box_too_old`, `box_in_future` or `box_frame_missing`.
        """
        with self._lock:
            frames, begins = list(self._frames), self._begins
        if not frames:
            return None
        if stamp == 0:
            return frames[-1]
        stamps = [frame.stamp for frame in frames if frame.stamp]
        if not stamps:
            raise Rejected(
                "box_stamped",
                "the images carry no stamps, so the box's stamp names none of them: send the box "
                "with stamp 0, which is the newest image",
            )
        nearest = min(frames, key=lambda frame: abs(frame.stamp - stamp))
        if nearest.stamp == stamp:
            return nearest
        # not the first and the largest: a clock that was ahead may have been put right since
        oldest, newest = min(stamps), stamps[-1]
        if stamp < oldest:
            raise Rejected(
                "box_too_old",
                f"the box was drawn on a frame {(newest - stamp) / SECOND:.2f} s old; the kept "
                f"frames go back {(newest - oldest) / SECOND:.2f} s ({begins})",
            )
        if stamp > newest + AHEAD:
            anew = "" if begins in (FIRST, LIMITS) else f" ({begins})"
            raise Rejected(
                "box_in_future",
                f"the box's stamp is {(stamp - newest) / SECOND:.2f} s ahead of the newest image: "
                f"it must be the stamp of the image it was drawn on, or 0{anew}",
            )
        if stamp > newest:
            return None
        if (apart := abs(nearest.stamp - stamp)) > NEAR:
            raise Rejected(
                "box_frame_missing",
                "the image the box was drawn on did not arrive, and the nearest is "
                f"{apart / SECOND:.2f} s away",
            )
        return nearest
