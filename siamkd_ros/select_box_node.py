"""The command `select_box`: a box for the tracker, drawn in an OpenCV window at the desk.

`ros2 run siamkd_ros select_box --ros-args -r image:=/camera/image_raw`

Takes one image, freezes it, lets the user drag a box, sends it to `tracker/init` with that image's
stamp, says what the tracker made of it, and ends.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import cv2
from diagnostic_msgs.msg import DiagnosticStatus
from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from rclpy.qos import QoSProfile
from rclpy.signals import (
    get_current_signal_handlers_options,
    install_signal_handlers,
    uninstall_signal_handlers,
)
from vision_msgs.msg import Detection2D

from siamkd_core.box import Box
from siamkd_core.errors import SiamkdError, first_line
from siamkd_core.image import Image
from siamkd_ros.any_image import decode_image
from siamkd_ros.boxes import write_box
from siamkd_ros.image_topic import image_topic, subscribe_image
from siamkd_ros.parameter_spec import declare
from siamkd_ros.parameters import SelectParameters
from siamkd_ros.qos import describe_publishers, latched
from siamkd_ros.rejected import REFUSED, Rejected
from siamkd_ros.runtime import main_exit

TITLE = "drag a box around the target, then Enter; c cancels"
POLL = 0.05
ANSWER = 5.0
"""Seconds that the tracker has to answer."""
RESEND = 2.0
"""Seconds until the box is sent again: a tracker that we know need not know us yet. To one that
still waits for the box's image, it is the same box."""
SIGNALS = signal.SIGINT, signal.SIGTERM
INTERRUPTED = 130
"""Exit code after a signal, a shell's for Ctrl-C: no target was given."""


def select(image: Image) -> Box:
    """Let the user drag a box on (H, W, 3) uint8 BGR. Ctrl-C ends the process meanwhile.

    Raises:
        SiamkdError: no display, an OpenCV without windows, or nothing selected.
    """
    no_display = sys.platform.startswith("linux") and not (
        os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    )
    if no_display:
        raise SiamkdError(
            "there is no display for select_box: run it at a desk in the same ROS_DOMAIN_ID, or "
            "use RViz (ros2 launch siamkd_ros tracker.launch.py rviz:=true)"
        )
    try:
        with _mortal():
            found = cv2.selectROI(TITLE, image, showCrosshair=True, fromCenter=False)
            cv2.destroyAllWindows()
    except cv2.error as error:
        raise SiamkdError(
            "this OpenCV cannot open a window (opencv-python-headless has none): install "
            "python3-opencv by apt, or opencv-python in place of opencv-python-headless; or use "
            f"RViz (rviz:=true). OpenCV says: {first_line(error)}"
        ) from error
    box = Box(*map(float, found))
    if box.w < 1 or box.h < 1:
        raise SiamkdError("nothing was selected")
    return box


@contextlib.contextmanager
def _mortal() -> Iterator[None]:
    """Let signals end the process at once: OpenCV's loop hears none, and does not see either that
    its window was closed."""
    ours = get_current_signal_handlers_options()
    uninstall_signal_handlers()
    before = {number: signal.signal(number, signal.SIG_DFL) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        install_signal_handlers(ours)


class SelectBoxNode(Node):
    """One image in, one box out. `chosen` takes the place of the window in tests."""

    def __init__(self, chosen: Callable[[Image], Box] = select, **node_options: Any) -> None:
        super().__init__("select_box", **node_options)
        self.parameters = declare(self, SelectParameters)
        self._chosen = chosen
        self._image: tuple[Any, Image] | None = None  # header, picture
        self._name = f"select_box-{secrets.token_hex(4)}"  # of the box, for the tracker's answer
        self._heard = False
        self._answer, self._refused = "", False
        transport = self.parameters.image_transport
        self._topic = image_topic(self, transport)
        self._boxes = self.create_publisher(Detection2D, "tracker/init", 10)
        subscribe_image(self, transport, self.on_image)
        self._statuses = self.create_subscription(
            DiagnosticStatus, "tracker/status", self.on_status, _every_status()
        )
        self._steps = self._work()
        # on the steady clock: a simulation that stands still must not stop the user
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self.create_timer(POLL, lambda: next(self._steps), clock=steady)
        self.get_logger().info(f"waiting for an image on {self._topic}")

    def close(self) -> None:
        """Nothing runs beside the callbacks."""

    def on_image(self, message: Any) -> None:
        """Take the newest image; a malformed one is passed over."""
        try:
            self._image = (message.header, decode_image(message))
        except Rejected as error:
            self.get_logger().warning(f"refused: {error}", throttle_duration_sec=5.0)

    def on_status(self, message: DiagnosticStatus) -> None:
        """The first one that names our box is the answer: it is the target now, or was refused."""
        told = {pair.key: pair.value for pair in message.values}
        self._heard = True
        if not self._answer and told.get("box_id") == self._name:
            refused = told.get("reason", "").startswith(REFUSED)
            self._answer, self._refused = message.message, refused

    def _work(self) -> Iterator[None]:
        """The whole job, a step a timer tick.

        Raises:
            SystemExit: done: 0, or 1 if the tracker refused the box.
            SiamkdError: no image, no tracker, no window, nothing selected, no answer.
        """
        patience = time.monotonic() + self.parameters.timeout
        while self._image is None or not self._heard or not self._listeners:
            if time.monotonic() > patience:
                raise SiamkdError(self._missing())
            yield
        header, image = self._image
        box = self._chosen(image)
        message = Detection2D(header=header, id=self._name)
        write_box(message.bbox, box)
        self.get_logger().info(
            f"box {box.x:g},{box.y:g},{box.w:g},{box.h:g} sent to {self._boxes.topic_name}"
        )
        patience, due = time.monotonic() + ANSWER, 0.0
        while not self._answer:
            if (now := time.monotonic()) > patience:
                raise SiamkdError(f"the tracker did not answer within {ANSWER:g} s")
            if now > due:
                self._boxes.publish(message)
                due = now + RESEND
            yield
        self.get_logger().info(f"the tracker: {self._answer}")
        raise SystemExit(int(self._refused))

    @property
    def _listeners(self) -> int:
        return int(self._boxes.get_subscription_count())

    def _missing(self) -> str:
        if self._image is None:
            offers = describe_publishers(
                self._topic, self.get_publishers_info_by_topic(self._topic)
            )
            return f"no image came within {self.parameters.timeout:g} s; {offers}"
        missing = f"no tracker listens on {self._boxes.topic_name}"
        if self._listeners:
            missing = f"no tracker speaks on {self._statuses.topic_name}"
        return f"{missing}: is it started, in this namespace?"


def _every_status() -> QoSProfile:
    """Latched, and one that follows at once does not take the place of the answer."""
    profile = latched()
    profile.depth = 10
    return profile


def main() -> None:
    main_exit(SelectBoxNode, INTERRUPTED)


if __name__ == "__main__":
    main()
