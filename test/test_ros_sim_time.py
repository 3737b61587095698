"""The tracker node under use_sim_time: time that goes back drops the target, with or without
/clock."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from rclpy.executors import SingleThreadedExecutor
from rclpy.parameter import Parameter
from ros_support import (
    PATIENCE,
    NodeProcess,
    Observer,
    box_message,
    image_message,
    nanoseconds,
    place,
    rclpy,
    scene,
    tiny_model,
    values,
)
from rosgraph_msgs.msg import Clock

from siamkd_core.presence import State
from siamkd_core.tracker import load_tracker
from siamkd_ros.diagnostics import Report
from siamkd_ros.tracker_node import TrackerNode


class Simulation:
    """A tracker node in this process, and the clock it lives by."""

    def __init__(self, model: Path) -> None:
        self.tracker = TrackerNode(
            load_tracker(model, device="cpu", threads=1),
            parameter_overrides=[Parameter("use_sim_time", value=True)],
        )
        self.clock = rclpy.create_node("clock")
        self._publisher = self.clock.create_publisher(Clock, "/clock", 10)
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(self.tracker)
        self._executor.add_node(self.clock)

    def until(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + PATIENCE
        while not condition():
            assert time.monotonic() < deadline, self.report()
            self._executor.spin_once(timeout_sec=0.05)

    def set(self, seconds: int) -> None:
        message = Clock()
        message.clock.sec = seconds

        def arrived() -> bool:
            self._publisher.publish(message)
            return self.tracker.now() == seconds * 10**9

        self.until(arrived)

    def follow(self, seconds: float) -> None:
        """Show an image, give its box, and wait until that is over and done with."""
        before = self.processed()
        self.tracker.session.on_image(image_message(scene(0), int(seconds * 10**9)))
        self.tracker.session.on_init(box_message(place(0)))
        self.until(lambda: self.report().state is State.TRACKING)
        self.until(lambda: self.processed() > before)

    def show(self, n: int, seconds: float) -> None:
        """Show frame `n`, and wait until it is over and done with."""
        before = self.processed()
        self.tracker.session.on_image(image_message(scene(n), int(seconds * 10**9)))
        self.until(lambda: self.processed() > before)

    def report(self) -> Report:
        return self.tracker.session.follower.report()

    def processed(self) -> int:
        return self.tracker.statistics.snapshot(time.monotonic()).processed

    def close(self) -> None:
        self._executor.shutdown()
        self.tracker.close()
        self.tracker.destroy_node()
        self.clock.destroy_node()


@pytest.fixture
def graph() -> Iterator[None]:
    rclpy.init()
    yield
    rclpy.shutdown()


@pytest.fixture
def simulation(graph: None, tmp_path: Path) -> Iterator[Simulation]:
    made = Simulation(tiny_model(tmp_path))
    yield made
    made.close()


def test_forward_goes_on_and_back_starts_anew(simulation: Simulation) -> None:
    simulation.set(100)
    simulation.follow(99.9)
    simulation.set(160)
    assert simulation.report().state is State.TRACKING
    simulation.set(50)
    simulation.until(lambda: simulation.report().state is State.IDLE)
    assert simulation.report().reason == "the ROS clock jumped back"
    # images of the new run are not late ones of the old
    simulation.follow(49.9)
    snapshot = simulation.tracker.statistics.snapshot(time.monotonic())
    assert not snapshot.rejects
    assert snapshot.stages["latency"].maximum < 1.0  # simulated seconds


def test_without_a_clock_a_bag_is_followed_and_its_start_drops_the_target(
    simulation: Simulation,
) -> None:
    assert simulation.tracker.now() == 0
    simulation.follow(100.0)
    for n in range(1, 4):
        simulation.show(n, 100 + 0.3 * n)
    snapshot = simulation.tracker.statistics.snapshot(time.monotonic())
    assert (snapshot.received, snapshot.future, snapshot.latency_samples) == (4, 4, 0)
    assert simulation.report().state is State.TRACKING
    for n in range(3):  # the first might be a fluke, and is refused
        simulation.tracker.session.on_image(image_message(scene(n), 100 * 10**9 + n * 10**8))
    simulation.until(lambda: simulation.report().state is State.IDLE)
    assert simulation.report().reason.startswith("the image stamps jumped back")
    rejects = simulation.tracker.statistics.snapshot(time.monotonic()).rejects
    assert rejects == {"out_of_order": 1}


@pytest.fixture
def simulated(graph: None, tmp_path: Path) -> Iterator[Observer]:
    """Sees a tracker process that lives by /clock."""
    options = {"device": "cpu", "threads": 1, "use_sim_time": True}
    tracker = NodeProcess("tracker", tmp_path / "log", model=tiny_model(tmp_path), **options)
    made = Observer()
    made.connect()
    yield made
    made.close()
    assert tracker.stop() == 0, tracker.log
    assert "Traceback" not in tracker.log


def test_a_simulation_that_starts_again_drops_the_target_and_the_status_says_why(
    simulated: Observer,
) -> None:
    clock = simulated.create_publisher(Clock, "/clock", 10)

    def tick(now: int) -> None:
        message = Clock()
        message.clock.sec, message.clock.nanosec = divmod(now, 10**9)
        clock.publish(message)

    def run(since: int, frames: int) -> None:
        """A simulation of ten images a second, each stamped with the clock it comes at."""
        for n in range(frames):
            now = since * 10**9 + n * 10**8
            tick(now)
            simulated.send(scene(n), stamp=now)

    def dropped() -> bool:
        tick(50 * 10**9)
        return simulated.state == "idle: the ROS clock jumped back"

    simulated.wait_for(lambda: clock.get_subscription_count(), "the tracker's interest in /clock")
    run(since=100, frames=3)
    assert simulated.give(place(2)).startswith("tracking")
    run(since=101, frames=3)
    assert simulated.targets[-1].detections
    simulated.wait_for(dropped, "the drop of the target")
    assert float(values(simulated.statuses[-1])["since"]) == 50.0
    # images of the new run are not late ones of the old
    run(since=51, frames=3)
    assert not simulated.targets[-1].detections
    assert nanoseconds(simulated.targets[-1].header) == 51_200_000_000
    assert simulated.give(place(2)).startswith("tracking")
    assert values(simulated.fresh_diagnostics()["camera"])["rejected"] == "0"
