"""The tracker node under use_sim_time: a clock that goes back drops the target."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from rclpy.executors import SingleThreadedExecutor
from rclpy.parameter import Parameter
from ros_support import PATIENCE, box_message, image_message, place, rclpy, scene, tiny_model
from rosgraph_msgs.msg import Clock

from siamkd_core.presence import State
from siamkd_core.tracker import load_tracker
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
            assert time.monotonic() < deadline, self.tracker.session.follower.report()
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
        self.until(lambda: self.tracker.session.follower.report().state is State.TRACKING)
        self.until(lambda: self.processed() > before)

    def processed(self) -> int:
        return self.tracker.statistics.snapshot(time.monotonic()).processed

    def close(self) -> None:
        self._executor.shutdown()
        self.tracker.close()
        self.tracker.destroy_node()
        self.clock.destroy_node()


@pytest.fixture
def simulation(tmp_path: Path) -> Iterator[Simulation]:
    rclpy.init()
    made = Simulation(tiny_model(tmp_path))
    yield made
    made.close()
    rclpy.shutdown()


def test_forward_goes_on_and_back_starts_anew(simulation: Simulation) -> None:
    simulation.set(100)
    simulation.follow(99.9)
    simulation.set(160)
    assert simulation.tracker.session.follower.report().state is State.TRACKING
    simulation.set(50)
    simulation.until(lambda: simulation.tracker.session.follower.report().state is State.IDLE)
    assert simulation.tracker.session.follower.report().reason == "the ROS clock jumped back"
    # images of the new run are not late ones of the old
    simulation.follow(49.9)
    snapshot = simulation.tracker.statistics.snapshot(time.monotonic())
    assert not snapshot.rejects
    assert snapshot.stages["latency"].maximum < 1.0  # simulated seconds
