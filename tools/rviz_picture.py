"""docs/rviz.png: what RViz shows while a box is drawn, from the messages of the real nodes.

    python tools/rviz_picture.py [--output docs/rviz.png]

Starts `tracker` and `box_picker`, is their camera, clicks two corners as RViz's Publish Point does,
and draws the markers as RViz would (tools/marker_picture.py).
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
from demo import CLIP_BOX, default_clip
from demo_processes import Child, isolate
from marker_picture import draw_markers, view_from_rviz

ROOT = Path(__file__).resolve().parent.parent
PATIENCE = 120.0
RATE = 15.0
SIZE = (800, 640)


class Camera:
    """Shows the clip's first frame over and over, and from `play` on the whole clip."""

    def __init__(self, node: Any) -> None:
        from sensor_msgs.msg import Image

        self._clip = cv2.VideoCapture(str(default_clip()))
        self._frame = self._clip.read()[1]
        self._node = node
        self._message = Image
        self._images = node.create_publisher(Image, "image", 5)
        self.playing = False
        node.create_timer(1 / RATE, self._show)

    @property
    def size(self) -> tuple[int, int]:
        return self._frame.shape[1], self._frame.shape[0]

    def _show(self) -> None:
        if self.playing:
            more, frame = self._clip.read()
            self._frame = frame if more else self._frame
        height, width = self._frame.shape[:2]
        message = self._message(height=height, width=width, step=3 * width, encoding="bgr8")
        message.header.frame_id = "camera"
        message.header.stamp = self._node.get_clock().now().to_msg()
        message.data.frombytes(self._frame.tobytes())
        self._images.publish(message)


class Rviz:
    """Sees the picker's markers, and clicks."""

    def __init__(self, node: Any, executor: Any) -> None:
        from geometry_msgs.msg import PointStamped
        from visualization_msgs.msg import MarkerArray

        self.scene: dict[tuple[str, int], Any] = {}
        self._executor = executor
        self._view = view_from_rviz((ROOT / "config/tracker.rviz").read_text(), *SIZE)
        self._points = node.create_publisher(PointStamped, "/clicked_point", 5)
        node.create_subscription(MarkerArray, "box_picker/markers", self._on_markers, 10)

    def wait(self, what: str, condition: Callable[[], Any], check: Callable[[], None]) -> None:
        end = time.monotonic() + PATIENCE
        while not condition():
            check()
            if time.monotonic() > end:
                raise SystemExit(f"waited in vain for {what}")
            self._executor.spin_once(timeout_sec=0.05)

    def spin(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self._executor.spin_once(timeout_sec=0.05)

    def text(self) -> str:
        return str(self.scene[("drawing", 3)].text) if ("drawing", 3) in self.scene else ""

    def click(self, u: float, v: float) -> None:
        """Click at a place of the picture, 0 to 1 in both directions."""
        from geometry_msgs.msg import PointStamped

        planes = (marker for (name, _), marker in self.scene.items() if name == "picture")
        (picture,) = (marker for marker in planes if marker.scale.x == 1)
        corners = {
            (round(uv.u), round(uv.v)): point
            for uv, point in zip(picture.uv_coordinates, picture.points, strict=True)
        }
        message = PointStamped(header=picture.header)
        for axis in "xyz":
            start, right, down = (getattr(corners[k], axis) for k in ((0, 0), (1, 0), (0, 1)))
            setattr(message.point, axis, start + u * (right - start) + v * (down - start))
        self._points.publish(message)

    def draw(self) -> Any:
        return draw_markers(self.scene.values(), self._view)

    def _on_markers(self, message: Any) -> None:
        for marker in message.markers:
            if marker.action == marker.ADD:
                self.scene[marker.ns, marker.id] = marker
            else:
                self.scene.pop((marker.ns, marker.id), None)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=ROOT / "docs/rviz.png")
    output: Path = parser.parse_args().output
    isolate(ROOT / "config" / "fastdds.xml")
    import rclpy
    from rclpy.executors import SingleThreadedExecutor

    from siamkd_core.draw import contact_sheet
    from siamkd_core.pick import parse_box

    x, y, w, h = parse_box(CLIP_BOX)
    rclpy.init()
    node = rclpy.create_node("rviz")
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    rviz, camera = Rviz(node, executor), Camera(node)
    width, height = camera.size
    pictures, captions = [], []

    def show(caption: str) -> None:
        pictures.append(rviz.draw())
        captions.append(caption)

    with tempfile.TemporaryDirectory() as folder:
        children: list[Child] = []
        try:
            for name in ("tracker", "box_picker"):
                children.append(Child(name, {}, Path(folder)))

            def check() -> None:
                for child in children:
                    child.check()

            rviz.wait("the tracker", lambda: "waiting for a target" in rviz.text(), check)
            rviz.spin(1.0)  # the picker may have had images that the tracker has not
            show("1  the live picture")
            rviz.click(x / width, y / height)
            rviz.wait("the first corner", lambda: "the opposite corner" in rviz.text(), check)
            show("2  after the first click: a still picture")
            rviz.click((x + w) / width, (y + h) / height)
            rviz.wait("the box", lambda: ("drawing", 1) in rviz.scene, check)
            show("3  after the second: the box is sent")
            rviz.wait("the target", lambda: ("drawing", 2) in rviz.scene, check)
            camera.playing = True
            rviz.spin(3.0)
            show("4  live again, the target followed")
        finally:
            for child in children:
                child.stop()
            executor.shutdown()
            node.destroy_node()
            rclpy.shutdown()
    sheet = contact_sheet(pictures, captions, columns=2, tile_width=480)
    if not cv2.imwrite(str(output), sheet):
        raise SystemExit(f"{output} cannot be written")
    print(output)
    return 0


if __name__ == "__main__":
    sys.exit(main())
