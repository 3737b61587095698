"""Does an image belong to the stream so far? Stamps that go back, sizes that change.

One odd image (a second publisher, a fluke of a driver) is refused and costs nothing. The stream
has really changed only when the next images agree: then everything that was measured in the old
one (boxes, stamps) is worthless.

Stamps ahead of our clock (a camera on a machine whose clock is ahead; a simulation without /clock,
where all are) have an order of their own, for as long as they come in a row: whether one of them
is a stray, only the next image shows, so it has no say about those that our clock bears out.
"""

from __future__ import annotations

from enum import Enum

from siamkd_ros.frame import SECOND
from siamkd_ros.rejected import Rejected

# A stamp that goes back less than this is a late image; further, and it is another run of time.
JUMP = SECOND // 2
JUMP_CONFIRMED_BY = 2
# Stamps further ahead of our clock than this are ordered among themselves, and a step of more than
# this among them needs the next one to go on from there.
FUTURE = SECOND
SIZE_CONFIRMED_BY = 3


class Change(Enum):
    """What an accepted image changed."""

    NONE = "none"
    TIME = "time jumped back"
    SIZE = "the image size changed"


class StreamGuard:
    """Judges images one after the other."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget the stream so far."""
        self.last = 0  # newest stamp that our clock bears out, nanoseconds
        self.size: tuple[int, int] | None = None
        self._ahead = 0  # newest of those ahead of our clock, while they come
        self._leap = 0  # one of them far ahead of the one before, until the next image
        self._jumps = 0
        self._new_size: tuple[int, int] | None = None
        self._new_sizes = 0

    def inspect(self, stamp: int, size: tuple[int, int], now: int) -> Change:
        """Judge one image.

        Args:
            stamp: of its header, nanoseconds; 0 says nothing about the order.
            size: (width, height), pixels.
            now: the node's clock, nanoseconds.

        Raises:
            Rejected: `out_of_order` or `other_size`.
        """
        # at 0, our clock has not begun
        ahead = now == 0 or stamp > now + FUTURE
        if self._jumped_back(stamp, ahead):
            self.reset()
            self.size = size
            self._believe(stamp, ahead)
            return Change.TIME
        resized = self._resized(size)
        self._believe(stamp, ahead)
        return Change.SIZE if resized else Change.NONE

    def _jumped_back(self, stamp: int, ahead: bool) -> bool:
        back = (self._ahead if ahead else self.last) - stamp
        if stamp == 0 or back <= 0:
            self._jumps = 0
            return False
        self._jumps = self._jumps + 1 if back > JUMP else 0
        if self._jumps >= JUMP_CONFIRMED_BY:
            return True
        raise Rejected("out_of_order", f"stamped {back / SECOND:.3f} s before the image before it")

    def _believe(self, stamp: int, ahead: bool) -> None:
        """Judge later stamps by this one."""
        if stamp == 0:
            return
        if not ahead:
            self.last, self._ahead, self._leap = stamp, 0, 0
        elif stamp > self._ahead + FUTURE and not 0 < self._leap <= stamp:
            self._leap = stamp
        else:
            self._ahead, self._leap = stamp, 0

    def _resized(self, size: tuple[int, int]) -> bool:
        if self.size is None or size == self.size:
            self.size = size
            self._new_size, self._new_sizes = None, 0
            return False
        self._new_sizes = self._new_sizes + 1 if size == self._new_size else 1
        self._new_size = size
        if self._new_sizes < SIZE_CONFIRMED_BY:
            raise Rejected(
                "other_size",
                f"{size[0]}x{size[1]} pixels in a stream of {self.size[0]}x{self.size[1]}",
            )
        self.size = size
        self._new_size, self._new_sizes = None, 0
        return True
