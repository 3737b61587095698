"""The soak's camera: goes on at its rate, and can restart, jump in time, and send nonsense."""

from __future__ import annotations

import random
import time
from collections import Counter, deque
from typing import Any, NamedTuple

import patch_scene
import rclpy
from rclpy.context import Context
from rclpy.qos import QoSProfile, QoSReliabilityPolicy
from rclpy.signals import SignalHandlerOptions
from sensor_msgs.msg import Image

SECOND = 10**9
KEPT = 30
"""Good images that are remembered, so that a box can be drawn on one of them."""
NONSENSE: dict[str, tuple[str, int | str]] = {
    "zero_size": ("width", 0),
    "step": ("step", 7),
    "length": ("height", 7),
    "encoding": ("encoding", "h264"),
    "out_of_order": ("stamp", -SECOND // 5),
    "other_size": ("encoding", "mono8"),
}


class Shown(NamedTuple):
    """A good image that was sent: its stamp, nanoseconds, and its number in the scene."""

    stamp: int
    number: int


class Camera:
    """Publishes the scene on `image`; each restart is a new participant in the graph.

    Attributes:
        shown: the latest good images of this run of time, newest last.
        sent: good images.
        nonsense: malformed images sent, by the reason that they must be refused for.
    """

    def __init__(self, width: int, height: int) -> None:
        self.size = (width, height)
        self.shown: deque[Shown] = deque(maxlen=KEPT)
        self.sent = 0
        self.nonsense: Counter[str] = Counter()
        self._messages = [self._message(image) for image in patch_scene.images(width, height)]
        self._offset = 0
        self._start()

    def restart(self) -> None:
        """As a driver that died: what it had on its way is lost."""
        self.close()
        self._start()

    def jump(self, seconds: float) -> None:
        """The stamps go on from so many seconds later; negative is back."""
        self._offset += round(seconds * SECOND)
        if seconds < 0:
            self.shown.clear()

    @property
    def behind(self) -> float:
        """Seconds, negative, by which the stamps are not those of the clock."""
        return self._offset / SECOND

    def publish(self) -> None:
        """The next image of the scene."""
        message = self._messages[self.sent % len(self._messages)]
        stamp = time.time_ns() + self._offset
        _stamp(message, stamp)
        self._publisher.publish(message)
        self.shown.append(Shown(stamp, self.sent % len(self._messages)))
        self.sent += 1

    def publish_nonsense(self, chance: random.Random) -> None:
        """An image that must be refused."""
        reason = chance.choice(sorted(NONSENSE))
        field, value = NONSENSE[reason]
        whole = self._messages[0]
        message = Image(height=whole.height, width=whole.width, step=whole.step)
        message.encoding, message.data = whole.encoding, whole.data
        stamp = time.time_ns() + self._offset
        if reason == "other_size":
            # a row holds that many grey pixels; three images of one size would be a new camera mode
            message.width = chance.randint(whole.width + 1, whole.step)
        if field == "stamp":
            stamp += int(value)
        else:
            setattr(message, field, value)
        _stamp(message, stamp)
        self._publisher.publish(message)
        self.nonsense[reason] += 1

    def close(self) -> None:
        self._node.destroy_node()
        self._context.shutdown()

    def _start(self) -> None:
        self._context = Context()
        rclpy.init(context=self._context, signal_handler_options=SignalHandlerOptions.NO)
        self._node = rclpy.create_node("camera", context=self._context)
        profile = QoSProfile(depth=5, reliability=QoSReliabilityPolicy.RELIABLE)
        self._publisher = self._node.create_publisher(Image, "image", profile)

    def _message(self, image: Any) -> Image:
        height, width = image.shape[:2]
        message = Image(height=height, width=width, encoding="bgr8", step=3 * width)
        message.data.frombytes(image.data)
        message.header.frame_id = "soak"
        return message


def _stamp(message: Image, stamp: int) -> None:
    message.header.stamp.sec, message.header.stamp.nanosec = divmod(stamp, SECOND)
