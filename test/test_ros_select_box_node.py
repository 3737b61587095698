"""The command select_box: where it cannot open a window, and what it does with a dragged box."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticStatus
from rclpy.executors import SingleThreadedExecutor
from rclpy.parameter import Parameter
from ros_support import NodeProcess, image_message, nanoseconds, rclpy, scene
from sensor_msgs.msg import Image
from vision_msgs.msg import Detection2D

from siamkd_core.box import Box
from siamkd_core.errors import SiamkdError
from siamkd_ros.qos import latched
from siamkd_ros.select_box_node import SelectBoxNode

STAMP = 5 * 10**9 + 7


class Desk:
    """A camera and a tracker that answers, beside the command in one executor."""

    def __init__(self, answer: str = "") -> None:
        self.node = rclpy.create_node("desk")
        self.images = self.node.create_publisher(Image, "image", 5)
        self.status = self.node.create_publisher(DiagnosticStatus, "tracker/status", latched())
        self.boxes: list[Detection2D] = []
        self.answer = answer
        self.node.create_timer(0.05, self._show)
        self.status.publish(DiagnosticStatus(message="idle: an older word"))

    def listen(self) -> None:
        """Be a tracker, too."""
        self.node.create_subscription(Detection2D, "tracker/init", self._on_box, 10)

    def run(self, chosen: Any, timeout: float = 10.0) -> int:
        """The whole command; its exit code."""
        command = SelectBoxNode(chosen, parameter_overrides=[Parameter("timeout", value=timeout)])
        executor = SingleThreadedExecutor()
        executor.add_node(self.node)
        executor.add_node(command)
        try:
            executor.spin()
        except SystemExit as end:
            return int(end.code or 0)
        finally:
            executor.shutdown()
            command.destroy_node()
            self.node.destroy_node()  # or the next test finds its subscription, too
        return -1

    def _show(self) -> None:
        self.images.publish(image_message(scene(3), STAMP))

    def _on_box(self, message: Detection2D) -> None:
        self.boxes.append(message)
        if self.answer:
            self.status.publish(DiagnosticStatus(message=self.answer))


@pytest.fixture
def graph() -> Iterator[None]:
    rclpy.init()
    yield
    rclpy.shutdown()


@pytest.mark.usefixtures("graph")
@pytest.mark.parametrize(
    ("answer", "code"), [("tracking: target given", 0), ("idle: box refused: too old", 1)]
)
def test_the_box_goes_out_with_the_frozen_images_stamp(answer: str, code: int) -> None:
    desk = Desk(answer)
    desk.listen()
    seen: list[Any] = []

    def drag(image: Any) -> Box:
        seen.append(image)
        return Box(20.0, 30.0, 40.0, 50.0)

    assert desk.run(drag) == code
    assert (seen[0] == scene(3)).all()
    (message,) = desk.boxes
    assert nanoseconds(message.header) == STAMP
    center = message.bbox.center.position
    assert (center.x, center.y) == (40, 55)
    assert (message.bbox.size_x, message.bbox.size_y) == (40, 50)


@pytest.mark.usefixtures("graph")
def test_without_a_tracker_it_says_where_it_looked() -> None:
    with pytest.raises(SiamkdError, match="no tracker listens on /tracker/init"):
        Desk().run(lambda image: Box(1, 1, 9, 9), timeout=0.5)


@pytest.mark.usefixtures("graph")
def test_a_tracker_that_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("siamkd_ros.select_box_node.ANSWER", 0.3)
    desk = Desk()
    desk.listen()
    with pytest.raises(SiamkdError, match="did not answer"):
        desk.run(lambda image: Box(1, 1, 9, 9))


def has_windows() -> bool:
    try:
        cv2.destroyAllWindows()
    except cv2.error:
        return False
    return True


@pytest.mark.usefixtures("graph")
@pytest.mark.parametrize(
    ("display", "says"), [("", "there is no display"), (":1", "opencv-python-headless has none")]
)
def test_without_a_window_it_says_what_to_install(
    display: str, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if display and has_windows():
        pytest.skip("this OpenCV can open windows")
    monkeypatch.setitem(os.environ, "DISPLAY", display)
    monkeypatch.delitem(os.environ, "WAYLAND_DISPLAY", raising=False)
    desk = Desk()
    desk.listen()
    command = NodeProcess("select_box", tmp_path / "log", timeout=60.0)
    executor = SingleThreadedExecutor()
    executor.add_node(desk.node)
    while command.process.poll() is None:
        executor.spin_once(timeout_sec=0.1)
    executor.shutdown()
    assert command.wait() == 2, command.log
    assert says in command.log
    assert "Traceback" not in command.log


def test_nothing_selected(monkeypatch: pytest.MonkeyPatch) -> None:
    from siamkd_ros.select_box_node import select

    monkeypatch.setenv("DISPLAY", ":1")
    monkeypatch.setattr(cv2, "destroyAllWindows", lambda: None)
    monkeypatch.setattr(cv2, "selectROI", lambda *_, **__: (0, 0, 0, 0))
    image = np.zeros((10, 10, 3), np.uint8)
    with pytest.raises(SiamkdError, match="nothing was selected"):
        select(image)
    monkeypatch.setattr(cv2, "selectROI", lambda *_, **__: (1, 2, 3, 4))
    assert select(image) == Box(1.0, 2.0, 3.0, 4.0)
