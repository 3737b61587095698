"""For tests with real ROS: an isolated graph, a scene with a known target, processes, an observer.

Importing it skips the test module where ROS is missing.
"""

from __future__ import annotations

import atexit
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

import cv2
import numpy as np
import pytest

ROOT = Path(__file__).parent.parent

# Before rclpy starts: a graph of our own, on this machine only.
os.environ["ROS_DOMAIN_ID"] = str(1 + os.getpid() % 100)
os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
if os.environ.get("ROS_DISTRO") == "humble":
    os.environ["ROS_LOCALHOST_ONLY"] = "1"
else:  # there it would override the range
    os.environ.pop("ROS_LOCALHOST_ONLY", None)
# Without it a best-effort link loses images at will.
os.environ["FASTRTPS_DEFAULT_PROFILES_FILE"] = str(ROOT / "config/fastdds.xml")
if (Path(sys.prefix) / "share/ament_index").is_dir():
    os.environ.setdefault("AMENT_PREFIX_PATH", sys.prefix)

# The imports come after the environment, and skip the test module where there is no ROS
rclpy: Any = pytest.importorskip("rclpy", reason="needs ROS 2 (rclpy)")
pytest.importorskip("vision_msgs", reason="needs ROS 2's vision_msgs")

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import QoSProfile, QoSReliabilityPolicy
from sensor_msgs.msg import Image
from std_srvs.srv import SetBool, Trigger
from tiny_model import tiny_model as tiny_model  # the tests take it from here
from vision_msgs.msg import Detection2D, Detection2DArray

from siamkd_core.box import Box
from siamkd_ros.qos import latched

PATIENCE = 90.0
# We may know a node before it knows us; then what it sends, or we send, is lost.
SETTLE = 0.5
# The node takes images best effort: one may be lost, and is sent again after so many seconds.
RESEND = 10.0
"""Seconds that anything may take on a busy machine; nothing waits longer than it must."""
SIZE = 40


def tiny_siamrpn(folder: Path) -> Path:
    """A SiamRPN with random weights, whose boxes go anywhere; its score is 0.88 too."""
    import torch

    from siamkd_core.modelfile import build_network, new_card, save_model
    from siamkd_core.siamrpn import HeadConfig
    from siamkd_core.tracker_config import RpnTrackerConfig, ScoreConfig

    torch.manual_seed(0)
    card = new_card("tiny_rpn", "siamrpn", (8, 8, 8, 8, 8), head=HeadConfig(width=8))
    card = replace(
        card,
        tracker=RpnTrackerConfig(search_size=255, size_rate=0.6),
        score=ScoreConfig(slope=0.0, bias=2.0),
    )
    network = build_network(card)
    for layer in network.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.momentum = 1.0
    # with the statistics of random weights its answers are of the size of a trained one's
    network.train()(torch.rand(2, 3, 127, 127) * 255, torch.rand(2, 3, 255, 255) * 255)
    return save_model(network, card, folder)


def place(n: int) -> Box:
    """Where the target is in frame `n`: a slow ellipse of 240 frames, at most 3 px a frame."""
    angle = 2 * math.pi * n / 240
    x, y = round(140 + 100 * math.cos(angle)), round(100 + 60 * math.sin(angle))
    return Box(float(x), float(y), float(SIZE), float(SIZE))


@cache
def scene(n: int, width: int = 320, height: int = 240) -> np.ndarray[Any, Any]:
    """Frame `n`: a vivid chequered patch over a blurred background."""
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (height, width, 3), np.uint8)
    image = cv2.normalize(cv2.GaussianBlur(noise, (0, 0), 4), None, 60, 190, cv2.NORM_MINMAX)
    cells = rng.integers(0, 256, (8, 8, 3), np.uint8)
    x, y = int(place(n).x), int(place(n).y)
    patch = cv2.resize(cells, (SIZE, SIZE), interpolation=cv2.INTER_NEAREST)
    image[y : y + SIZE, x : x + SIZE] = patch
    return np.asarray(image, np.uint8)


def write_clip(folder: Path, frames: Iterable[int]) -> Path:
    """A folder of images of the scene."""
    folder.mkdir()
    for n, frame in enumerate(frames):
        cv2.imwrite(str(folder / f"{n:04d}.png"), scene(frame))
    return folder


