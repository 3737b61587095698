"""The one-slot mailbox between the executor's thread and the inference thread.

The executor's callbacks put things in and return at once. The inference thread takes the newest
image, and the orders (a new target, drop it, pause) in the order they came.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, replace

from siamkd_core.box import Box
from siamkd_ros.frame import Frame

NAMED = 10
"""Boxes that gave way, of which the ids are kept: a flood of them takes no memory."""


@dataclass(frozen=True)
class Start:
    """Follow what `box` shows in the frame stamped `stamp` (nanoseconds, 0: the newest)."""

    box: Box
    stamp: int
    label: str
    received: float  # steady clock, seconds
    box_id: str = ""  # what its sender calls it, to know the answer by

    def resends(self, other: Start) -> bool:
        """Whether this is the other one, sent again."""
        return replace(self, received=other.received) == other


@dataclass(frozen=True)
class Drop:
    """Forget the target, and say why."""

    reason: str


@dataclass(frozen=True)
class Enable:
    """Process images, or leave them."""

    enabled: bool


@dataclass(frozen=True)
class GaveWay:
    """So many boxes were given that others took the place of before they were taken; and the ids of
    the newest of them."""

    count: int
    box_ids: tuple[str, ...] = ()


Order = Start | Drop | Enable | GaveWay


class Inbox:
    """One slot for an image, a short queue for orders."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._frame: Frame | None = None
        self._orders: list[Order] = []
        self._closed = False

    def put_frame(self, frame: Frame) -> bool:
        """Leave an image. True if one that nobody had taken yet was overwritten."""
        with self._condition:
            overwritten = self._frame is not None
            self._frame = frame
            self._condition.notify()
        return overwritten

    def put_order(self, order: Order) -> None:
        """Leave an order. It takes the place of one of its kind that still waits, so a flood of
        them takes no memory; a box that gave way to another is counted, and sent again it is as
        old as it was."""
        with self._condition:
            before = next((one for one in self._orders if type(one) is type(order)), None)
            self._orders = [waiting for waiting in self._orders if waiting is not before]
            if isinstance(order, Start) and isinstance(before, Start):
                if order.resends(before):
                    order = before
                else:
                    self._count_one_more(before)
            self._orders.append(order)
            self._condition.notify()

    def _count_one_more(self, start: Start) -> None:
        before = next((one for one in self._orders if isinstance(one, GaveWay)), GaveWay(0))
        self._orders = [one for one in self._orders if one is not before]
        named = [*before.box_ids, start.box_id][-NAMED:]
        self._orders.append(GaveWay(before.count + 1, tuple(named)))

    @property
    def ends_the_target(self) -> bool:
        """Whether an order waits after which no target is followed; a new box, which may be
        refused, is none."""
        return any(
            isinstance(order, Drop) or (isinstance(order, Enable) and not order.enabled)
            for order in self._orders
        )

    def drop_frame(self) -> None:
        """Forget the image in the slot."""
        with self._condition:
            self._frame = None

    def take(self, timeout: float | None = None) -> tuple[list[Order], Frame | None] | None:
        """Wait for something, take all of it: nothing after `timeout` seconds, None once closed."""
        with self._condition:
            self._condition.wait_for(lambda: self._closed or self._frame or self._orders, timeout)
            if self._closed:
                return None
            taken = self._orders, self._frame
            self._orders, self._frame = [], None
            return taken

    def close(self) -> None:
        """Let `take` return None from now on."""
        with self._condition:
            self._closed = True
            self._condition.notify_all()
