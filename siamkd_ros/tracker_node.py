"""The node `tracker`: images and a box in, the target out. The contract is in the README.

`ros2 run siamkd_ros tracker --ros-args -r image:=/camera/image_raw`

Two threads. The executor's runs the callbacks, which check a message's fields and leave it in the
inbox. The inference thread owns the tracker and publishes. They share what locks itself: inbox,
ring, statistics, and the parameters, which are frozen and swapped in one piece.
"""

from __future__ import annotations

import threading
import time
import traceback
from typing import Any

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rclpy.clock import Clock, ClockType, JumpThreshold
from rclpy.duration import Duration
from rclpy.node import Node
from rclpy.qos import QoSReliabilityPolicy
from rclpy.utilities import get_rmw_implementation_identifier
from std_srvs.srv import SetBool, Trigger
from vision_msgs.msg import Detection2D, Detection2DArray, ObjectHypothesisWithPose

from siamkd_core.box import Box
from siamkd_core.tracker import Track, Tracker, load_tracker
from siamkd_ros import diagnostics
from siamkd_ros.any_image import image_size
from siamkd_ros.boxes import box_from_detection, fill_detection, label_from_detection
from siamkd_ros.diagnostics import Report, Task
from siamkd_ros.follower import Follower
from siamkd_ros.frame import SECOND, Frame, FrameRing
from siamkd_ros.image_topic import image_topic, subscribe_image
from siamkd_ros.inbox import Drop, Enable, Inbox, Start
from siamkd_ros.parameter_spec import declare, watch
from siamkd_ros.parameters import TrackerParameters
from siamkd_ros.qos import (
    describe_publishers,
    latched,
    loss_advice,
)
from siamkd_ros.rejected import Rejected
from siamkd_ros.runtime import main_exit
from siamkd_ros.statistics import Statistics
from siamkd_ros.stream_guard import Change, StreamGuard

WARN_EVERY = 5.0
ADVISE_EVERY = 60.0
JOIN_TIMEOUT = 5.0
"""Seconds that closing waits for the frame in work."""
DIAGNOSTICS_PERIOD = 1.0


