"""siamkd_ros.statistics and siamkd_ros.diagnostics: the right numbers, the right levels."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from siamkd_core.presence import State
from siamkd_ros.diagnostics import (
    Device,
    Level,
    Report,
    camera_task,
    device_task,
    resident_megabytes,
    status_task,
    timing_task,
    tracker_task,
)
from siamkd_ros.statistics import WINDOW, Statistics, spread

OFFERS = "nobody publishes on /image"
ACTIVE: dict[str, Any] = {"lifecycle": "active", "enabled": True, "bearing": None}


def with_images(stamps: list[float], age: float = 0.01, size: int = 1000) -> Statistics:
    statistics = Statistics()
    for stamp in stamps:
        statistics.received(stamp, stamp, stamp + age, size)
    return statistics


def test_spread_of_a_known_sample() -> None:
    assert spread([float(n) for n in range(101)]) == (50.0, 95.0, 100.0)
    assert spread([2.0]) == (2.0, 2.0, 2.0)


def test_rates_are_since_the_snapshot_before() -> None:
    statistics = Statistics()
    statistics.snapshot(100.0)
    for n in range(30):
        statistics.received(1 + n / 30, 1.0, 2.0, 1000)
        statistics.count("processed")
    snapshot = statistics.snapshot(102.0)
    assert (snapshot.rate, snapshot.processed_rate) == (15.0, 15.0)
    assert statistics.snapshot(103.0).rate == 0.0


@pytest.mark.parametrize("loss", [0.0, 0.2, 0.5, 0.95])
def test_random_loss_is_estimated_and_not_overstated(loss: float) -> None:
    arrives = np.random.default_rng(0).random(3000) >= loss
    stamps = [1 + n / 30 for n in range(3000) if arrives[n]]
    missing = with_images(stamps).snapshot(0.0).missing
    assert missing <= loss + 0.1
    assert missing >= min(loss, 0.5) - 0.1  # images lost in long runs look like pauses


@pytest.mark.parametrize("jitter", [0.001, 0.006])
def test_jitter_is_not_much_loss(jitter: float) -> None:
    stamps = [1 + n / 30 + (jitter if n % 2 else -jitter) for n in range(90)]
    assert with_images(stamps).snapshot(0.0).missing < 0.15


def test_gaps_are_counted_and_a_pause_is_not_loss() -> None:
    statistics = with_images([1 + n / 30 for n in range(90)])
    snapshot = statistics.snapshot(0.0)  # the usual interval is known from here on
    assert snapshot.interval == pytest.approx(1 / 30)
    assert snapshot.gaps == 0
    for stamp in (4.0, 4.0 + 1 / 30, 4.2, 10.0):
        statistics.received(stamp, 5.0, 5.0, 1000)
    snapshot = statistics.snapshot(1.0)
    assert snapshot.gaps == 2
    assert snapshot.missing < 0.1


@pytest.mark.parametrize(("before", "after"), [(30, 5), (30, 15), (5, 60)])
def test_another_rate_of_the_camera_is_not_loss(before: int, after: int) -> None:
    stamps = [1 + n / before for n in range(100)]
    statistics = with_images(stamps)
    assert statistics.snapshot(0.0).interval == pytest.approx(1 / before)
    later = [stamps[-1] + n / after for n in range(1, 41)]
    for n, stamp in enumerate(later):
        statistics.received(stamp, stamp, stamp, 1000)
        if n % 7 == 6:
            statistics.snapshot(stamp)
    snapshot = statistics.snapshot(200.0)
    assert snapshot.interval == pytest.approx(1 / after)
    assert snapshot.missing < 0.05


def test_the_same_picture_again_and_again() -> None:
    statistics = Statistics()
    assert statistics.snapshot(0.0).frozen == 0.0
    for n in range(40):
        statistics.received(1 + n / 10, 5 + n / 10, 5 + n / 10, 1000, same=n > 9)
    frozen = statistics.snapshot(1.0)
    assert frozen.frozen == pytest.approx(3.0)
    task = camera_task(frozen, 0.1, 1.0, OFFERS)
    assert task.level == Level.WARN and "the same picture for 3.0 s" in task.message
    assert camera_task(frozen, 0.1, 5.0, OFFERS).level == Level.OK
    statistics.received(6.0, 9.0, 9.0, 1000)
    assert statistics.snapshot(2.0).frozen == 0.0


def test_a_frozen_picture_is_forgotten_with_its_stream() -> None:
    statistics = Statistics()
    for n in range(40):
        statistics.received(1 + n / 10, 5 + n / 10, 5 + n / 10, 1000, same=n > 0)
    assert statistics.snapshot(0.0).frozen == pytest.approx(3.9)
    statistics.clear_windows()  # the node was deactivated
    for now in (1.0, 2.0):
        snapshot = statistics.snapshot(now)
        assert snapshot.frozen == 0.0
        assert camera_task(snapshot, 0.0, 1.0, OFFERS).level == Level.OK
    # after a jump of time the camera may go on with the same picture
    for n in range(21):
        statistics.received(1 + n / 10, 20 + n / 10, 20 + n / 10, 1000, same=True)
    assert statistics.snapshot(3.0).frozen == pytest.approx(2.0)


def test_odd_stamps_are_counted_and_give_no_age() -> None:
    statistics = Statistics()
    statistics.received(0.0, 1.0, 10.0, 5)
    statistics.received(11.0, 1.0, 10.0, 5)
    statistics.received(9.5, 1.0, 10.0, 5)
    snapshot = statistics.snapshot(0.0)
    assert (snapshot.unstamped, snapshot.future, snapshot.received) == (1, 1, 3)
    assert snapshot.age == (0.5, 0.5, 0.5)


def test_latency_counts_misses_and_leaves_out_the_impossible() -> None:
    statistics = Statistics()
    for seconds in (-5.0, 0.05, 0.05, 0.2):
        statistics.latency(seconds, deadline=0.1)
    snapshot = statistics.snapshot(0.0)
    assert (snapshot.latency_samples, snapshot.misses) == (3, 1)
    assert snapshot.stages["latency"].maximum == 0.2


def test_windows_are_bounded_and_can_be_cleared_without_the_counters() -> None:
    statistics = with_images([float(n) for n in range(1, 1000)])
    for n in range(2 * WINDOW):
        statistics.timed({"model": float(n)})
    assert statistics.snapshot(0.0).stages["model"].p50 == WINDOW + (WINDOW - 1) / 2
    statistics.clear_windows()
    snapshot = statistics.snapshot(1.0)
    assert not snapshot.stages
    assert snapshot.age is None
    assert snapshot.received == 999


def test_new_rejects_are_since_the_snapshot_before() -> None:
    statistics = Statistics()
    statistics.reject("step")
    statistics.snapshot(0.0)
    statistics.reject("step")
    statistics.reject("length")
    snapshot = statistics.snapshot(1.0)
    assert dict(snapshot.rejects) == {"step": 2, "length": 1}
    assert dict(snapshot.new_rejects) == {"step": 1, "length": 1}


def test_camera_task() -> None:
    statistics = with_images([1.0, 1.1])
    quiet = statistics.snapshot(0.0)
    assert camera_task(quiet, 0.1, 1.0, OFFERS).level == Level.OK
    silent = camera_task(quiet, 2.5, 1.0, OFFERS)
    assert silent.level == Level.ERROR
    assert silent.message == f"no image for 2.5 s; {OFFERS}"
    assert camera_task(quiet, float("inf"), 1.0, OFFERS).message == f"no image yet; {OFFERS}"
    statistics.reject("step")
    refused = camera_task(statistics.snapshot(1.0), 0.1, 1.0, OFFERS)
    assert refused.level == Level.WARN
    assert "step" in refused.message
    assert refused.values["rejected.step"] == "1"
    assert refused.values["received"] == "2"


@pytest.mark.parametrize(
    ("state", "level"),
    [
        (State.IDLE, Level.OK),
        (State.TRACKING, Level.OK),
        (State.UNCERTAIN, Level.WARN),
        (State.LOST, Level.WARN),
    ],
)
def test_tracker_task_and_status(state: State, level: Level) -> None:
    report = Report(state, "because", 12.5, "ab-1", "mine", 0.25, 3.0)
    statistics = Statistics()
    for task in (
        status_task(report, "siamfc"),
        tracker_task(report, statistics.snapshot(0.0), **ACTIVE),
    ):
        assert task.level == level
        assert task.message == f"{state.value}: because"
        assert task.values["state"] == state.value
        assert task.values["since"] == "12.500"
        assert task.values["target_id"] == "ab-1"
    assert status_task(report, "siamfc").values["box_id"] == "mine"
    statistics.count("errors")
    failed = tracker_task(report, statistics.snapshot(1.0), **ACTIVE)
    assert failed.level == Level.WARN
    assert "1 unexpected errors" in failed.message
    assert failed.values["internal_errors"] == "1"
    # one error does not colour the rest of the node's life
    later = tracker_task(report, statistics.snapshot(2.0), **ACTIVE)
    assert (later.level, later.values["internal_errors"]) == (level, "1")


def test_timing_task() -> None:
    statistics = Statistics()
    assert timing_task(statistics.snapshot(0.0), 0.1).message == "no frame processed yet"
    statistics.timed({"model": 0.02, "wait": 0.001})
    for _ in range(10):
        statistics.latency(0.05, 0.1)
    fine = timing_task(statistics.snapshot(1.0), 0.1)
    assert fine.level == Level.OK
    assert fine.values["model_ms.p50"] == "20.00"
    assert fine.values["latency_ms.p95"] == "50.00"
    statistics.latency(0.15, 0.1)
    late = timing_task(statistics.snapshot(2.0), 0.1)
    assert late.level == Level.WARN
    assert late.values["deadline_misses"] == "1"
    for _ in range(WINDOW):
        statistics.latency(0.05, 0.1)
    recovered = timing_task(statistics.snapshot(3.0), 0.1)
    assert recovered.level == Level.OK
    assert recovered.values["deadline_misses"] == "1"


def test_tracker_task_tells_of_lifecycle_and_bearing() -> None:
    report, snapshot = Report(State.IDLE, "because"), Statistics().snapshot(0.0)
    values = tracker_task(report, snapshot, **ACTIVE).values
    assert (values["lifecycle"], values["enabled"]) == ("active", "true")
    assert "bearing" not in values
    for note, shown in (("", "valid"), ("no camera_info", "no camera_info")):
        values = tracker_task(report, snapshot, **{**ACTIVE, "bearing": note}).values
        assert values["bearing"] == shown


def test_device_task_names_model_device_and_memory() -> None:
    described = {"model": "m", "device": "CPU", "sha256": "00"}
    task = device_task(Device(described, "loaded in 1 s", "", None))
    assert (task.level, task.message) == (Level.OK, "m on CPU")
    assert (task.values["sha256"], task.values["start_up"]) == ("00", "loaded in 1 s")
    assert float(task.values["memory_mb"]) > 1
    assert 1 < resident_megabytes() < 100_000
    task = device_task(Device(described, "loaded in 1 s", "no CUDA device", 12.3))
    assert (task.level, task.message) == (Level.WARN, "no CUDA device")
    assert task.values["device_memory_mb"] == "12"
    assert device_task(None).message == "no model is loaded"
