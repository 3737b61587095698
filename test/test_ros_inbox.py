"""siamkd_ros.inbox: one slot, the newest wins, orders stay in order."""

from __future__ import annotations

import threading
from dataclasses import replace
from types import SimpleNamespace

import pytest

from siamkd_core.box import Box
from siamkd_ros.frame import Frame
from siamkd_ros.inbox import Drop, Enable, GaveWay, Inbox, Order, Start


def frame(sequence: int) -> Frame:
    return Frame(sequence, 0, 0.0, SimpleNamespace(data=b""), (1, 1))


def start(n: float) -> Start:
    return Start(Box(n, n, 5, 5), 0, "target", 0.0, f"box {n}")


def test_the_newest_frame_overwrites() -> None:
    inbox = Inbox()
    assert [inbox.put_frame(frame(n)) for n in (1, 2, 3)] == [False, True, True]
    work = inbox.take()
    assert work and work[1] and work[1].sequence == 3
    assert inbox.put_frame(frame(4)) is False


def test_orders_keep_their_sequence_and_only_the_newest_of_a_kind() -> None:
    inbox = Inbox()
    for order in (start(1), Drop("a"), start(2), Enable(False), Drop("b")):
        inbox.put_order(order)
    assert inbox.take() == ([GaveWay(1, ("box 1",)), start(2), Enable(False), Drop("b")], None)


@pytest.mark.parametrize(
    ("order", "ends"),
    [(start(1), False), (Drop("a"), True), (Enable(False), True), (Enable(True), False)],
)
def test_which_orders_end_the_target(order: Order, ends: bool) -> None:
    inbox = Inbox()
    assert not inbox.ends_the_target
    inbox.put_order(order)
    assert inbox.ends_the_target is ends
    inbox.take()
    assert not inbox.ends_the_target


def test_a_flood_of_orders_takes_no_memory() -> None:
    inbox = Inbox()
    for n in range(10_000):
        inbox.put_order(start(n))
        inbox.put_order(Drop(str(n)))
    work, last = inbox.take(), tuple(f"box {n}" for n in range(9_989, 9_999))
    assert work and work[0] == [GaveWay(9_999, last), start(9_999), Drop("9999")]


def test_a_box_that_is_sent_again_is_the_old_one() -> None:
    inbox = Inbox()
    old, new = start(1), replace(start(1), received=7.0)
    for order in (old, new):
        inbox.put_order(order)
    assert inbox.take() == ([old], None)


def test_drop_frame_leaves_the_orders() -> None:
    inbox = Inbox()
    inbox.put_frame(frame(1))
    inbox.put_order(Drop("x"))
    inbox.drop_frame()
    assert inbox.take() == ([Drop("x")], None)


def test_take_waits_and_close_wakes_it() -> None:
    inbox = Inbox()
    got: list[object] = []
    thread = threading.Thread(target=lambda: got.extend([inbox.take(), inbox.take()]))
    thread.start()
    inbox.put_frame(frame(1))
    while not got and thread.is_alive() and inbox.put_frame(frame(2)):
        pass
    inbox.close()
    thread.join(10)
    assert not thread.is_alive()
    assert inbox.take() is None
