"""What the demo hears: images, boxes, status and diagnostics, gathered by a thread of its own."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import rclpy
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rclpy.signals import SignalHandlerOptions
from sensor_msgs.msg import Image
from vision_msgs.msg import Detection2D, Detection2DArray

from siamkd_core.box import Box

RATE_WINDOW = 2.0


@dataclass(frozen=True)
class Result:
    """One message of `/tracker/target`.

    Attributes:
        stamp: of the image that it belongs to, nanoseconds.
        box: None where the tracker reports nothing.
        score: 0 to 1; 0 without a box.
        latency: seconds from the image's stamp to the arrival of this message.
    """

    stamp: int
    box: Box | None
    score: float
    latency: float


class Listener:
    """Subscribes to the camera and the tracker, and gives the tracker its box.

    Attributes:
        state, reason: of the latest `/tracker/status`; state is "" before the first.
        recording: whether images and results are counted and kept for `take_*`.
        first, newest: the first and the latest image message, recording or not.
        published, processed: images and results counted; `boxes` are the results with a box.
        last_image, last_result: newest stamp of either, nanoseconds.
        score, latencies: of the latest result; seconds, of the latest thousand results.
        timing, device: key-value pairs of the diagnostics' tasks; empty before the first.
        diagnosed: how many /diagnostics messages have come.
    """

    def __init__(self, recording: bool) -> None:
        # Ctrl-C is the demo's own business.
        rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
        self._node = node = rclpy.create_node("demo")
        self.state = self.reason = ""
        self.recording = recording
        self.first: Image | None = None
        self.newest: Image | None = None
        self.published = self.processed = self.boxes = self.diagnosed = 0
        self.last_image = self.last_result = 0
        self.score = 0.0
        self.latencies: deque[float] = deque(maxlen=1000)
        self.timing: dict[str, str] = {}
        self.device: dict[str, str] = {}
        self._images: deque[Image] = deque()
        self._results: deque[Result] = deque()
        self._image_times: deque[float] = deque()
        self._result_times: deque[float] = deque()
        # Every image is wanted, for the video; the tracker takes the newest only.
        node.create_subscription(Image, "image", self._on_image, _reliable(50))
        node.create_subscription(Detection2DArray, "tracker/target", self._on_target, _reliable(50))
        latched = _reliable(1)
        latched.durability = DurabilityPolicy.TRANSIENT_LOCAL
        node.create_subscription(DiagnosticStatus, "tracker/status", self._on_status, latched)
        node.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, 10)
        self._init = node.create_publisher(Detection2D, "tracker/init", _reliable(1))
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(node)
        self._thread = threading.Thread(target=self._spin, name="listener", daemon=True)
        self._thread.start()

    @property
    def connected(self) -> bool:
        """Whether the tracker is there: its status came, and it hears our box."""
        return bool(self.state) and self._init.get_subscription_count() > 0

    @property
    def image_rate(self) -> float:
        """Hz, over the last seconds."""
        return _rate(self._image_times)

    @property
    def result_rate(self) -> float:
        """Hz, over the last seconds."""
        return _rate(self._result_times)

    def give(self, box: Box, image: Image) -> None:
        """Tell the tracker where the target is in `image`."""
        message = Detection2D(header=image.header)
        message.bbox.center.position.x = box.cx
        message.bbox.center.position.y = box.cy
        message.bbox.size_x = box.w
        message.bbox.size_y = box.h
        self._init.publish(message)

    def take_images(self) -> Iterator[Image]:
        """The images kept, oldest first; each is given once."""
        while self._images:
            yield self._images.popleft()

    def take_results(self) -> Iterator[Result]:
        """The results kept, oldest first; each is given once."""
        while self._results:
            yield self._results.popleft()

    def close(self) -> None:
        """Leave the graph."""
        self._executor.shutdown()
        self._thread.join(5.0)
        self._node.destroy_node()
        rclpy.try_shutdown()

    def _spin(self) -> None:
        with suppress(ExternalShutdownException):
            self._executor.spin()

    def _on_image(self, message: Image) -> None:
        self.first = self.first or message
        self.newest = message
        if self.recording:
            self._images.append(message)
            self.last_image = stamp_of(message)
            self.published += 1
            _note(self._image_times)

    def _on_target(self, message: Detection2DArray) -> None:
        if not self.recording:
            return
        now = self._node.get_clock().now().nanoseconds
        stamp = stamp_of(message)
        box, score = None, 0.0
        if message.detections:
            first = message.detections[0]
            center, size = first.bbox.center.position, (first.bbox.size_x, first.bbox.size_y)
            box = Box.from_center(center.x, center.y, *size)
            score = first.results[0].hypothesis.score
        self.score = score
        self.boxes += box is not None
        self.processed += 1
        self.last_result = stamp
        latency = (now - stamp) / 1e9
        self.latencies.append(latency)
        self._results.append(Result(stamp, box, score, latency))
        _note(self._result_times)

    def _on_status(self, message: DiagnosticStatus) -> None:
        values = _pairs(message)
        self.reason = values.get("reason", message.message)
        self.state = values.get("state", "unknown")

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        for status in message.status:
            if status.name.endswith("timing"):
                self.timing = _pairs(status)
            elif status.name.endswith("device"):
                self.device = _pairs(status)
        self.diagnosed += 1


def stamp_of(message: Any) -> int:
    """The header's stamp, nanoseconds."""
    stamp = message.header.stamp
    return int(stamp.sec) * 1_000_000_000 + int(stamp.nanosec)


def _reliable(depth: int) -> QoSProfile:
    return QoSProfile(depth=depth, reliability=ReliabilityPolicy.RELIABLE)


def _pairs(status: DiagnosticStatus) -> dict[str, str]:
    return {pair.key: pair.value for pair in status.values}


def _note(times: deque[float]) -> None:
    times.append(time.monotonic())
    while times[-1] - times[0] > RATE_WINDOW:
        times.popleft()


def _rate(times: deque[float]) -> float:
    seen = list(times)
    if len(seen) < 2 or seen[-1] <= seen[0]:
        return 0.0
    return (len(seen) - 1) / (seen[-1] - seen[0])
