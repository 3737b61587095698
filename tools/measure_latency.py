"""Latency from image stamp to published box, between separate processes over real DDS.

    python tools/measure_latency.py --output docs/latency.md

A camera process publishes a moving target, a tracker process follows it, and this process receives
the boxes: its clock at arrival minus the image's stamp is the latency. On the way it checks that no
image came out of order and that every box carries the stamp of an image that was published. The
same again with a bare subscriber in the tracker's place, which answers every image with an empty
message, gives what the transport alone costs.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from patch_scene import SIDE, place, write_clip

ROOT = Path(__file__).resolve().parent.parent
WARM_UP = 3.0
"""Seconds at the start that are not counted: discovery, first allocations."""
PATIENCE = 60.0


@dataclass
class Run:
    """What one run measured; seconds."""

    size: tuple[int, int]
    rate: float
    published: list[int] = field(default_factory=list)  # stamps, nanoseconds
    results: list[tuple[int, int]] = field(default_factory=list)  # (stamp, arrival), nanoseconds
    found: int = 0  # results with a box
    timing: dict[str, str] = field(default_factory=dict)  # the node's own diagnostics
    device: dict[str, str] = field(default_factory=dict)

    @property
    def latencies(self) -> list[float]:
        return [(arrival - stamp) / 1e9 for stamp, arrival in self.results]

    @property
    def out_of_order(self) -> int:
        stamps = [stamp for stamp, _ in self.results]
        return sum(later <= earlier for earlier, later in pairwise(stamps))

    @property
    def restamped(self) -> int:
        published = set(self.published)
        return sum(stamp not in published for stamp, _ in self.results)

    @property
    def share(self) -> float:
        """Of the images published while results were counted, how many had one."""
        first, last = self.results[0][0], self.results[-1][0]
        return len(self.results) / sum(first <= stamp <= last for stamp in self.published)


def main() -> int:
    args = _arguments()
    if args.role:
        return play_role(args)
    os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    sys.path.insert(0, str(ROOT))
    from demo_processes import isolate

    isolate(ROOT / "config" / "fastdds.xml")
    if args.default_transport:
        del os.environ["FASTRTPS_DEFAULT_PROFILES_FILE"]
    report = measure_all(args)
    if args.output:
        args.output.write_text(report, encoding="utf-8")
    print(report)
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seconds", type=float, default=20.0, help="counted per run")
    parser.add_argument("--rate", type=float, default=30.0, help="images per second")
    parser.add_argument("--sizes", nargs="+", default=["640x480", "1280x720"], metavar="WxH")
    parser.add_argument("--model", default="siamfc", help="shipped name or .safetensors file")
    parser.add_argument("--output", type=Path, help="write the report here, too (markdown)")
    parser.add_argument(
        "--default-transport",
        action="store_true",
        help="without config/fastdds.xml: shows what it is for",
    )
    parser.add_argument("--role", choices=("camera", "bare"), help=argparse.SUPPRESS)
    parser.add_argument("--stamps", type=Path, help=argparse.SUPPRESS)
    return parser.parse_known_args()[0]


def measure_all(args: argparse.Namespace) -> str:
    """Both measurements at every size, as a markdown report."""
    import rclpy

    sizes = [(int(w), int(h)) for w, h in (text.split("x") for text in args.sizes)]
    rclpy.init()
    runs = []
    for size in sizes:
        with tempfile.TemporaryDirectory() as folder:
            clip = write_clip(Path(folder) / "clip", *size)
            for tracker in ("bare", "tracker"):
                print(f"{size[0]}x{size[1]}, {tracker} ...", file=sys.stderr, flush=True)
                runs.append((tracker, measure(args, size, clip, tracker, Path(folder))))
    rclpy.shutdown()
    return report(args, runs)


def measure(
    args: argparse.Namespace, size: tuple[int, int], clip: Path, tracker: str, folder: Path
) -> Run:
    """One run: camera, then tracker or bare subscriber, and this process as the receiver."""
    run = Run(size, args.rate)
    stamps = folder / f"{tracker}.json"
    script = [sys.executable, __file__, "--stamps", str(stamps), "--role"]
    camera = ["camera", "--ros-args", "-p", f"source:={clip}", "-p", f"rate:={args.rate}"]
    camera += ["-p", "loop:=true", "-p", "wait_for_subscribers:=1"]
    node = [sys.executable, "-m", "siamkd_ros.tracker_node", "--ros-args"]
    follower = [*node, "-p", f"model:={args.model}"] if tracker == "tracker" else [*script, "bare"]
    children: list[subprocess.Popen[bytes]] = []
    receiver = Receiver(run)
    try:
        children.append(subprocess.Popen(follower))
        if tracker == "tracker":
            receiver.until(receiver.is_heard, "the tracker", children)
        children.append(subprocess.Popen([*script, *camera]))
        receiver.until(lambda: bool(run.results), "the first result", children)
        if tracker == "tracker":
            receiver.give_box(size)
        receiver.spin_for(WARM_UP)
        run.results.clear()
        run.found = 0
        receiver.spin_for(args.seconds)
    finally:
        receiver.close()
        for child in reversed(children):
            child.send_signal(signal.SIGINT)
            child.wait(PATIENCE)
    run.published = json.loads(stamps.read_text())
    return run


class Receiver:
    """The process that wants the boxes."""

    def __init__(self, run: Run) -> None:
        import rclpy
        from diagnostic_msgs.msg import DiagnosticArray
        from rclpy.executors import SingleThreadedExecutor
        from vision_msgs.msg import Detection2D, Detection2DArray

        self._run = run
        self._node = rclpy.create_node("receiver")
        self._box = Detection2D()
        self._boxes = self._node.create_publisher(Detection2D, "tracker/init", 10)
        self._node.create_subscription(Detection2DArray, "tracker/target", self._on_target, 100)
        self._node.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, 10)
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(self._node)

    def is_heard(self) -> bool:
        """Whether the tracker listens for a box."""
        return bool(self._boxes.get_subscription_count() > 0)

    def give_box(self, size: tuple[int, int]) -> None:
        """Send the target's box on the first image, which the first result names."""
        seconds, nanoseconds = divmod(self._run.results[0][0], 10**9)
        self._box.header.stamp.sec, self._box.header.stamp.nanosec = seconds, nanoseconds
        x, y = place(0, *size)
        center = self._box.bbox.center.position
        center.x, center.y = x + SIDE / 2, y + SIDE / 2
        self._box.bbox.size_x = self._box.bbox.size_y = float(SIDE)
        self._boxes.publish(self._box)

    def until(
        self,
        condition: Callable[[], bool],
        what: str,
        children: list[subprocess.Popen[bytes]],
    ) -> None:
        deadline = time.monotonic() + PATIENCE
        while not condition():
            died = any(child.poll() is not None for child in children)
            if died or time.monotonic() > deadline:
                raise SystemExit(f"waited in vain for {what}" + (": a process ended" * died))
            self._executor.spin_once(timeout_sec=0.1)

    def spin_for(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            self._executor.spin_once(timeout_sec=left)

    def close(self) -> None:
        self._executor.shutdown()
        self._node.destroy_node()

    def _on_target(self, message: Any) -> None:
        arrival = time.time_ns()
        stamp = message.header.stamp
        self._run.results.append((stamp.sec * 10**9 + stamp.nanosec, arrival))
        self._run.found += bool(message.detections)

    def _on_diagnostics(self, message: Any) -> None:
        for status in message.status:
            values = {pair.key: pair.value for pair in status.values}
            if status.name.endswith(": timing"):
                self._run.timing = values
            elif status.name.endswith(": device"):
                self._run.device = values


def play_role(args: argparse.Namespace) -> int:
    """Be the camera that notes its stamps, or the bare subscriber."""
    from rclpy.node import Node
    from sensor_msgs.msg import Image
    from vision_msgs.msg import Detection2DArray

    from siamkd_ros.camera_node import CameraNode
    from siamkd_ros.qos import newest_image
    from siamkd_ros.runtime import run

    class NotingCamera(CameraNode):
        def __init__(self) -> None:
            super().__init__()
            self.stamps: list[int] = []

        def publish(self, image: Any, age: float = 0.0) -> Any:
            message = super().publish(image, age)
            stamp = message.header.stamp
            self.stamps.append(stamp.sec * 10**9 + stamp.nanosec)
            return message

        def close(self) -> None:
            super().close()
            args.stamps.write_text(json.dumps(self.stamps))

    class Bare(Node):
        def __init__(self) -> None:
            super().__init__("tracker")
            self._out = self.create_publisher(Detection2DArray, "~/target", 10)
            self.create_subscription(Image, "image", self._on_image, newest_image())

        def _on_image(self, message: Any) -> None:
            self._out.publish(Detection2DArray(header=message.header))

        def close(self) -> None:
            pass

    return run(NotingCamera if args.role == "camera" else Bare, sys.argv)


def report(args: argparse.Namespace, runs: list[tuple[str, Run]]) -> str:
    """The markdown report."""
    transport = "default transport" if args.default_transport else "config/fastdds.xml"
    device = next((run.device for _, run in runs if run.device), {})
    lines = [
        "# Latency from image stamp to box",
        "",
        f"`python tools/measure_latency.py --seconds {args.seconds:g} --rate {args.rate:g}"
        f" --sizes {' '.join(args.sizes)} --model {args.model}"
        f"{' --default-transport' * args.default_transport}`",
        "",
        f"{machine()}; Python {platform.python_version()}, {middleware()}, {transport}.",
        f"Model {device.get('model')} on {device.get('device')}, {device.get('precision')}, "
        f"{device.get('backend')}. Camera, tracker and receiver are separate processes; images go "
        "reliable to best effort (the node's sensor-data subscription).",
        "",
        "| size | what | images with a result | out of order | re-stamped | median ms | p99 ms |",
        "|---|---|---|---|---|---|---|",
    ]
    for tracker, run in runs:
        what = "stamp to box, at the receiver" if tracker == "tracker" else "transport only"
        median, p99 = np.percentile(run.latencies, (50, 99)) * 1e3
        lines.append(
            f"| {run.size[0]}x{run.size[1]} | {what} | {len(run.results)} ({100 * run.share:.1f} %)"
            f" | {run.out_of_order} | {run.restamped} | {median:.1f} | {p99:.1f} |"
        )
    stages = ("wait", "decode", "crop", "model", "post", "adapt", "publish", "latency")
    lines += [
        "",
        "The node's own diagnostics, p50 / p95 in ms of its last 300 frames:",
        "",
        f"| size | {' | '.join(stages)} | overwritten |",
        f"|---|{'---|' * len(stages)}---|",
    ]
    for tracker, run in runs:
        if tracker == "tracker":
            t = run.timing
            cells = [f"{t.get(f'{s}_ms.p50')} / {t.get(f'{s}_ms.p95')}" for s in stages]
            lines.append(
                f"| {run.size[0]}x{run.size[1]} | {' | '.join(cells)} | {t.get('overwritten')} |"
            )
    found = [f"{run.found} of {len(run.results)}" for tracker, run in runs if tracker == "tracker"]
    lines += ["", f"Results with the target in them: {', '.join(found)}.", ""]
    return "\n".join(lines)


def machine() -> str:
    """Processor, number of cores, and the load while measuring."""
    model = platform.processor() or platform.machine()
    try:
        text = Path("/proc/cpuinfo").read_text()
        model = next(
            (
                line.partition(":")[2].strip()
                for line in text.splitlines()
                if line.startswith("model name")
            ),
            model,
        )
    except OSError:
        pass  # not Linux
    return f"{model}, {os.cpu_count()} cores, load average {os.getloadavg()[0]:.1f}"


def middleware() -> str:
    """The ROS middleware and rclpy's version, where they can be told."""
    from rclpy.utilities import get_rmw_implementation_identifier

    try:
        rclpy_version = f"rclpy {version('ros-rclpy')}"
    except PackageNotFoundError:
        rclpy_version = f"ROS {os.environ.get('ROS_DISTRO', '?')}"
    return f"{rclpy_version}, {get_rmw_implementation_identifier()}"


if __name__ == "__main__":
    sys.exit(main())
