"""siamkd_ros.frame: the ring is bounded and finds the frame a box was drawn on."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from siamkd_ros.frame import SECOND, Frame, FrameRing
from siamkd_ros.rejected import Rejected


def frame(sequence: int, seconds: float, size: int = 100) -> Frame:
    message = SimpleNamespace(data=bytes(size))
    return Frame(sequence, round(seconds * SECOND), seconds, message, (10, 10))


def ring(seconds: float = 10.0, limit: int = 10_000, count: int = 5) -> FrameRing:
    """Frames 1 to `count`, stamped 1 s, 2 s, ..."""
    made = FrameRing(seconds, limit)
    for n in range(1, count + 1):
        made.append(frame(n, float(n)))
    return made


def sequences(made: FrameRing) -> list[int]:
    return [kept.sequence for kept in made.after(0)]


def test_bounded_in_time_and_in_memory() -> None:
    assert sequences(ring(seconds=2.0)) == [3, 4, 5]
    assert sequences(ring(limit=250)) == [4, 5]
    assert sequences(ring(seconds=0.0)) == [5]
    assert sequences(ring(limit=0)) == [5]


@given(st.lists(st.integers(0, 50)), st.integers(0, 120))
def test_memory_is_never_exceeded_by_more_than_the_newest(sizes: list[int], limit: int) -> None:
    made = FrameRing(1e9, limit)
    for n, size in enumerate(sizes, 1):
        made.append(frame(n, float(n), size))
        kept = made.after(0)
        assert kept[-1].sequence == n
        assert sum(one.bytes for one in kept) <= limit or len(kept) == 1


def test_finds_by_stamp() -> None:
    made = ring()
    found = {stamp: made.find(round(stamp * SECOND)) for stamp in (0, 1, 3, 5, 3.2, 3.8, 5.5)}
    got = {stamp: one.sequence if one else None for stamp, one in found.items()}
    assert got == {0: 5, 1: 1, 3: 3, 5: 5, 3.2: 3, 3.8: 4, 5.5: None}


@pytest.mark.parametrize(
    ("stamp", "reason"),
    [
        (0.9, "box_too_old"),
        (1e-9, "box_too_old"),
        (6.1, "box_in_future"),
        (3.3, "box_frame_missing"),
        (3.7, "box_frame_missing"),
    ],
)
def test_a_stamp_outside_is_refused(stamp: float, reason: str) -> None:
    with pytest.raises(Rejected) as refusal:
        ring().find(round(stamp * SECOND))
    assert refusal.value.reason == reason


def test_a_clock_that_was_ahead_does_not_make_later_boxes_old() -> None:
    made = FrameRing(10.0, 10_000)
    for n, stamp in enumerate((3601.0, 3602.0, 1.0, 2.0, 0.0, 3.0)):
        made.append(frame(n, stamp))
    found = made.find(2 * SECOND)
    assert found
    assert found.stamp == 2 * SECOND
    with pytest.raises(Rejected, match="old"):
        made.find(SECOND // 2)


def test_an_exact_stamp_is_found_though_it_is_ahead_of_the_newest() -> None:
    made = FrameRing(10.0, 10_000)
    for n, stamp in enumerate((3602.0, 1.0, 2.0)):
        made.append(frame(n, stamp))
    found = made.find(3602 * SECOND)
    assert found
    assert found.sequence == 0
    with pytest.raises(Rejected) as refusal:
        made.find(3603 * SECOND)
    assert refusal.value.reason == "box_in_future"


def test_the_newest_stamp_is_of_a_stamped_frame() -> None:
    made = ring()
    made.append(frame(6, 0.0))
    found = made.find(round(4.9 * SECOND))
    assert found
    assert found.sequence == 5
    assert made.find(round(5.5 * SECOND)) is None
    with pytest.raises(Rejected, match=r"drawn on a frame 4\.50 s old; .* go back 4\.00 s"):
        made.find(SECOND // 2)
    with pytest.raises(Rejected, match=r"1\.10 s ahead"):
        made.find(round(6.1 * SECOND))


@pytest.mark.parametrize("stamp", [1, SECOND // 2, 1_700_000_000 * SECOND])
def test_a_stamped_box_on_unstamped_images_is_told_so(stamp: int) -> None:
    made = FrameRing(10.0, 10_000)
    for n in (1, 2):
        made.append(frame(n, 0.0))
    with pytest.raises(Rejected, match=r"images carry no stamps.*stamp 0") as refusal:
        made.find(stamp)
    assert refusal.value.reason == "box_stamped"
    newest = made.find(0)
    assert newest and newest.sequence == 2


def test_a_box_on_a_cleared_frame_is_told_why_it_is_gone() -> None:
    made = ring(seconds=2.0)
    made.clear("the image size changed to 20x20")
    for n in (6, 7, 8):
        made.append(frame(n, float(n)))
    with pytest.raises(
        Rejected, match=r"3\.00 s old; .* 2\.00 s \(the image size changed to 20x20\)"
    ):
        made.find(5 * SECOND)
    made.append(frame(9, 9.0))  # the limits took frames since
    with pytest.raises(Rejected, match=r"4\.00 s old; .* 2\.00 s \(ring_seconds"):
        made.find(5 * SECOND)


def test_empty_and_cleared() -> None:
    made = ring()
    made.clear("reset")
    assert made.find(0) is None
    assert made.find(SECOND) is None
    assert made.after(0) == []