def image_message(
    image: np.ndarray[Any, Any], stamp: int, frame_id: str = "cam", encoding: str = "bgr8"
) -> Image:
    """A message of 8 bits a channel, stamped `stamp` nanoseconds."""
    message = Image(height=image.shape[0], width=image.shape[1], encoding=encoding)
    message.step = image.nbytes // image.shape[0]
    message.data.frombytes(image.tobytes())
    message.header.frame_id = frame_id
    message.header.stamp.sec, message.header.stamp.nanosec = divmod(stamp, 10**9)
    return message


def box_message(box: Box, stamp: int = 0) -> Detection2D:
    message = Detection2D()
    message.header.stamp.sec, message.header.stamp.nanosec = divmod(stamp, 10**9)
    # rclpy aborts the process when a float field holds an int
    message.bbox.center.position.x, message.bbox.center.position.y = float(box.cx), float(box.cy)
    message.bbox.size_x, message.bbox.size_y = float(box.w), float(box.h)
    return message


def nanoseconds(header: Any) -> int:
    return int(header.stamp.sec) * 10**9 + int(header.stamp.nanosec)


class NodeProcess:
    """A node in a process of its own, as `ros2 run` would start it. Its log is kept.

    Attributes:
        awaited: all whose end nobody has waited for yet.
    """

    awaited: ClassVar[list[NodeProcess]] = []

    def __init__(self, name: str, log: Path, *arguments: str, **parameters: Any) -> None:
        self.name, self.log_path = name, log
        command = [sys.executable, "-m", f"siamkd_ros.{name}_node", "--ros-args", *arguments]
        for key, value in parameters.items():
            shown = str(value).lower() if isinstance(value, bool) else value
            command += ["-p", f"{key}:={shown}"]
        paths = [str(ROOT), os.environ.get("PYTHONPATH", "")]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
        with log.open("wb") as file:
            self.process = subprocess.Popen(
                command, stdout=file, stderr=subprocess.STDOUT, env=environment, cwd=log.parent
            )
        atexit.register(self.process.kill)  # a test that failed did not come to stopping it
        self.awaited.append(self)

    @property
    def log(self) -> str:
        return self.log_path.read_text(errors="replace")

    def tail(self) -> str:
        """How it is, and the end of its log."""
        code = self.process.poll()
        state = "running" if code is None else f"ended with {code}"
        lines = self.log.splitlines()[-30:]
        return "\n".join([f"--- {self.name}, {state}, its log:", *lines])

    def wait(self, timeout: float = PATIENCE) -> int:
        code = self.process.wait(timeout)
        if self in self.awaited:
            self.awaited.remove(self)
        return code

    def kill(self) -> None:
        """As the kernel would: no shutdown code runs."""
        self.process.kill()
        self.wait()

    def stop(self, number: signal.Signals = signal.SIGINT, times: int = 1) -> int:
        """Ctrl-C, or another signal; the exit code."""
        for _ in range(times):
            self.process.send_signal(number)
            time.sleep(0.01)
        try:
            return self.wait()
        except subprocess.TimeoutExpired:
            self.kill()
            raise


