"""siamkd_ros.stream_guard: one odd image costs nothing, a changed stream is noticed."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from siamkd_ros.frame import SECOND
from siamkd_ros.rejected import Rejected
from siamkd_ros.stream_guard import Change, StreamGuard

VGA, HD = (640, 480), (1280, 720)
NOW = 1_000 * SECOND


def judge(guard: StreamGuard, stamp: float, size: tuple[int, int] = VGA) -> str:
    try:
        return guard.inspect(round(stamp * SECOND), size, NOW).name
    except Rejected as error:
        return error.reason


def test_ordered_and_repeated_stamps_pass() -> None:
    guard = StreamGuard()
    assert [judge(guard, stamp) for stamp in (10, 10.03, 10.03, 11, 500)] == ["NONE"] * 5


def test_a_late_image_is_refused_for_ever() -> None:
    guard = StreamGuard()
    judge(guard, 10)
    assert [judge(guard, 9.8) for _ in range(5)] == ["out_of_order"] * 5
    assert judge(guard, 10.01) == "NONE"


def test_a_jump_back_needs_a_second_image_that_agrees() -> None:
    guard = StreamGuard()
    judge(guard, 10)
    assert judge(guard, 2.0) == "out_of_order"
    assert judge(guard, 10.03) == "NONE"  # a fluke: the stream goes on
    assert [judge(guard, stamp) for stamp in (2.0, 2.03, 2.06)] == ["out_of_order", "TIME", "NONE"]


def test_zero_and_future_stamps_do_not_judge_the_others() -> None:
    guard = StreamGuard()
    stamps = (10, 0, 10.03, NOW / SECOND + 3600, 10.06, 0, 10.09)
    assert [judge(guard, stamp) for stamp in stamps] == ["NONE"] * 7


def test_one_other_size_is_refused_and_three_are_a_change() -> None:
    guard = StreamGuard()
    sizes = (VGA, HD, VGA, HD, HD, VGA, HD, HD, HD, HD)
    got = [judge(guard, 10 + i, size) for i, size in enumerate(sizes)]
    other = "other_size"
    assert got == ["NONE", other, "NONE", other, other, "NONE", other, other, "SIZE", "NONE"]


def test_reset_forgets() -> None:
    guard = StreamGuard()
    judge(guard, 10)
    guard.reset()
    assert judge(guard, 2.0, HD) == "NONE"


@given(st.lists(st.tuples(st.integers(0, 2 * NOW), st.sampled_from([VGA, HD]))))
def test_accepted_stamps_go_back_only_with_a_jump(
    images: list[tuple[int, tuple[int, int]]],
) -> None:
    guard = StreamGuard()
    newest = 0
    for stamp, size in images:
        try:
            change = guard.inspect(stamp, size, NOW)
        except Rejected:
            continue
        if change is Change.TIME:
            newest = 0
        if 0 < stamp <= NOW + SECOND:
            assert stamp >= newest
            newest = stamp
