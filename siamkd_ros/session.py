"""What exists while the node is active: subscriptions, the follower, and its thread."""

from __future__ import annotations

import threading
import time
from typing import Any

from rclpy.clock import JumpThreshold
from rclpy.duration import Duration
from rclpy.lifecycle import LifecycleNode
from rclpy.qos import QoSReliabilityPolicy, qos_profile_sensor_data
from rclpy.utilities import get_rmw_implementation_identifier
from sensor_msgs.msg import CameraInfo
from vision_msgs.msg import Detection2D

from siamkd_core.longterm import ShortTermTracker
from siamkd_ros.boxes import box_from_detection, id_from_detection, label_from_detection
from siamkd_ros.follower import Follower, Outputs
from siamkd_ros.image_topic import subscribe_image
from siamkd_ros.inbox import Start
from siamkd_ros.intake import Intake, nanoseconds
from siamkd_ros.parameters import TrackerParameters
from siamkd_ros.qos import describe_publishers, loss_advice, silence_advice
from siamkd_ros.rejected import Rejected
from siamkd_ros.results import Results
from siamkd_ros.statistics import Snapshot, Statistics

JOIN_TIMEOUT = 5.0
"""Seconds that stopping waits for the frame in work."""


class Session:
    """One stretch of tracking, from *activate* to *deactivate*."""

    def __init__(
        self,
        node: LifecycleNode,
        tracker: ShortTermTracker,
        results: Results,
        statistics: Statistics,
        outputs: Outputs,
        values: TrackerParameters,
    ) -> None:
        self._node = node
        self._tracker = tracker
        self._statistics = statistics
        self._outputs = outputs
        self._values = values
        self._began = time.monotonic()
        self.intake = Intake(statistics, outputs.now, _ring_limits(values))
        self.follower = Follower(
            tracker,
            self.intake.inbox,
            self.intake.ring,
            statistics,
            outputs,
            lambda: self._values,
        )
        self._images = subscribe_image(node, values.image_transport, self.on_image)
        self._inputs = [
            self._images,
            node.create_subscription(Detection2D, "~/init", self.on_init, 10),
        ]
        if results.bearing is not None:
            take, profile = results.bearing.info, qos_profile_sensor_data
            self._inputs.append(node.create_subscription(CameraInfo, "camera_info", take, profile))
        any_step_back = JumpThreshold(
            min_forward=None, min_backward=Duration(nanoseconds=-1), on_clock_change=False
        )
        self._jump = node.get_clock().create_jump_callback(
            any_step_back,
            post_callback=lambda _: self.intake.forget("the ROS clock jumped back"),
        )
        self.follower.announce()
        self._thread = threading.Thread(target=self.follower.run, name="inference", daemon=True)
        self._thread.start()

    def on_image(self, message: Any) -> None:
        """Check an image's fields and leave it for the inference thread."""
        try:
            self.intake.image(message)
        except Rejected as error:
            self._statistics.reject(error.reason)
            self._outputs.rejected(error)
        except Exception as error:  # no message may end the node
            self._statistics.count("errors")
            self._outputs.failed(error)

    def on_init(self, message: Detection2D) -> None:
        """Check a box and leave it for the inference thread."""
        label, box_id = label_from_detection(message), id_from_detection(message)
        try:
            box = box_from_detection(message)
        except Rejected as error:
            self.follower.refuse(error, box_id)
            return
        stamp = nanoseconds(message.header.stamp)
        self.intake.inbox.put_order(Start(box, stamp, label, time.monotonic(), box_id))

    def use(self, values: TrackerParameters) -> None:
        """Take other parameters, live."""
        self._values = values
        self.intake.ring.resize(*_ring_limits(values))

    def silent_for(self, last_arrival: float | None) -> float:
        """Seconds without an image; infinite if none came in good time."""
        now = time.monotonic()
        if last_arrival is not None and last_arrival >= self._began:
            return now - last_arrival
        return float("inf") if now - self._began > self._values.image_timeout else 0.0

    def loss_advice(self, snapshot: Snapshot) -> str:
        """As `qos.loss_advice`, for this subscription."""
        rmw = get_rmw_implementation_identifier()
        return loss_advice(self._images.topic_name, snapshot, self._best_effort, rmw)

    def silence(self, snapshot: Snapshot) -> str:
        """Who publishes images, in words, and what to do where they do not come."""
        topic, rmw = self._images.topic_name, get_rmw_implementation_identifier()
        publishers = self._node.get_publishers_info_by_topic(topic)
        offers = describe_publishers(topic, publishers)
        ours = self._images.msg_type.__name__
        if any(info.topic_type.rpartition("/")[2] == ours for info in publishers):
            offers += silence_advice(snapshot, self._best_effort, rmw)
        return offers

    @property
    def _best_effort(self) -> bool:
        return bool(self._images.qos_profile.reliability == QoSReliabilityPolicy.BEST_EFFORT)

    def stop(self) -> None:
        """End the thread, in JOIN_TIMEOUT. Nothing is sent after it ended."""
        self.intake.inbox.close()
        self._thread.join(JOIN_TIMEOUT)

    def close(self) -> None:
        """Unsubscribe, end the thread, drop the target and the kept images.

        Raises:
            RuntimeError: the frame in work takes too long. Its thread ends after it; until then the
                tracker is that thread's, and must not be given to another session.
        """
        self._jump.unregister()
        for subscription in self._inputs:
            self._node.destroy_subscription(subscription)
        self.stop()
        if self._thread.is_alive():
            raise RuntimeError(f"the image in work takes more than {JOIN_TIMEOUT:g} s")
        self.intake.ring.clear("the node was deactivated")
        self._tracker.reset()
        self._statistics.clear_windows()


def _ring_limits(values: TrackerParameters) -> tuple[float, int]:
    return values.ring_seconds, values.ring_megabytes * 1_000_000
