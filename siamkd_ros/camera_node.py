"""The node `camera`: plays a video, a folder or a webcam as sensor_msgs/Image.

`ros2 run siamkd_ros camera --ros-args -p source:=clip.mp4 -p rate:=30.0 -p loop:=true`
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import cv2
import numpy as np
from rclpy.clock import Clock, ClockType
from rclpy.duration import Duration
from rclpy.node import Node
from rclpy.qos import QoSProfile, QoSReliabilityPolicy
from rclpy.time import Time
from sensor_msgs.msg import Image

from siamkd_core import image as core_image
from siamkd_core.errors import ConfigError, SiamkdError
from siamkd_core.newest import NewestFrame
from siamkd_core.video import FrameSource, open_source
from siamkd_ros.frame import SECOND
from siamkd_ros.parameter_spec import declare
from siamkd_ros.parameters import CameraParameters
from siamkd_ros.runtime import main_exit

DEFAULT_RATE = 30.0
SETTLE = 0.5
"""Seconds between the last subscriber awaited and the first image: it may not know us yet."""
FLUSH = 2.0
"""Seconds that the last image is given to arrive before the process ends."""


class CameraNode(Node):
    """Publishes `image`, bgr8, stamped with the moment of publishing; a webcam's with the moment
    at which the device gave it."""

    def __init__(self, **node_options: Any) -> None:
        super().__init__("camera", **node_options)
        self.parameters = values = declare(self, CameraParameters)
        if not values.source:
            raise ConfigError(
                "the parameter source is empty: give a video file, a folder of images, "
                "/dev/videoN or a webcam's number"
            )
        self._source = open_source(values.source)
        self._newest = NewestFrame(self._source) if self._source.live else None
        self._images = endless(self._source) if values.loop else iter(self._source)
        # a clip's next image is read ahead: decoding it must not delay its own publishing
        self._next = None if self._newest else self._read()
        reliability = QoSReliabilityPolicy[values.reliability.upper()]
        profile = QoSProfile(depth=values.depth, reliability=reliability)
        self._publisher = self.create_publisher(Image, "image", profile)
        self.published = 0
        self._subscribed: float | None = None
        rate = values.rate or self._source.fps or DEFAULT_RATE
        # on the steady clock: a paced clip must not depend on a simulation's time
        self._timer = self.create_timer(
            1 / rate, self.on_timer, clock=Clock(clock_type=ClockType.STEADY_TIME)
        )
        self.get_logger().info(
            f"{self._source.name}, {rate:g} Hz, {values.reliability}, on "
            f"{self.resolve_topic_name('image')}"
        )

    def close(self) -> None:
        """Give the video or device back."""
        (self._newest or self._source).close()

    def on_timer(self) -> None:
        """Publish a webcam's newest image; of a clip the one that was read ahead.

        Raises:
            SiamkdError: the webcam has ended.
        """
        taken = self._newest.take() if self._newest else None
        if not self._has_subscribers():
            return
        if self._newest:
            if taken:
                self.publish(self._resized(taken.image), time.monotonic() - taken.at)
        elif self._next is None:
            self._finish()
        else:
            self.publish(self._next)
            self._next = self._read()

    def _has_subscribers(self) -> bool:
        """Whether all we wait for have been there for SETTLE seconds; once true, it stays true."""
        awaited = self.parameters.wait_for_subscribers
        if self.published or not awaited:
            return True
        if self._publisher.get_subscription_count() < awaited:
            self._subscribed = None
        elif self._subscribed is None:
            self._subscribed = time.monotonic()
        return self._subscribed is not None and time.monotonic() - self._subscribed > SETTLE

    def publish(self, image: core_image.Image, age: float = 0.0) -> Image:
        """Publish (H, W, 3) uint8 BGR, taken `age` seconds ago, and return the message."""
        message = Image(height=image.shape[0], width=image.shape[1], encoding="bgr8")
        message.step = 3 * message.width
        # frombytes copies once; assigning to data would check 3 million values one by one
        message.data.frombytes(np.ascontiguousarray(image).data)
        message.header.frame_id = self.parameters.frame_id
        now = self.get_clock().now().nanoseconds
        stamp = Time(nanoseconds=max(now - round(age * SECOND), 0))
        message.header.stamp = stamp.to_msg()
        self._publisher.publish(message)
        self.published += 1
        return message

    def _finish(self) -> None:
        self.get_logger().info(f"end of {self._source.name}: {self.published} images published")
        self._timer.cancel()
        self._publisher.wait_for_all_acked(Duration(seconds=FLUSH))
        raise SystemExit(0)

    def _read(self) -> core_image.Image | None:
        image = next(self._images, None)
        return None if image is None else self._resized(image)

    def _resized(self, image: core_image.Image) -> core_image.Image:
        width, height = self.parameters.width, self.parameters.height
        if not width or image.shape[:2] == (height, width):
            return image
        return np.asarray(
            cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA), np.uint8
        )


def endless(source: FrameSource) -> Iterator[core_image.Image]:
    """The source's images, over and over.

    Raises:
        SiamkdError: a round gave no image, so another would not either.
    """
    while True:
        some = False
        for image in source:
            some = True
            yield image
        if not some:
            raise SiamkdError(f"{source.name} gives no images any more")


def main() -> None:
    main_exit(CameraNode)


if __name__ == "__main__":
    main()
