"""Latency from image stamp to published box, between separate processes over real DDS.

    python tools/measure_latency.py --output docs/latency.md

A camera process publishes a moving target, a tracker process follows it, and this process receives
the boxes: its clock at arrival minus the image's stamp is the latency. On the way it checks that no
image came out of order and that every box carries the stamp of an image that was published. Before,
a bare subscriber takes the tracker's place at the same camera and answers every image with an empty
message: what remains of the tracker's latency beside that, without its network, is the node's.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from latency_run import Run
from patch_scene import SIDE, place, write_clip
from tiny_model import tiny_model

ROOT = Path(__file__).resolve().parent.parent
WARM_UP = 2.0
"""Seconds at the start that are not counted: discovery, first allocations."""
PATIENCE = 60.0


def main() -> int:
    args = _arguments()
    if args.role:
        from latency_roles import play

        return play(args.role, args.notes, args.default_malloc)
    os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    sys.path.insert(0, str(ROOT))
    from demo_processes import isolate

    isolate(ROOT / "config" / "fastdds.xml")
    if args.default_transport:
        del os.environ["FASTRTPS_DEFAULT_PROFILES_FILE"]
    text = measure_all(args)
    if args.output:
        args.output.write_text(text, encoding="utf-8")
    print(text)
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seconds", type=float, default=10.0, help="counted per run")
    parser.add_argument("--rates", nargs="+", type=float, default=[30.0, 100.0], metavar="HZ")
    parser.add_argument("--sizes", nargs="+", default=["640x480", "1280x720"], metavar="WxH")
    parser.add_argument(
        "--model",
        default="siamfc",
        help="shipped name or .safetensors file; 'tiny' is one of a few channels and random "
        "weights, which costs next to nothing and shows what the node costs",
    )
    parser.add_argument("--output", type=Path, help="write the report here, too (markdown)")
    parser.add_argument(
        "--default-transport",
        action="store_true",
        help="without config/fastdds.xml: shows what it is for",
    )
    parser.add_argument(
        "--default-malloc",
        action="store_true",
        help="leave malloc's thresholds as they are in all of the processes: shows what the node "
        "sets them for",
    )
    parser.add_argument("--role", help=argparse.SUPPRESS)
    parser.add_argument("--notes", type=Path, help=argparse.SUPPRESS)
    return parser.parse_known_args()[0]


def measure_all(args: argparse.Namespace) -> str:
    """Every size at every rate, bare and tracker, as a markdown report."""
    import rclpy
    from latency_report import report

    sizes = [(int(w), int(h)) for w, h in (text.split("x") for text in args.sizes)]
    rclpy.init()
    pairs = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = tiny_model(folder / "models") if args.model == "tiny" else args.model
        for size in sizes:
            clip = write_clip(folder / f"{size[0]}x{size[1]}", *size)
            for rate in args.rates:
                print(f"{size[0]}x{size[1]}, {rate:g} Hz ...", file=sys.stderr, flush=True)
                pairs.append(measure(clip, size, rate, args, str(model), folder))
    rclpy.shutdown()
    command = (
        f"python tools/measure_latency.py --seconds {args.seconds:g} "
        f"--rates {' '.join(f'{rate:g}' for rate in args.rates)} --sizes {' '.join(args.sizes)} "
        f"--model {args.model}{' --default-transport' * args.default_transport}"
        f"{' --default-malloc' * args.default_malloc}"
    )
    transport = "default transport" if args.default_transport else "config/fastdds.xml"
    transport += ", malloc's default thresholds" * args.default_malloc
    return report(command, transport, pairs)


def measure(
    clip: Path,
    size: tuple[int, int],
    rate: float,
    args: argparse.Namespace,
    model: str,
    folder: Path,
) -> tuple[Run, Run]:
    """Bare subscriber, then tracker, at one camera process."""
    seconds: float = args.seconds
    bare, tracker = Run(size, rate), Run(size, rate)
    children: dict[str, subprocess.Popen[bytes]] = {}

    def start(role: str, **parameters: object) -> None:
        command = [sys.executable, __file__, "--role", role, "--notes", str(folder / role)]
        command += ["--default-malloc"] * args.default_malloc
        pairs = [f"{name}:={value}" for name, value in parameters.items()]
        ros = ["--ros-args", *(word for pair in pairs for word in ("-p", pair))]
        children[role] = subprocess.Popen([*command, *ros])

    def notes(role: str) -> Any:
        child = children.pop(role)
        child.send_signal(signal.SIGINT)
        child.wait(PATIENCE)
        return json.loads((folder / role).read_text())

    receiver = Receiver(bare, children)
    try:
        start("tracker", model=model, autostart="false")
        receiver.change(1)
        start("bare")
        start("camera", source=clip, rate=rate, loop="true", wait_for_subscribers=1)
        receiver.until(lambda: bool(bare.results), "the first result")
        receiver.count(bare, seconds)
        notes("bare")
        receiver.run = tracker
        receiver.change(3)
        receiver.until(lambda: bool(tracker.results), "the tracker's first result")
        receiver.until(receiver.is_heard, "the tracker")
        receiver.give_box(clip, size)
        receiver.count(tracker, seconds)
        for stamp, network, faults in notes("tracker"):
            tracker.network[stamp], tracker.faults[stamp] = network, faults
        bare.published = tracker.published = notes("camera")
    finally:
        receiver.close()
        for child in children.values():
            child.kill()
            child.wait(PATIENCE)
    return bare, tracker


class Receiver:
    """The process that wants the boxes.

    Attributes:
        run: what it notes them in.
    """

    def __init__(self, run: Run, children: dict[str, subprocess.Popen[bytes]]) -> None:
        import rclpy
        from diagnostic_msgs.msg import DiagnosticArray
        from lifecycle_msgs.srv import ChangeState
        from rclpy.executors import SingleThreadedExecutor
        from sensor_msgs.msg import Image
        from vision_msgs.msg import Detection2D, Detection2DArray

        self.run = run
        self._children = children
        self._image_type, self._box_type = Image, Detection2D
        self._node = rclpy.create_node("receiver")
        self._boxes = self._node.create_publisher(Detection2D, "tracker/init", 10)
        self._change = self._node.create_client(ChangeState, "tracker/change_state")
        self._node.create_subscription(Detection2DArray, "tracker/target", self._on_target, 100)
        self._node.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, 10)
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(self._node)

    def change(self, transition: int) -> None:
        """Let the tracker go through a transition of its lifecycle."""
        from lifecycle_msgs.msg import Transition
        from lifecycle_msgs.srv import ChangeState

        self.until(self._change.service_is_ready, "the tracker")
        done = self._change.call_async(ChangeState.Request(transition=Transition(id=transition)))
        self.until(done.done, f"the tracker's transition {transition}")
        if not done.result().success:
            raise SystemExit(f"the tracker refused the transition {transition}")

    def is_heard(self) -> bool:
        """Whether the tracker listens for a box."""
        return bool(self._boxes.get_subscription_count() > 0)

    def give_box(self, clip: Path, size: tuple[int, int]) -> None:
        """Send the box for an image, which must be looked at to know where the target is."""
        import numpy as np
        from patch_scene import CLIP_FRAMES

        from siamkd_core.image import read_image

        taken: list[Any] = []
        camera = self._node.create_subscription(self._image_type, "image", taken.append, 5)
        self.until(lambda: bool(taken), "an image")
        self._node.destroy_subscription(camera)
        height, width = taken[0].height, taken[0].width
        image = np.frombuffer(taken[0].data, np.uint8).reshape(height, width, 3)
        number = next(
            n
            for n in range(CLIP_FRAMES)
            if np.array_equal(read_image(clip / f"{n:03d}.bmp"), image)
        )
        x, y = place(number, *size)
        box = self._box_type(header=taken[0].header)
        box.bbox.center.position.x, box.bbox.center.position.y = x + SIDE / 2, y + SIDE / 2
        box.bbox.size_x = box.bbox.size_y = float(SIDE)
        self._boxes.publish(box)

    def count(self, run: Run, seconds: float) -> None:
        """Note results for so long, after a warm-up."""
        self.spin_for(WARM_UP)
        run.results.clear()
        run.found = 0
        self.spin_for(seconds)

    def until(self, condition: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + PATIENCE
        while not condition():
            died = any(child.poll() is not None for child in self._children.values())
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
        self.run.results.append((stamp.sec * 10**9 + stamp.nanosec, arrival))
        self.run.found += bool(message.detections)

    def _on_diagnostics(self, message: Any) -> None:
        for status in message.status:
            values = {pair.key: pair.value for pair in status.values}
            if status.name.endswith(": timing"):
                self.run.timing = values
            elif status.name.endswith(": device"):
                self.run.device = values


if __name__ == "__main__":
    sys.exit(main())
