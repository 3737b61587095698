"""The command select_box: where it cannot open a window, and what it does with a dragged box."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticStatus, KeyValue
from rclpy.executors import SingleThreadedExecutor
from rclpy.parameter import Parameter
from rclpy.signals import SignalHandlerOptions, get_current_signal_handlers_options
from ros_support import (
    PATIENCE,
    NodeProcess,
    image_message,
    nanoseconds,
    place,
    rclpy,
    scene,
    tiny_model,
)
from sensor_msgs.msg import Image
from vision_msgs.msg import Detection2D

from siamkd_core.box import Box
from siamkd_core.errors import SiamkdError
from siamkd_core.presence import State
from siamkd_core.tracker import load_tracker
from siamkd_ros.boxes import box_from_detection
from siamkd_ros.diagnostics import Report, status_task
from siamkd_ros.qos import latched
from siamkd_ros.select_box_node import SelectBoxNode, select
from siamkd_ros.tracker_node import TrackerNode

STAMP = 5 * 10**9 + 7
OURS, THEIRS = "ours", "a-box-of-somebody-else"
GIVEN = (State.TRACKING, "target a-2 given", "a-2", OURS)
REFUSED = (State.UNCERTAIN, "box refused: too old", "a-1", OURS)
REPLACED = (State.TRACKING, "box refused: another box took its place", "a-1", OURS)
GONE = (State.LOST, "score 0.01, last seen 1.2 s ago", "a-2", OURS)
# about others
FADING = (State.UNCERTAIN, "score 0.31, last seen 0.2 s ago", "a-1", THEIRS)
DROPPED = (State.IDLE, "reset by ~/reset", "", "")
OTHERS_GIVEN = (State.TRACKING, "target a-2 given", "a-2", THEIRS)
OTHERS_REFUSED = (State.TRACKING, "box refused: too old", "a-1", THEIRS)
NAMELESS_REFUSED = (State.TRACKING, "box refused: too old", "a-1", "")


def status(state: State, reason: str, target: str, box_id: str) -> DiagnosticStatus:
    """As the tracker says it."""
    task = status_task(Report(state, reason, target=target, box_id=box_id), "siamfc")
    pairs = [KeyValue(key=key, value=value) for key, value in task.values.items()]
    return DiagnosticStatus(message=task.message, values=pairs)


class Desk:
    """A camera and a tracker that answers, beside the command in one executor.

    Args:
        answers: what the tracker says once it has a box.
        pause: between the answers, seconds; 0: all in one breath.
        deaf: boxes that get no answer.
    """

    def __init__(
        self, *answers: tuple[State, str, str, str], pause: float = 0.0, deaf: int = 0
    ) -> None:
        self.deaf = deaf
        self.node = rclpy.create_node("desk")
        self.images = self.node.create_publisher(Image, "image", 5)
        self.status = self.node.create_publisher(DiagnosticStatus, "tracker/status", latched())
        self.boxes: list[Detection2D] = []
        self.answers, self.pause = list(answers), pause
        self.node.create_timer(0.05, self._show)

    def listen(self) -> None:
        """Be a tracker, too, that has a target already."""
        self.status.publish(status(State.TRACKING, "target a-1 given", "a-1", THEIRS))
        self.hear()

    def hear(self) -> None:
        """Take boxes."""
        self.node.create_subscription(Detection2D, "tracker/init", self._on_box, 10)

    def run(self, chosen: Any, timeout: float = 10.0, *others: Any) -> int:
        """The whole command, with other nodes beside it; its exit code."""
        command = SelectBoxNode(chosen, parameter_overrides=[Parameter("timeout", value=timeout)])
        executor = SingleThreadedExecutor()
        for node in (self.node, command, *others):
            executor.add_node(node)
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
        if len(self.boxes) <= self.deaf:
            return
        if self.pause:
            self.node.create_timer(self.pause, self._answer)
        while self.answers and not self.pause:
            self._answer()

    def _answer(self) -> None:
        if self.answers:
            *said, box_id = self.answers.pop(0)
            self.status.publish(status(*said, self.boxes[-1].id if box_id == OURS else box_id))


@pytest.fixture
def graph() -> Iterator[None]:
    rclpy.init()
    yield
    rclpy.shutdown()


@pytest.mark.usefixtures("graph")
def test_the_box_goes_out_with_the_frozen_images_stamp() -> None:
    desk = Desk(GIVEN)
    desk.listen()
    seen: list[Any] = []

    def drag(image: Any) -> Box:
        seen.append(image)
        return Box(20.0, 30.0, 40.0, 50.0)

    assert desk.run(drag) == 0
    assert (seen[0] == scene(3)).all()
    (message,) = desk.boxes
    assert nanoseconds(message.header) == STAMP
    center = message.bbox.center.position
    assert (center.x, center.y) == (40, 55)
    assert (message.bbox.size_x, message.bbox.size_y) == (40, 50)


@pytest.mark.usefixtures("graph")
@pytest.mark.parametrize("pause", [0.0, 0.15])
@pytest.mark.parametrize(
    ("answers", "code"),
    [
        ([GIVEN], 0),
        ([REFUSED], 1),
        ([FADING, REFUSED], 1),
        ([REFUSED, FADING], 1),
        ([GIVEN, GONE], 0),
        ([GONE], 0),  # the first word was lost
        ([DROPPED, GIVEN], 0),
        ([REPLACED, OTHERS_GIVEN], 1),
        ([OTHERS_REFUSED, NAMELESS_REFUSED, GIVEN], 0),
        ([OTHERS_GIVEN, OTHERS_REFUSED, REFUSED], 1),
    ],
)
def test_only_what_names_its_box_is_an_answer(
    answers: list[tuple[State, str, str, str]], code: int, pause: float
) -> None:
    desk = Desk(*answers, pause=pause)
    desk.listen()
    assert desk.run(lambda image: Box(20.0, 30.0, 40.0, 50.0)) == code


@pytest.mark.usefixtures("graph")
def test_a_box_that_was_lost_is_sent_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("siamkd_ros.select_box_node.RESEND", 0.5)
    desk = Desk(GIVEN, deaf=1)
    desk.listen()
    assert desk.run(lambda image: Box(20.0, 30.0, 40.0, 50.0)) == 0
    first, second = desk.boxes
    assert first == second


@pytest.mark.usefixtures("graph")
def test_the_trackers_own_words_are_understood(tmp_path: Path) -> None:
    tracker = TrackerNode(load_tracker(tiny_model(tmp_path), "cpu"))
    try:
        assert Desk().run(lambda image: place(3), 10.0, tracker) == 0
        first = tracker.session.follower.report().target
        assert first
        outside = Box(5000.0, 5000.0, 40.0, 40.0)
        assert Desk().run(lambda image: outside, 10.0, tracker) == 1
        assert tracker.session.follower.report().target == first
    finally:
        tracker.close()
        tracker.destroy_node()


@pytest.mark.usefixtures("graph")
def test_without_a_tracker_it_says_where_it_looked() -> None:
    with pytest.raises(SiamkdError, match="no tracker listens on /tracker/init"):
        Desk().run(lambda image: Box(1, 1, 9, 9), timeout=0.5)


@pytest.mark.usefixtures("graph")
def test_no_box_goes_out_before_the_tracker_has_spoken() -> None:
    desk = Desk(REFUSED)
    desk.hear()
    with pytest.raises(SiamkdError, match="no tracker speaks on /tracker/status"):
        desk.run(lambda image: Box(1, 1, 9, 9), timeout=3.0)
    assert not desk.boxes


@pytest.mark.usefixtures("graph")
def test_a_tracker_that_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("siamkd_ros.select_box_node.ANSWER", 0.3)
    desk = Desk()
    desk.listen()
    with pytest.raises(SiamkdError, match="did not answer"):
        desk.run(lambda image: Box(1, 1, 9, 9))


@pytest.fixture
def display() -> Iterator[str]:
    """A screen that nobody sees."""
    if not has_windows():
        pytest.skip("this OpenCV has no windows (opencv-python-headless)")
    if not (shutil.which("Xvfb") and shutil.which("xdotool")):
        pytest.skip("needs Xvfb and xdotool")
    reading, writing = os.pipe()
    options = ["-displayfd", str(writing), "-screen", "0", "800x600x24", "-noreset"]
    server = subprocess.Popen(["Xvfb", *options], pass_fds=[writing], stderr=subprocess.DEVNULL)
    os.close(writing)
    with open(reading) as number:
        yield f":{number.readline().strip()}"
    server.terminate()
    server.wait()


@pytest.mark.usefixtures("graph")
@pytest.mark.parametrize(("ending", "code"), [("Return", 0), ("c", 2), ("Ctrl-C", -signal.SIGINT)])
def test_in_a_real_window(
    display: str, ending: str, code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DISPLAY", display)
    desk = Desk(GIVEN)
    desk.listen()
    executor = SingleThreadedExecutor()
    executor.add_node(desk.node)
    command = NodeProcess("select_box", tmp_path / "log", timeout=60.0)

    def user(*acts: str) -> str:
        done = subprocess.run(["xdotool", *acts], capture_output=True, text=True)
        executor.spin_once(timeout_sec=0.2)
        return done.stdout.strip()

    deadline = time.monotonic() + PATIENCE
    while not user("search", "--onlyvisible", "--name", "^drag a box"):
        assert command.process.poll() is None and time.monotonic() < deadline, command.log
    time.sleep(1.0)  # it must be painted, too
    for act in ("mousemove 60 50", "mousedown 1", "mousemove 90 80", "mousemove 160 110"):
        user(*act.split())
    user("mouseup", "1")
    if ending == "Ctrl-C":
        command.process.send_signal(signal.SIGINT)
    else:
        user("key", ending)
    deadline = time.monotonic() + PATIENCE
    while command.process.poll() is None and time.monotonic() < deadline:
        executor.spin_once(timeout_sec=0.1)
    executor.shutdown()
    desk.node.destroy_node()
    assert command.wait() == code, command.log
    # where on the screen the picture is, is the window manager's
    drawn = [box_from_detection(message)[2:] for message in desk.boxes]
    assert drawn == ([(100.0, 60.0)] if code == 0 else [])


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


IMAGE = np.zeros((10, 10, 3), np.uint8)


def test_nothing_selected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DISPLAY", ":1")
    monkeypatch.setattr(cv2, "destroyAllWindows", lambda: None)
    monkeypatch.setattr(cv2, "selectROI", lambda *_, **__: (0, 0, 0, 0))
    with pytest.raises(SiamkdError, match="nothing was selected"):
        select(IMAGE)
    monkeypatch.setattr(cv2, "selectROI", lambda *_, **__: (1, 2, 3, 4))
    assert select(IMAGE) == Box(1.0, 2.0, 3.0, 4.0)


@pytest.mark.usefixtures("graph")
def test_signals_end_the_window_and_are_rclpys_again_after_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ours = get_current_signal_handlers_options()
    assert ours != SignalHandlerOptions.NO
    numbers = signal.SIGINT, signal.SIGTERM
    before, inside = [signal.getsignal(number) for number in numbers], []

    def opened(*_: Any, **__: Any) -> Any:
        inside.extend(signal.getsignal(number) for number in numbers)
        raise cv2.error("no window")

    monkeypatch.setenv("DISPLAY", ":1")
    monkeypatch.setattr(cv2, "selectROI", opened)
    with pytest.raises(SiamkdError, match="cannot open a window"):
        select(IMAGE)
    assert inside == [signal.SIG_DFL] * 2
    assert [signal.getsignal(number) for number in numbers] == before
    assert get_current_signal_handlers_options() == ours


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_before_there_is_a_box_is_no_success(
    tmp_path: Path, number: signal.Signals
) -> None:
    command = NodeProcess("select_box", tmp_path / "log", timeout=PATIENCE)
    # its parameters are declared: it waits for an image
    rclpy.init()
    node = rclpy.create_node("waits")
    while "select_box" not in node.get_node_names():
        assert command.process.poll() is None, command.log
        time.sleep(0.05)
    node.destroy_node()
    rclpy.shutdown()
    time.sleep(0.5)
    assert command.stop(number) == 130, command.log


@pytest.mark.parametrize(
    ("parameters", "says"),
    [({"timeout": 0.0}, "0.1 to 3600"), ({"image_transport": "theora"}, "raw, compressed")],
)
def test_a_wrong_parameter_is_one_line_and_exit_code_2(
    tmp_path: Path, parameters: dict[str, Any], says: str
) -> None:
    command = NodeProcess("select_box", tmp_path / "log", **parameters)
    assert command.wait() == 2
    (line,) = command.log.splitlines()
    assert "FATAL" in line and says in line


@pytest.mark.parametrize(
    ("argument", "says"),
    [
        (("--params-file", "nowhere.yaml"), "nowhere.yaml"),
        (("-r", "bad"), "'-r bad'"),
        (("-p", "use_sim_time:=abc"), "use_sim_time"),
        (("-p", "qos_overrides./image.subscription.reliability:=maybe"), "qos_overrides: .*maybe"),
        (("-p", "qos_overrides./image.subscription.depth:=99999999999"), "qos_overrides: "),
    ],
)
def test_an_argument_that_ros_cannot_read_is_exit_code_2(
    tmp_path: Path, argument: tuple[str, str], says: str
) -> None:
    """As a launch that starts crashed nodes again needs it."""
    command = NodeProcess("select_box", tmp_path / "log", *argument)
    assert command.wait() == 2
    assert re.search(f"FATAL.*{says}", command.log)
    assert "Traceback" not in command.log
