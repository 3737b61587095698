"""siamkd_ros.follower: what goes out for which images and orders."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from follower_support import BOX, RATE, Rig

from siamkd_core.box import Box
from siamkd_core.errors import ImageError, SiamkdError
from siamkd_core.presence import State
from siamkd_core.tracker import Track
from siamkd_ros.follower import CATCH_UP, START_PATIENCE
from siamkd_ros.frame import SECOND
from siamkd_ros.inbox import Drop, Enable, GaveWay, Order, Start


@pytest.fixture
def rig() -> Rig:
    return Rig()


def reason(rig: Rig) -> str:
    return rig.reports[-1].reason


def shown(rig: Rig) -> list[bool]:
    return [track is not None for _, track, _, _ in rig.targets]


def test_idle_processes_every_image_and_reports_nothing(rig: Rig) -> None:
    rig.feed(3)
    assert shown(rig) == [False] * 3
    assert [header.frame_id for header, *_ in rig.targets] == ["frame1", "frame2", "frame3"]
    assert rig.state is State.IDLE


def test_a_box_on_the_newest_image(rig: Rig) -> None:
    rig.feed(3)
    rig.start()
    assert rig.tracker.values == [3]
    assert rig.state is State.TRACKING
    rig.feed(2)
    assert shown(rig) == [False] * 3 + [True] * 2
    header, track, target, label = rig.targets[-1]
    assert header.frame_id == "frame5"
    assert track and track.box == BOX._replace(x=12)
    assert target == rig.reports[-1].target
    assert label == "dog"


def test_a_box_before_the_first_image_waits_for_it(rig: Rig) -> None:
    rig.start()
    assert rig.state is State.IDLE
    rig.feed()
    assert shown(rig) == [True]
    assert rig.tracker.values == [1, 1]


def test_an_image_taken_together_with_its_box_is_published_with_the_target(rig: Rig) -> None:
    frame = rig.frame()
    rig.follower.step([Start(BOX, 0, "dog", time.monotonic())], frame)
    assert shown(rig) == [True]


def test_a_box_on_an_earlier_image_is_caught_up(rig: Rig) -> None:
    rig.feed(10)
    rig.start(stamp=4 / RATE)
    assert rig.tracker.values[:2] == [4, 5]
    assert rig.tracker.values[-1] == 10
    assert len(rig.targets) == 10  # images already published are not published again
    rig.feed(1)
    assert rig.tracker.values[-1] == 11
    assert shown(rig) == [False] * 10 + [True]
    assert rig.statistics.snapshot(0.0).catch_ups == 1


def test_catching_up_publishes_only_what_is_newer_and_in_order(rig: Rig) -> None:
    rig.feed(5)
    waiting = [rig.frame() for _ in range(3)]  # arrived, overwritten in the slot
    rig.order(Start(BOX, 2 * SECOND // RATE, "dog", 0.0))
    stamps = [header.stamp for header, *_ in rig.targets]
    assert stamps == sorted(set(stamps))
    assert stamps[-1] == waiting[-1].stamp
    rig.follower.step([], waiting[-1])
    assert len(rig.targets) == len(stamps)


def test_a_slow_tracker_catches_up_by_leaving_images_out(rig: Rig) -> None:
    rig.feed(60)
    rig.tracker.cost = 0.05
    began = time.monotonic()
    rig.start(stamp=1 / RATE)
    spent = time.monotonic() - began
    assert rig.tracker.values[-1] == 60
    assert len(rig.tracker.values) < 30
    assert spent < 10 * CATCH_UP  # 60 images would take 3 s on an idle machine


def test_catching_up_ends_though_images_come_faster_than_they_are_followed(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig.feed(10)
    rig.tracker.cost = 0.05
    find, coming = rig.tracker.find, iter(range(100))

    def while_another_comes(image: Any, **_: bool) -> Track:
        if next(coming, None) is not None:
            rig.frame()
        return find(image)

    monkeypatch.setattr(rig.tracker, "find", while_another_comes)
    rig.start(stamp=5 / RATE)
    assert rig.reports[-1].state is State.TRACKING
    assert next(coming, None) is not None  # the images had not come to an end


def test_a_target_is_announced_though_catching_up_fails(rig: Rig) -> None:
    rig.feed(5)
    rig.tracker.fails = RuntimeError("a broken kernel")
    rig.start(stamp=2 / RATE)
    assert [str(error) for error in rig.errors] == ["a broken kernel"] * 3
    announced = next(report for report in rig.reports if "given" in report.reason)
    assert announced.target
    rig.tracker.fails = None
    rig.feed()
    assert rig.targets[-1][2] == announced.target


@pytest.mark.parametrize("order", [Drop("now"), Enable(False)])
def test_catching_up_stops_for_an_order_that_ends_the_target(rig: Rig, order: Order) -> None:
    rig.feed(10)
    rig.inbox.put_order(order)
    rig.start(stamp=1 / RATE)
    assert rig.tracker.values == [1]


@pytest.mark.parametrize("order", [Enable(True), Start(BOX, 1, "cat", 1.0)])
def test_catching_up_goes_on_for_an_order_that_may_change_nothing(rig: Rig, order: Order) -> None:
    rig.feed(10)
    rig.inbox.put_order(order)
    rig.start(stamp=1 / RATE)
    assert rig.tracker.values == list(range(1, 11))


def test_a_start_on_an_earlier_image_says_how_old_it_was(rig: Rig) -> None:
    for _ in range(10):
        rig.frame(arrives_in=-2.0)
    rig.start(stamp=1 / RATE)
    age = re.search(r"on an image (\d\.\d\d) s old, caught up over 9 images", reason(rig))
    assert age and 1.9 < float(age[1]) < 5


def test_a_box_on_a_lost_image_starts_on_the_nearest_if_that_is_near(rig: Rig) -> None:
    for seconds in (1.0, 1.1, 3.0):
        rig.feed(seconds=seconds)
    rig.start(stamp=1.13)
    assert rig.tracker.values == [2, 3]
    assert re.search(r"s old, the nearest, 0\.03 s away, caught up over 1 image in", reason(rig))
    rig.start(stamp=2.6)
    assert rig.refused == ["box_frame_missing"]
    assert "did not arrive, and the nearest is 0.40 s away" in reason(rig)


def test_a_tracker_that_fails_is_not_believed_by_any_threshold() -> None:
    rig = Rig(uncertain_score=0.0, tracking_score=0.0)
    rig.feed()
    rig.start()
    rig.tracker.fails = MemoryError()
    rig.feed(60)
    assert rig.state is State.LOST
    assert "the tracker failed: MemoryError()" in reason(rig)


def test_an_error_while_learning_does_not_end_catching_up(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig.feed(5)

    def fails() -> float:
        raise RuntimeError("no memory")

    monkeypatch.setattr(rig.tracker, "learn", fails)
    rig.start(stamp=2 / RATE)
    assert rig.tracker.values == [2, 3, 4, 5]
    assert [str(error) for error in rig.errors] == ["no memory"] * 3


def test_a_tracker_that_fails_at_a_box_refuses_it_and_keeps_the_target(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig.feed()
    rig.start()
    before = rig.follower.report().target

    def fails(image: Any, box: Box) -> None:
        raise RuntimeError("no memory")

    monkeypatch.setattr(rig.tracker, "init", fails)
    rig.start()
    assert rig.refused == ["failed"] and "no memory" in reason(rig)
    assert [str(error) for error in rig.errors] == ["no memory"]
    assert rig.follower.report().target == before
    rig.feed()
    assert shown(rig)[-1]


def test_a_tracker_that_fails_in_an_image_has_not_seen_the_target(rig: Rig) -> None:
    rig.feed()
    rig.start()
    rig.tracker.fails = SiamkdError("a response that is not a number")
    rig.feed(60)  # two seconds
    assert "the tracker failed: a response that is not a number" in reason(rig)
    assert shown(rig) == [False] * 61, "silence would say that the node is dead"
    assert rig.state is State.LOST and rig.follower.report().score == 0
    assert rig.statistics.snapshot(0.0).errors == 60
    rig.tracker.fails = None
    rig.feed(60)
    assert rig.state is State.TRACKING and shown(rig)[-1]


@pytest.mark.parametrize(
    ("stamp", "box", "reason"),
    [
        (0.0, Box(-100, 10, 20, 20), "box_outside"),
        (0.0, Box(10, 10, 0.1, 20), "box_size"),
        (0.001, BOX, "box_too_old"),
        (99.0, BOX, "box_in_future"),
    ],
)
def test_a_bad_box_is_refused_and_keeps_the_target(
    rig: Rig, stamp: float, box: Box, reason: str
) -> None:
    rig.feed(3)
    rig.start()
    before = rig.follower.report()
    rig.start(stamp=stamp, box=box)
    assert rig.refused == [reason]
    assert rig.statistics.snapshot(0.0).rejects == {reason: 1}
    assert rig.reports[-1].reason.startswith("box refused: ")
    refused = rig.reports[-1]
    assert replace(refused, reason=before.reason, box_id=before.box_id) == before
    rig.feed()
    assert rig.targets[-1][2] == before.target


def named(box_id: str, stamp: float = 0.0, box: Box = BOX) -> Start:
    return Start(box, round(stamp * SECOND), "dog", time.monotonic(), box_id)


def test_every_answer_names_its_box(rig: Rig) -> None:
    """So that whoever sent it knows that he is meant."""
    rig.feed(3)
    rig.order(named("early", 5 / RATE))
    rig.order(named("first"))
    outside = Box(-100, 10, 20, 20)
    rig.order(named("outside", box=outside))
    rig.order(GaveWay(5, ("", "one in the queue", "", "another")))
    rig.order(Enable(False))
    rig.order(named("disabled"))
    rig.order(Enable(True))
    rig.order(named("waits", 5 / RATE))
    rig.order(Drop("reset by ~/reset"))
    assert rig.refused.count("box_replaced") == 4  # and two that nobody named are counted alone
    assert rig.statistics.snapshot(0.0).rejects["box_replaced"] == 6
    told = [(one.box_id, one.reason.partition(":")[2][:9].strip()) for one in rig.reports]
    assert told == [
        ("early", "another"),
        ("first", ""),
        ("outside", "the box"),
        ("", "another"),
        ("one in the queue", "another"),
        ("another", "another"),
        ("first", ""),  # disabled
        ("disabled", "a box wa"),
        ("first", ""),  # goes on
        ("waits", "dropped"),
        ("", ""),
    ]


def test_a_target_that_is_dropped_while_it_is_caught_up_with_is_no_target(rig: Rig) -> None:
    """An image of another shape comes meanwhile."""
    rig.feed(3)
    rig.frame(size=(64, 64))
    rig.order(named("mine", 1 / RATE))
    assert rig.state is State.IDLE and rig.refused == ["box_dropped"]
    last = rig.reports[-1]
    assert (last.box_id, last.target) == ("mine", "")
    assert last.reason.startswith(
        "box refused: dropped while it was caught up with: the image changed"
    )


def test_a_box_of_another_sender_is_another(rig: Rig) -> None:
    waits = named("mine", 9 / RATE)
    rig.order(waits)
    rig.order(replace(waits, box_id="yours"))
    assert rig.reports[-1].box_id == "mine" and rig.refused == ["box_replaced"]


def test_a_box_for_an_image_on_its_way_waits_for_it(rig: Rig) -> None:
    rig.feed(3)
    rig.start(stamp=4 / RATE)
    assert rig.state is State.IDLE
    rig.feed()
    assert rig.tracker.values == [4, 4]


def test_a_box_for_an_image_that_never_comes_is_refused(rig: Rig) -> None:
    rig.feed(3)
    rig.start(stamp=3.5 / RATE + 0.5, received=time.monotonic() - 5)
    assert rig.refused == ["box_frame_missing"]


def test_a_box_that_takes_the_place_of_one_that_waits_is_no_silence(rig: Rig) -> None:
    """Who gives boxes faster than they are refused must hear that none is used."""
    rig.feed(3)
    for n in range(4, 7):
        rig.start(stamp=n / RATE)
    assert rig.refused == ["box_replaced"] * 2
    assert rig.reports[-1].reason == "box refused: another box took its place"
    rig.feed(3)
    assert rig.state is State.TRACKING


def test_a_box_that_comes_with_the_image_another_waited_for_replaces_it(rig: Rig) -> None:
    rig.feed(3)
    rig.start(stamp=4 / RATE)
    other = BOX._replace(x=30)
    rig.follower.step([Start(other, 0, "cat", time.monotonic())], rig.frame())
    assert rig.refused == ["box_replaced"]
    _, track, _, label = rig.targets[-1]
    assert track
    assert (track.box, label) == (other._replace(x=31), "cat")


def test_a_box_sent_again_waits_on_and_its_patience_runs_out(rig: Rig) -> None:
    rig.feed(3)
    began = time.monotonic()
    while not rig.refused and time.monotonic() < began + 20:
        rig.start(stamp=4 / RATE)
        time.sleep(0.05)
    assert rig.refused == ["box_frame_missing"]
    assert time.monotonic() - began >= START_PATIENCE


@pytest.mark.parametrize("other", [{"box": BOX._replace(w=9)}, {"stamp": 1}, {"label": "cat"}])
def test_a_box_that_differs_in_anything_is_another(rig: Rig, other: dict[str, Any]) -> None:
    waits = Start(BOX, 0, "dog", time.monotonic())
    rig.order(waits)
    rig.order(replace(waits, **other))
    assert rig.refused == ["box_replaced"]


def wait_until(true: Callable[[], object]) -> None:
    deadline = time.monotonic() + 20
    while not true() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert true()


@pytest.mark.parametrize("stamp", [0, 10 * SECOND])
def test_a_box_while_no_image_arrives_is_refused_in_time(rig: Rig, stamp: int) -> None:
    thread = threading.Thread(target=rig.follower.run, daemon=True)
    thread.start()
    rig.inbox.put_order(Start(BOX, stamp, "dog", time.monotonic()))
    wait_until(lambda: rig.refused)  # without a further image or order
    assert rig.refused == ["box_frame_missing"]
    assert "box refused" in rig.reports[-1].reason
    rig.inbox.close()
    thread.join(10)


def test_a_box_for_the_newest_image_of_a_camera_that_stopped_is_not_used(rig: Rig) -> None:
    rig.feed()
    rig.start(received=time.monotonic() + 10)
    assert rig.state is State.IDLE
    assert rig.refused == []  # it waits for an image to come
    rig.feed(arrives_in=10)
    assert rig.tracker.values == [2, 2]


def refusals(rig: Rig) -> list[str]:
    """What the status said of boxes that were not used."""
    return [one.reason for one in rig.reports if one.reason.startswith("box refused: ")]


@pytest.mark.parametrize(
    ("order", "why"),
    [
        (Drop("reset by ~/reset"), "reset by ~/reset"),
        (Drop("the image stamps jumped back"), "the image stamps jumped back"),
        (Enable(False), "disabled by ~/enable"),
    ],
)
def test_a_box_that_waits_is_refused_with_what_dropped_it(
    rig: Rig, order: Drop | Enable, why: str
) -> None:
    rig.feed(3)
    rig.start(stamp=4 / RATE)
    rig.order(order)
    assert rig.refused == ["box_dropped"]
    assert refusals(rig) == [f"box refused: dropped before it could be used: {why}"]
    rig.order(Enable(True))
    rig.feed()
    assert rig.state is State.IDLE


def test_every_target_has_its_own_id(rig: Rig) -> None:
    rig.feed()
    for _ in range(3):
        rig.start()
        rig.feed()
    other = Rig()
    other.feed()
    other.start()
    other.feed()
    ids = [target for *_, target, _ in rig.targets[1:] + other.targets[1:]]
    assert len(set(ids)) == 4


def test_reset_and_a_new_target(rig: Rig) -> None:
    rig.feed()
    rig.start()
    rig.order(Drop("reset by ~/reset"))
    assert rig.reports[-1].state is State.IDLE
    assert rig.reports[-1].reason == "reset by ~/reset"
    rig.feed()
    assert shown(rig) == [False, False]
    rig.start()
    rig.feed()
    assert shown(rig)[-1]


def test_disabled_is_silent_and_keeps_the_target(rig: Rig) -> None:
    rig.feed()
    rig.start()
    target = rig.follower.report().target
    rig.order(Enable(False))
    assert rig.reports[-1].state is State.IDLE
    assert "disabled" in rig.reports[-1].reason
    rig.feed(3)
    rig.start()
    assert rig.refused == ["disabled"]
    assert len(rig.targets) == 1
    rig.order(Enable(True))
    assert rig.reports[-1].state is State.TRACKING
    rig.feed()
    assert rig.targets[-1][2] == target


def test_lost_is_reported_empty_and_looked_for(rig: Rig) -> None:
    rig.feed()
    rig.start()
    rig.feed(5)
    rig.tracker.score = 0.1
    rig.feed(1)
    assert rig.state is State.UNCERTAIN
    assert rig.targets[-1][1] is not None
    rig.feed(60)
    assert rig.state is State.LOST
    assert rig.targets[-1][1] is None
    places = set()
    for _ in range(6):
        rig.feed()
        places.add(rig.tracker.box)
    assert len(places) > 1
    rig.tracker.score = 0.95
    rig.feed(20)
    assert rig.state is State.TRACKING
    states = [report.state for report in rig.reports]
    assert states == [State.TRACKING, State.UNCERTAIN, State.LOST, State.TRACKING]
    assert len({report.target for report in rig.reports}) == 1


def test_thresholds_can_change_while_tracking(rig: Rig) -> None:
    rig.feed()
    rig.start()
    rig.tracker.score = 0.6
    rig.feed()
    assert rig.state is State.TRACKING
    rig.parameters = replace(rig.parameters, uncertain_score=0.65)
    rig.feed()
    assert rig.state is State.UNCERTAIN


def test_lost_time_is_counted_by_arrival_where_nothing_is_stamped(rig: Rig) -> None:
    rig.feed(seconds=0.0)
    rig.start()
    rig.tracker.score = 0.0
    rig.feed(RATE - 2, seconds=0.0)
    assert rig.state is State.UNCERTAIN
    rig.feed(4, seconds=0.0)
    assert rig.state is State.LOST


def test_another_image_size_of_the_same_shape_carries_the_target_over(rig: Rig) -> None:
    rig.feed()
    rig.start()
    target = rig.follower.report().target
    rig.feed(size=(128, 96))
    _, track, carried, _ = rig.targets[-1]
    assert track and track.box == Box(21, 20, 40, 40)
    assert carried == target
    assert rig.state is State.TRACKING


def test_another_shape_drops_the_target_and_says_why(rig: Rig) -> None:
    rig.feed()
    rig.start()
    rig.feed(size=(64, 64))
    assert rig.state is State.IDLE
    assert rig.reports[-1].reason == "the image changed from 64x48 to 64x64"
    assert shown(rig) == [False, False]


def test_another_shape_drops_a_box_that_waits_and_says_why(rig: Rig) -> None:
    rig.feed()
    rig.start()
    rig.start(stamp=3 / RATE)
    rig.feed(size=(64, 64))
    assert rig.refused == ["box_dropped"]
    assert refusals(rig) == [
        "box refused: dropped before it could be used: the image changed from 64x48 to 64x64"
    ]


def test_an_unusable_image_is_counted_and_costs_nothing(rig: Rig) -> None:
    rig.feed()
    rig.start()
    broken = rig.frame()
    broken.message.data = b"short"
    rig.follower.step([], broken)
    assert rig.refused == ["length"]
    assert len(rig.targets) == 1
    rig.feed()
    assert shown(rig)[-1]


def test_the_thread_outlives_an_unexpected_error(rig: Rig) -> None:
    thread = threading.Thread(target=rig.follower.run, daemon=True)
    thread.start()
    rig.feed()
    rig.start()
    rig.tracker.fails = RuntimeError("device lost")
    rig.inbox.put_frame(rig.frame())
    wait_until(lambda: rig.errors)
    rig.tracker.fails = None
    before = len(rig.targets)
    rig.inbox.put_frame(rig.frame())
    wait_until(lambda: len(rig.targets) > before)
    rig.inbox.close()
    thread.join(10)
    assert str(rig.errors[0]) == "device lost"
    assert shown(rig)[-1]
    assert rig.statistics.snapshot(0.0).errors == 1
    assert not thread.is_alive()


def test_every_processed_image_is_timed(rig: Rig) -> None:
    rig.clock = 10 * SECOND
    rig.feed(seconds=9.0)
    rig.start()
    rig.feed(seconds=9.5)
    rig.feed(seconds=0.0)
    snapshot = rig.statistics.snapshot(0.0)
    assert snapshot.processed == 3
    assert snapshot.latency_samples == 2
    assert snapshot.stages["latency"].maximum == 1.0
    assert set(snapshot.stages) == {
        "wait",
        "decode",
        "crop",
        "model",
        "post",
        "verify",
        "adapt",
        "publish",
        "latency",
    }


def test_the_exemplar_learns_after_the_box_is_out(rig: Rig) -> None:
    rig.feed()
    rig.start()
    for _ in range(2):
        rig.feed()
    # the first image takes the target, and there is nothing to learn before one
    assert rig.tracker.events == ["publish", "publish", "learn", "publish", "learn"]


def test_an_image_that_is_caught_up_and_not_published_is_learned_from(rig: Rig) -> None:
    rig.feed(5)
    rig.start(stamp=2 / RATE)
    assert rig.tracker.events == ["publish"] * 5 + ["learn"] * 3


@pytest.mark.parametrize("by", ["decoder", "tracker"])
def test_nothing_is_learned_from_a_refused_image(rig: Rig, by: str) -> None:
    rig.feed()
    rig.start()
    rig.feed()
    rig.tracker.events.clear()
    image = rig.frame()
    if by == "decoder":
        image.message.data = b"short"
    else:
        rig.tracker.fails = ImageError("no colour")
    rig.follower.step([], image)
    assert rig.refused == ["length" if by == "decoder" else "unusable"]
    assert rig.tracker.events == []


def test_an_error_while_learning_costs_neither_the_box_nor_the_node(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> float:
        raise RuntimeError("device lost")

    rig.feed()
    rig.start()
    thread = threading.Thread(target=rig.follower.run, daemon=True)
    thread.start()
    with monkeypatch.context() as patch:
        patch.setattr(rig.tracker, "learn", fail)
        rig.inbox.put_frame(rig.frame())
        wait_until(lambda: rig.errors)
    assert shown(rig) == [False, True]
    rig.inbox.put_frame(rig.frame())
    wait_until(lambda: "learn" in rig.tracker.events)
    rig.inbox.close()
    thread.join(10)
    assert not thread.is_alive()
    assert shown(rig) == [False, True, True]
    assert [str(error) for error in rig.errors] == ["device lost"]
    assert rig.statistics.snapshot(0.0).errors == 1


def test_drawing_for_people_is_no_part_of_the_latency(rig: Rig) -> None:
    rig.clock, rig.drawing = 10 * SECOND, 3 * SECOND
    rig.feed(seconds=9.5)
    assert rig.drawn == [(10 * SECOND, None)]
    assert rig.statistics.snapshot(0.0).stages["latency"].maximum == 0.5