class TrackerNode(Node):
    """The node; `tracker` replaces the one that the parameters would load (for tests)."""

    def __init__(self, tracker: Tracker | None = None, **node_options: Any) -> None:
        super().__init__("tracker", **node_options)
        self.parameters = declare(self, TrackerParameters)
        began = time.monotonic()
        self._tracker = tracker or self._load()
        loaded = time.monotonic()
        warm_up(self._tracker)
        self._loading = f"loaded in {loaded - began:.2f} s, warmed up in "
        self._loading += f"{time.monotonic() - loaded:.2f} s"
        card = self._tracker.card
        self._described = {
            "model": card.name,
            "sha256": card.sha256,
            **self._tracker.backend.describe(),
        }
        self.get_logger().info(
            f"model {card.name} on {self._described['device']}, "
            f"{self._described['precision']}: {self._loading}"
        )
        if card.score is None:
            self.get_logger().warning(
                f"the model {card.name} is not calibrated: its score is not the probability that "
                "the target is there, and the thresholds mean little; see siamkd calibrate --help"
            )
        self._warned: dict[str, float] = {}
        self._began = time.monotonic()
        self._last_state: tuple[Any, str] | None = None
        self.statistics = Statistics()
        self._guard = StreamGuard()
        self._inbox = Inbox()
        self._ring = FrameRing(*self._ring_limits())
        self._sequence = 0
        self._connect()
        self.follower = Follower(
            self._tracker, self._inbox, self._ring, self.statistics, self, lambda: self.parameters
        )
        watch(self, lambda: self.parameters, self._set_parameters)
        self.follower.announce()
        self._thread = threading.Thread(target=self.follower.run, name="inference", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop the inference thread. The node can be destroyed after that."""
        self._inbox.close()
        self._thread.join(JOIN_TIMEOUT)

    # Callbacks of the executor's thread

    def on_image(self, message: Any) -> None:
        """Check an image's fields and leave it for the inference thread."""
        try:
            self._accept(message)
        except Rejected as error:
            self.statistics.reject(error.reason)
            self.rejected(error)
        except Exception as error:  # no message may end the node
            self.statistics.count("errors")
            self.failed(error)

    def on_init(self, message: Detection2D) -> None:
        """Check a box and leave it for the inference thread."""
        try:
            box, label = box_from_detection(message), label_from_detection(message)
        except Rejected as error:
            self.follower.refuse(error)
            return
        stamp = _nanoseconds(message.header.stamp)
        self._inbox.put_order(Start(box, stamp, label, time.monotonic()))

    def on_reset(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        self._inbox.put_order(Drop("reset by ~/reset"))
        response.success, response.message = True, "the target is dropped"
        return response

    def on_enable(self, request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        self._inbox.put_order(Enable(request.data))
        response.success = True
        response.message = "images are processed" if request.data else "images are left alone"
        return response

    def on_diagnostics(self) -> None:
        """Publish /diagnostics; warn about large images that do not arrive."""
        snapshot = self.statistics.snapshot(time.monotonic())
        report = self.follower.report()
        silent = self._silent_for(snapshot.last_arrival)
        timeout = self.parameters.image_timeout
        offers = ""
        if silent > timeout:
            offers = describe_publishers(
                self._topic, self.get_publishers_info_by_topic(self._topic)
            )
        message = DiagnosticArray()
        message.header.stamp = self.get_clock().now().to_msg()
        message.status = [
            self._status(task)
            for task in (
                diagnostics.camera_task(snapshot, silent, timeout, offers),
                diagnostics.tracker_task(report, self.follower.enabled, snapshot),
                diagnostics.timing_task(snapshot, self.parameters.latency_deadline),
                diagnostics.device_task(self._described, self._loading),
            )
        ]
        self._diagnostics.publish(message)
        best_effort = self._images.qos_profile.reliability == QoSReliabilityPolicy.BEST_EFFORT
        advice = loss_advice(
            self._topic, snapshot, best_effort, get_rmw_implementation_identifier()
        )
        if advice:
            self._warn("loss", advice, ADVISE_EVERY)

    # What the follower calls, from the inference thread

    def target(self, header: Any, track: Track | None, target: str, label: str) -> None:
        """Publish one processed image's result under the image's own header."""
        message = Detection2DArray(header=header)
        if track is not None:
            detection = Detection2D(header=header, id=target)
            fill_detection(detection, track.box, track.score, label, ObjectHypothesisWithPose())
            message.detections.append(detection)
        self._target.publish(message)

    def status(self, report: Report) -> None:
        """Publish ~/status; a change of state or target is one log line."""
        self._status_publisher.publish(
            self._status(diagnostics.status_task(report, self._described["model"]))
        )
        state = (report.state, report.target)
        if state != self._last_state:
            self._last_state = state
            self.get_logger().info(f"{report.state.value}: {report.reason}")

    def rejected(self, error: Rejected) -> None:
        self._warn(error.reason, f"refused ({error.reason}): {error}", WARN_EVERY)

    def failed(self, error: Exception) -> None:
        if not self.context.ok():
            return  # a signal came: nothing can be published any more, and that is all it says
        trace = "".join(traceback.format_exception(error))
        self._warn(type(error).__name__, f"unexpected error, going on:\n{trace}", WARN_EVERY)

    def now(self) -> int:
        """The ROS clock, nanoseconds."""
        return int(self.get_clock().now().nanoseconds)

    def _load(self) -> Tracker:
        values = self.parameters
        return load_tracker(values.model, values.device, values.precision, values.threads or None)

    def _connect(self) -> None:
        self._target = self.create_publisher(Detection2DArray, "~/target", 10)
        self._status_publisher = self.create_publisher(DiagnosticStatus, "~/status", latched())
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", 10)
        transport = self.parameters.image_transport
        self._topic = image_topic(self, transport)
        self._images = subscribe_image(self, transport, self.on_image)
        self.create_subscription(Detection2D, "~/init", self.on_init, 10)
        self.create_service(Trigger, "~/reset", self.on_reset)
        self.create_service(SetBool, "~/enable", self.on_enable)
        # on the steady clock: a simulation that stands still is worth reporting
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self.create_timer(DIAGNOSTICS_PERIOD, self.on_diagnostics, clock=steady)
        any_step_back = JumpThreshold(
            min_forward=None, min_backward=Duration(nanoseconds=-1), on_clock_change=False
        )
        self._jump_handle = self.get_clock().create_jump_callback(
            any_step_back,
            post_callback=lambda _: self._forget_stream("the ROS clock jumped back"),
        )

    def _accept(self, message: Any) -> None:
        arrived, now = time.monotonic(), self.now()
        stamp = _nanoseconds(message.header.stamp)
        change = self._guard.inspect(stamp, image_size(message), now)
        if change is Change.TIME:
            self._forget_stream("the image stamps jumped back (a bag that starts again?)")
        elif change is Change.SIZE:
            self._ring.clear()
            self._inbox.drop_frame()
        self._sequence += 1
        frame = Frame(self._sequence, stamp, arrived, message)
        self._ring.append(frame)
        if self._inbox.put_frame(frame):
            self.statistics.count("overwritten")
        self.statistics.received(stamp / SECOND, arrived, now / SECOND, frame.bytes)

    def _forget_stream(self, reason: str) -> None:
        """Time started anew: what was measured before belongs to another stream."""
        self._guard.reset()
        self._ring.clear()
        self._inbox.drop_frame()
        self.statistics.clear_windows()
        self._inbox.put_order(Drop(reason))

    def _set_parameters(self, values: TrackerParameters) -> None:
        self.parameters = values
        self._ring.seconds, self._ring.limit = self._ring_limits()

    def _ring_limits(self) -> tuple[float, int]:
        return self.parameters.ring_seconds, self.parameters.ring_megabytes * 1_000_000

    def _silent_for(self, last_arrival: float | None) -> float:
        if last_arrival is not None:
            return time.monotonic() - last_arrival
        started_long_ago = time.monotonic() - self._began > self.parameters.image_timeout
        return float("inf") if started_long_ago else 0.0

    def _status(self, task: Task) -> DiagnosticStatus:
        return DiagnosticStatus(
            level=bytes([task.level]),
            name=f"{self.get_fully_qualified_name().lstrip('/')}: {task.name}",
            message=task.message,
            hardware_id=self._topic,
            values=[KeyValue(key=key, value=value) for key, value in task.values.items()],
        )

    def _warn(self, key: str, text: str, every: float) -> None:
        """Log a warning, each kind at most once in `every` seconds."""
        now = time.monotonic()
        if now - self._warned.get(key, -every) >= every:
            self._warned[key] = now
            self.get_logger().warning(text)


def warm_up(tracker: Tracker) -> None:
    """The first run of a network is slow (memory, kernels); let that happen before the camera."""
    noise = np.random.default_rng(0).integers(0, 256, (240, 320, 3), np.uint8)
    tracker.init(noise, Box(140.0, 100.0, 40.0, 40.0))
    for _ in range(3):
        tracker.update(noise)
    tracker.reset()


def _nanoseconds(stamp: Any) -> int:
    return int(stamp.sec) * SECOND + int(stamp.nanosec)


def main() -> None:
    main_exit(TrackerNode)


if __name__ == "__main__":
    main()