class Observer(Node):
    """Sees everything the tracker node publishes, and can send it everything it takes."""

    def __init__(self, namespace: str = "", name: str = "observer") -> None:
        super().__init__(name, namespace=namespace)
        self.targets: list[Detection2DArray] = []
        self.statuses: list[DiagnosticStatus] = []
        self.diagnostics: dict[str, DiagnosticStatus] = {}
        self.diagnosed = 0
        reliable = QoSProfile(depth=20, reliability=QoSReliabilityPolicy.RELIABLE)
        self.images = self.create_publisher(Image, "image", reliable)
        self.boxes = self.create_publisher(Detection2D, "tracker/init", 10)
        self.create_subscription(Detection2DArray, "tracker/target", self.targets.append, 100)
        self.create_subscription(
            DiagnosticStatus, "tracker/status", self.statuses.append, latched()
        )
        self.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, 10)
        self.reset_client = self.create_client(Trigger, "tracker/reset")
        self.enable_client = self.create_client(SetBool, "tracker/enable")
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(self)

    def wait_for(self, condition: Callable[[], Any], what: str, seconds: float = PATIENCE) -> None:
        """Spin until `condition` holds; fail saying what was waited for."""
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline:
                pytest.fail(f"waited {seconds:.0f} s in vain for {what}; {self.told()}")
            self._executor.spin_once(timeout_sec=0.05)

    def spin_for(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            self._executor.spin_once(timeout_sec=left)

    def connect(self) -> None:
        """Wait until the tracker is there, in all directions."""

        def connected() -> bool:
            counts = (self.images.get_subscription_count(), self.boxes.get_subscription_count())
            return all(counts) and bool(self.statuses) and self.reset_client.service_is_ready()

        self.wait_for(connected, "the tracker node", 2 * PATIENCE)
        self.be_known()
        self.spin_for(SETTLE)

    def be_known(self, node: str = "tracker") -> None:
        """Wait until a tracker node knows all that this node has made so far.

        A client's `service_is_ready` says only that the client knows the server: a server that
        does not know the client's reader yet executes the request, and its answer is lost. Readers
        are announced in the order they were made, and a latched message comes from who knows one.
        """
        known: list[DiagnosticStatus] = []
        last = self.create_subscription(DiagnosticStatus, f"{node}/status", known.append, latched())
        self.wait_for(lambda: known, f"the latched status of {node}", 2 * PATIENCE)
        self.destroy_subscription(last)

    def told(self) -> str:
        """What the nodes say of themselves, for whoever reads why a test failed."""
        tasks = [f"{name}: {one.message}" for name, one in self.diagnostics.items()]
        logs = [process.tail() for process in NodeProcess.awaited]
        return "\n".join([f"status {self.state}", *tasks, *logs])

    @property
    def state(self) -> str:
        """`state: reason` of the latest status."""
        return self.statuses[-1].message if self.statuses else "none"

    def send(self, image: np.ndarray[Any, Any], frame_id: str = "cam", stamp: int = 0) -> int:
        """Publish one image, stamped now unless told, wait for its result; the stamp."""
        stamp = stamp or self.get_clock().now().nanoseconds
        return self.send_message(image_message(image, stamp, frame_id))

    def send_message(self, message: Image) -> int:
        """The same for a message that was made elsewhere; an unstamped one's is the next result."""
        stamp, seen = nanoseconds(message.header), len(self.targets)
        self.images.publish(message)
        sent = time.monotonic()

        def answered() -> bool:
            nonlocal sent
            new = self.targets[seen:]
            if new and nanoseconds(new[-1].header) == stamp:
                return True
            if time.monotonic() - sent > RESEND:
                self.images.publish(message)
                sent = time.monotonic()
            return False

        self.wait_for(answered, f"the result for the image stamped {stamp}")
        return stamp

    def give(self, box: Box, stamp: int = 0) -> str:
        """Send a box and wait for the status it leads to."""
        seen = len(self.statuses)
        self.boxes.publish(box_message(box, stamp))
        self.wait_for(lambda: len(self.statuses) > seen, "a status after the box")
        return self.state

    def call(self, client: Any, request: Any, resend: bool = False) -> Any:
        """The answer; `resend`: ask again while there is none, for requests that change nothing."""
        futures = [client.call_async(request)]
        sent = time.monotonic()

        def answered() -> bool:
            nonlocal sent
            if resend and time.monotonic() - sent > RESEND:
                futures.append(client.call_async(request))
                sent = time.monotonic()
            return any(future.done() for future in futures)

        self.wait_for(answered, "the service's answer")
        return next(future.result() for future in futures if future.done())

    def fresh_diagnostics(self) -> dict[str, DiagnosticStatus]:
        """What the tracker of this namespace says, made after this call."""
        seen = self.diagnosed
        self.wait_for(lambda: self.diagnosed >= seen + 2, "/diagnostics")
        return self.diagnostics

    def close(self) -> None:
        self._executor.shutdown()
        self.destroy_node()

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        # every tracker there is speaks on this topic
        mine = f"{self.get_namespace()}/tracker: ".lstrip("/")
        found = {
            one.name.removeprefix(mine): one for one in message.status if one.name.startswith(mine)
        }
        if found:
            self.diagnosed += 1
            self.diagnostics = found


def values(status: DiagnosticStatus) -> dict[str, str]:
    return {pair.key: pair.value for pair in status.values}


def box_of(message: Detection2DArray) -> Box:
    bbox = message.detections[0].bbox
    center = bbox.center.position
    return Box.from_center(center.x, center.y, bbox.size_x, bbox.size_y)
