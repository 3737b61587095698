"""siamkd_ros.stream_guard: one odd image costs nothing, a changed stream is noticed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from siamkd_ros.frame import SECOND
from siamkd_ros.rejected import Rejected
from siamkd_ros.stream_guard import Change, StreamGuard

VGA, HD = (640, 480), (1280, 720)
NOW = 1_000 * SECOND


def judge(
    guard: StreamGuard, stamp: float, size: tuple[int, int] = VGA, now: float = NOW / SECOND
) -> str:
    try:
        return guard.inspect(round(stamp * SECOND), size, round(now * SECOND)).name
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


@pytest.mark.parametrize(
    "stamps",
    [
        (10, 4600, 10.03, 2800, 10.06, 8200, 10.09),
        (10, 4600, 2800, 10.03),
        (10, 2800, 4600, 10.03, 2900, 10.06),
    ],
)
def test_strays_from_the_future_are_no_jump_of_the_stream(stamps: tuple[float, ...]) -> None:
    guard = StreamGuard()
    assert [judge(guard, stamp) for stamp in stamps] == ["NONE"] * len(stamps)
    assert judge(guard, 10.01) == "out_of_order"  # the order of the others is still known


# Zero is the clock of use_sim_time without a /clock.
@pytest.mark.parametrize("now", [0, 95])
def test_a_stream_ahead_of_our_clock_has_an_order_too(now: float) -> None:
    guard = StreamGuard()
    stamps = (100, 100.03, 100.03, 100.06, 100.01, 100.09, 104, 100.2, 108, 108.03)
    late = "out_of_order"
    got = [judge(guard, stamp, now=now) for stamp in stamps]
    assert got == ["NONE", "NONE", "NONE", "NONE", late, "NONE", "NONE", "NONE", "NONE", "NONE"]


@pytest.mark.parametrize("interval", [0.03, 2.0])
def test_a_stream_ahead_of_our_clock_that_starts_again_is_a_jump(interval: float) -> None:
    guard = StreamGuard()
    bag = [100 + n * interval for n in range(40)]
    assert [judge(guard, stamp, now=0) for stamp in bag] == ["NONE"] * 40
    again = [judge(guard, stamp, now=0) for stamp in bag]
    assert again == ["out_of_order", "TIME", *["NONE"] * 38]


@pytest.mark.parametrize("strays", [(5000,), (9000, 5000)])
def test_stamps_far_ahead_of_a_stream_that_is_ahead_itself_are_no_jump(
    strays: tuple[int, ...],
) -> None:
    guard = StreamGuard()
    stamps = (100, 100.03, 100.06, *strays, 100.09, 100.12)
    assert [judge(guard, stamp, now=0) for stamp in stamps] == ["NONE"] * len(stamps)


def test_a_simulation_without_a_clock_is_ahead_from_its_second_second_on() -> None:
    guard = StreamGuard()
    run = [0.2 * n for n in range(1, 30)]
    assert [judge(guard, stamp, now=0) for stamp in run] == ["NONE"] * 29
    assert [judge(guard, stamp, now=0) for stamp in run[:3]] == ["out_of_order", "TIME", "NONE"]


@pytest.mark.parametrize(("before", "after"), [(95, 100), (100, 95)])
def test_our_clock_is_put_right_while_the_camera_goes_on(before: float, after: float) -> None:
    guard = StreamGuard()
    stamps = [100 + 0.03 * n for n in range(8)]
    clocks = [before + 0.03 * n for n in range(4)] + [after + 0.03 * n for n in range(4, 8)]
    got = [judge(guard, stamp, now=now) for stamp, now in zip(stamps, clocks, strict=True)]
    assert got == ["NONE"] * 8
    now = clocks[-1]
    assert judge(guard, 100.19, now=now) == "out_of_order"
    assert [judge(guard, 99 + 0.03 * n, now=now) for n in range(2)] == ["out_of_order", "TIME"]


def test_a_camera_whose_clock_was_ahead_is_put_right_without_a_jump() -> None:
    guard = StreamGuard()
    assert [judge(guard, NOW / SECOND + ahead) for ahead in (60, 60.03, 60.06)] == ["NONE"] * 3
    assert [judge(guard, NOW / SECOND + late) for late in (-0.02, 0.01)] == ["NONE"] * 2


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


@given(st.lists(st.lists(st.integers(NOW + SECOND + 1, 10 * NOW), max_size=4), max_size=20))
def test_no_stamp_from_the_future_has_a_say_in_the_present(strays: list[list[int]]) -> None:
    guard = StreamGuard()
    for n, between in enumerate(strays):
        assert judge(guard, 10 + n / 30) == "NONE"
        for stray in between:
            judge(guard, stray / SECOND)
