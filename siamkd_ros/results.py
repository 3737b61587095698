"""What the node says about the target: `~/target`, `~/bearing` and `~/overlay`, a frame at a time.

All under the image's own header. Called from the inference thread; the target goes out first.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from geometry_msgs.msg import Vector3Stamped
from rclpy.lifecycle import LifecycleNode
from sensor_msgs.msg import Image
from vision_msgs.msg import Detection2D, Detection2DArray, ObjectHypothesisWithPose

from siamkd_core.presence import State
from siamkd_core.tracker import Track
from siamkd_ros.any_image import decode_image
from siamkd_ros.bearing import NO_RAY, Bearing
from siamkd_ros.boxes import fill_detection
from siamkd_ros.frame import Frame
from siamkd_ros.overlay import Pace, draw_overlay
from siamkd_ros.parameters import TrackerParameters


class Results:
    """The publishers that exist while the node is configured."""

    def __init__(self, node: LifecycleNode, parameters: Callable[[], TrackerParameters]) -> None:
        self._node = node
        self._parameters = parameters
        self._target = node.create_publisher(Detection2DArray, "~/target", 10)
        self._overlay = node.create_publisher(Image, "~/overlay", 1)
        self._pace = Pace()
        values = parameters()
        self.bearing: Bearing | None = None
        self._rays: Any = None
        if values.bearing:
            self.bearing = Bearing(values.rectified, node.resolve_topic_name("camera_info"))
            self._rays = node.create_publisher(Vector3Stamped, "~/bearing", 10)

    def destroy(self) -> None:
        for publisher in filter(None, (self._target, self._overlay, self._rays)):
            self._node.destroy_publisher(publisher)

    @property
    def bearing_note(self) -> str | None:
        """Why the last ray was none; empty if it was one, None without `~/bearing`."""
        return self.bearing.note if self.bearing else None

    def publish(self, frame: Frame, track: Track | None, target: str, label: str) -> None:
        """One processed image's box, and the ray to it."""
        header = frame.message.header
        message = Detection2DArray(header=header)
        if track is not None:
            detection = Detection2D(header=header, id=target)
            fill_detection(detection, track.box, track.score, label, ObjectHypothesisWithPose())
            message.detections.append(detection)
        self._target.publish(message)
        if self.bearing is not None:
            ray = Vector3Stamped(header=header)
            found = self.bearing.ray(track.box, *frame.size) if track is not None else NO_RAY
            ray.vector.x, ray.vector.y, ray.vector.z = found
            self._rays.publish(ray)

    def draw(self, frame: Frame, track: Track | None, state: State) -> None:
        """The overlay, if anybody looks and it is time."""
        values = self._parameters()
        if not self._overlay.get_subscription_count() or not self._pace.due(values.overlay_rate):
            return
        image = draw_overlay(decode_image(frame.message), track, state, values.overlay_width)
        message = Image(header=frame.message.header, encoding="bgr8")
        message.height, message.width = image.shape[:2]
        message.step = 3 * message.width
        message.data.frombytes(image.data)
        self._overlay.publish(message)
