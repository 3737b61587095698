"""docs/overlay.jpg and docs/diagnostics.png, from the messages of a real run.

    python tools/message_pictures.py [--folder docs]

Plays the demo's clip through the node `camera`, lets the node `tracker` follow its target, and
keeps what comes on `~/overlay` and `/diagnostics` after some seconds.
"""

from __future__ import annotations

import argparse
import io
import sys
import tempfile
import textwrap
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from demo import CLIP_BOX, default_clip
from demo_processes import Child, Value, isolate

ROOT = Path(__file__).resolve().parent.parent
PATIENCE = 180.0
RATE = 10.0
"""Images per second: slow enough for any machine to use each."""
WIDTH = 480
LEVELS = {
    0: ("OK", "#2e7d32"),
    1: ("WARN", "#b26a00"),
    2: ("ERROR", "#b00020"),
    3: ("STALE", "#555"),
}
COLUMNS = (("camera", "tracker"), ("timing", "device"))
LINE = 0.175
"""Inches from one line to the next."""
LONGEST = 44
"""Characters of a line of text."""

Task = tuple[int, str, Mapping[str, str]]
"""Level, message and values."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--folder", type=Path, default=ROOT / "docs")
    parser.add_argument("--model", default="siamfc", help="shipped name or .safetensors file")
    parser.add_argument(
        "--seconds", type=float, default=8.0, help="of tracking before the pictures"
    )
    args = parser.parse_args()
    sys.path.insert(0, str(ROOT))
    isolate(ROOT / "config" / "fastdds.xml")
    from siamkd_core.picture import write_picture

    overlay, tasks = run(args.model, args.seconds)
    write_picture(args.folder / "overlay.jpg", overlay)
    (args.folder / "diagnostics.png").write_bytes(draw_table(tasks))
    print(f"{args.folder / 'overlay.jpg'}\n{args.folder / 'diagnostics.png'}")
    return 0


def run(model: str, seconds: float) -> tuple[np.ndarray[Any, Any], dict[str, Task]]:
    """The overlay, (H, W, 3) uint8 BGR, and the tasks by name, from real processes."""
    import rclpy
    from diagnostic_msgs.msg import DiagnosticArray
    from sensor_msgs.msg import Image
    from vision_msgs.msg import Detection2D, Detection2DArray

    from siamkd_core.pick import parse_box

    rclpy.init()
    node = rclpy.create_node("eye")
    pictures: list[Any] = []
    tasks: dict[str, Task] = {}
    images: list[Any] = []
    found: list[Any] = []

    def diagnosed(message: Any) -> None:
        for status in message.status:
            values = {pair.key: pair.value for pair in status.values}
            tasks[status.name.split(": ")[-1]] = (status.level[0], status.message, values)

    def first(message: Any) -> None:
        if not images:
            images.append(message)

    node.create_subscription(Image, "tracker/overlay", pictures.append, 2)
    node.create_subscription(Image, "image", first, 5)
    node.create_subscription(DiagnosticArray, "/diagnostics", diagnosed, 5)
    node.create_subscription(Detection2DArray, "tracker/target", found.append, 10)
    boxes = node.create_publisher(Detection2D, "tracker/init", 5)
    with tempfile.TemporaryDirectory() as folder:
        tracker = Child("tracker", {"model": model}, Path(folder))
        children = [tracker]

        def until(condition: Callable[[], Any], what: str) -> None:
            end = time.monotonic() + PATIENCE
            while not condition():
                for child in children:
                    child.check()
                if time.monotonic() > end:
                    raise SystemExit(f"waited in vain for {what}")
                rclpy.spin_once(node, timeout_sec=0.1)

        try:
            until(lambda: boxes.get_subscription_count() and "device" in tasks, "the tracker")
            # four times its size, so that the picture can be read
            camera: dict[str, Value] = {"source": str(default_clip()), "rate": RATE, "loop": True}
            camera |= {"width": 704, "height": 576, "wait_for_subscribers": 2}
            children.append(Child("camera", camera, Path(folder)))
            until(lambda: images, "an image")
            x, y, w, h = (4 * value for value in parse_box(CLIP_BOX))
            box = Detection2D(header=images[0].header)
            box.bbox.center.position.x, box.bbox.center.position.y = x + w / 2, y + h / 2
            box.bbox.size_x, box.bbox.size_y = w, h
            boxes.publish(box)
            until(lambda: found and found[-1].detections, "the target")
            end = time.monotonic() + seconds
            until(lambda: time.monotonic() > end, "the time")
            message = pictures[-1]
        finally:
            for child in reversed(children):
                child.stop()
    node.destroy_node()
    rclpy.shutdown()
    image = np.frombuffer(message.data, np.uint8).reshape(message.height, message.width, 3)
    height = round(WIDTH * message.height / message.width)
    return cv2.resize(image, (WIDTH, height), interpolation=cv2.INTER_AREA), tasks


def draw_table(tasks: Mapping[str, Task]) -> bytes:
    """A PNG of the tasks, as a diagnostics viewer lists them."""
    from matplotlib.figure import Figure

    columns = [[row for name in names for row in _rows(name, tasks[name])] for names in COLUMNS]
    height = LINE * (max(map(len, columns)) + 1)
    figure = Figure(figsize=(12.5, height), facecolor="white")
    for number, rows in enumerate(columns):
        left = 0.012 + 0.5 * number
        for line, (key, value, colour, weight) in enumerate(rows):
            y = 1 - LINE * (line + 1) / height
            style: dict[str, Any] = {"family": "DejaVu Sans Mono", "size": 8.5, "weight": weight}
            figure.text(left, y, key, color=colour, **style)
            figure.text(left + 0.195, y, value, color=colour, **style)
    image = io.BytesIO()
    figure.savefig(image, format="png", dpi=90)
    return image.getvalue()


def _rows(name: str, task: Task) -> Sequence[tuple[str, str, str, str]]:
    """Key, value, colour and weight of each line of a task; spreads of a stage on one line."""
    level, message, values = task
    word, colour = LEVELS[level]
    heading, *more = textwrap.wrap(message, LONGEST) or [""]
    rows = [(f"{word}  {name}", heading, colour, "bold")]
    rows += [("", line, colour, "bold") for line in more]
    for key, value in values.items():
        stage, _, part = key.rpartition(".")
        if part in ("p95", "max") and f"{stage}.p50" in values:
            continue
        if part == "p50":
            key = f"{stage}, p50 / p95 / max"
            value = " / ".join(values[f"{stage}.{each}"] for each in ("p50", "p95", "max"))
        value = value if len(value) <= LONGEST else value[: LONGEST - 4] + " ..."
        rows.append((f"  {key}", value, "black", "normal"))
    return [*rows, ("", "", "black", "normal")]


if __name__ == "__main__":
    sys.exit(main())
