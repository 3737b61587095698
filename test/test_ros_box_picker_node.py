"""The box picker in a process of its own; this test is RViz: it sees markers and sends clicks.

A click is computed from the markers alone, as RViz's ray meets them, and never from the camera's K.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
from ros_support import (
    RESEND,
    SETTLE,
    NodeProcess,
    Observer,
    box_of,
    image_message,
    nanoseconds,
    place,
    rclpy,
    scene,
    tiny_model,
)

pytest.importorskip("visualization_msgs", reason="needs ROS 2's visualization_msgs")

from geometry_msgs.msg import Point, Point32, PointStamped, PolygonStamped
from rclpy.parameter import Parameter
from rclpy.qos import QoSProfile
from sensor_msgs.msg import CameraInfo, CompressedImage, RegionOfInterest
from std_srvs.srv import Trigger
from vision_msgs.msg import Detection2D
from visualization_msgs.msg import Marker, MarkerArray

from siamkd_core.box import Box, iou
from siamkd_ros.box_picker_node import BoxPickerNode

WIDTH, HEIGHT = 320, 240
FRAME = "cam"
FAST = {"rate": 20.0, "hold": 0.3}


class Rviz(Observer):
    """An observer that also sees markers, keeps a scene of them, and clicks."""

    def __init__(self, namespace: str) -> None:
        super().__init__(namespace)
        self.arrays: list[MarkerArray] = []
        self.scene: dict[tuple[str, int], Marker] = {}
        self.given: list[Detection2D] = []
        self.shown: dict[int, int] = {}  # stamp to number of the scene
        self.points = self.create_publisher(PointStamped, "/clicked_point", 5)
        # rqt_image_view names the topic after the one that it shows
        self.mice = [
            self.create_publisher(Point, f"{shown}_mouse_left", 5)
            for shown in ("image", "image/compressed")
        ]
        self.polygons = self.create_publisher(PolygonStamped, "box_picker/polygon", 5)
        self.regions = self.create_publisher(RegionOfInterest, "box_picker/region", 5)
        self.infos = self.create_publisher(CameraInfo, "camera_info", 5)
        self.compressed = self.create_publisher(CompressedImage, "image/compressed", 5)
        # as RViz's display subscribes when nothing is set: reliable, volatile
        self.create_subscription(
            MarkerArray, "box_picker/markers", self._on_markers, QoSProfile(depth=100)
        )
        self.create_subscription(Detection2D, "tracker/init", self.given.append, 10)
        self.cancel_client = self.create_client(Trigger, "box_picker/cancel")

    def meet(self, images: Any = None) -> None:
        """Wait until the picker is there, in all directions; `images`: other than raw ones."""

        def met() -> bool:
            clicks = (self.points, *self.mice, self.polygons, self.regions)
            ways = (images or self.images, *clicks, self.infos)
            counts = [way.get_subscription_count() for way in ways]
            return all(counts) and self.cancel_client.service_is_ready()

        self.wait_for(met, "the box picker")
        self.spin_for(SETTLE)

    def look(self, number: int) -> int:
        """Show an image and wait until the plane shows it; its stamp."""
        stamp = self.get_clock().now().nanoseconds
        self.shown[stamp] = number
        before, sent = self.picture.texture.data if self.scene else None, -math.inf
        image = scene(number).copy()
        image[:8, :8] = 37 * len(self.shown) % 256  # no two pictures in a row are the same

        def there() -> bool:
            nonlocal sent
            if time.monotonic() - sent > RESEND:  # another one would be drawn after a click, too
                self.images.publish(image_message(image, stamp, FRAME))
                sent = time.monotonic()
            new = bool(self.scene) and self.picture.texture.data != before
            return new and self.number() == number

        self.wait_for(there, "the picture on the plane")
        return stamp

    @property
    def picture(self) -> Marker:
        planes = [m for (ns, _), m in self.scene.items() if ns == "picture"]
        (found,) = (m for m in planes if m.scale.x == 1)
        assert all(pixels(m) == 1 and m.scale.x < 1e-3 for m in planes if m is not found)
        return found

    def number(self) -> int:
        """Which frame of the scene the texture shows."""
        texture = np.frombuffer(self.picture.texture.data, np.uint8)
        image = cv2.imdecode(texture, cv2.IMREAD_COLOR).astype(float)
        numbers = set(self.shown.values())
        return min(numbers, key=lambda n: float(np.abs(image - scene(n)).mean()))

    def on_plane(self, u: float, v: float) -> Point:
        """The point of the textured triangles under pixel (u, v)."""
        marker = self.picture
        s, t = u / WIDTH, v / HEIGHT
        for first in range(0, len(marker.points), 3):
            uvs = marker.uv_coordinates[first : first + 3]
            matrix = np.array([[uv.u for uv in uvs], [uv.v for uv in uvs], [1.0, 1.0, 1.0]])
            weights = np.linalg.solve(matrix, (s, t, 1.0))
            if (weights >= -1e-9).all():
                corners = [(p.x, p.y, p.z) for p in marker.points[first : first + 3]]
                x, y, z = weights @ np.array(corners)
                return Point(x=float(x), y=float(y), z=float(z))
        raise AssertionError(f"no triangle under {u}, {v}")

    def click(self, u: float, v: float, frame: str = FRAME) -> None:
        seen = len(self.arrays)
        message = PointStamped(point=self.on_plane(u, v))
        message.header.frame_id = frame
        message.header.stamp = self.get_clock().now().to_msg()
        self.points.publish(message)
        self.wait_for(lambda: len(self.arrays) > seen, "markers after the click")

    def box(self, count: int = 1) -> Detection2D:
        """The latest box, once there are `count`."""
        self.wait_for(lambda: len(self.given) >= count, "the box on tracker/init")
        return self.given[-1]

    @property
    def text(self) -> str:
        found = self.scene.get(("drawing", 3))
        return str(found.text) if found else ""

    def _on_markers(self, message: MarkerArray) -> None:
        self.arrays.append(message)
        ids = [(marker.ns, marker.id) for marker in message.markers]
        assert len(set(ids)) == len(ids), "RViz takes two markers of one id for an error"
        for marker in message.markers:
            key = (marker.ns, marker.id)
            if marker.action == Marker.ADD:
                if marker.ns == "picture" and key in self.scene:
                    assert pixels(marker) == 1, "a texture that is laid over another is darkened"
                self.scene[key] = marker
            elif marker.action == Marker.DELETE:
                gone = self.scene.pop(key, None)
                if marker.ns == "picture" and gone is not None:
                    assert pixels(gone) == 1, "the texture of a deleted marker stays in memory"


def pixels(marker: Marker) -> int:
    """Of a marker's texture."""
    image = cv2.imdecode(np.frombuffer(marker.texture.data, np.uint8), cv2.IMREAD_GRAYSCALE)
    assert image is not None
    return int(image.size)


def found(message: Detection2D) -> Box:
    center = message.bbox.center.position
    return Box.from_center(center.x, center.y, message.bbox.size_x, message.bbox.size_y)


def near(box: Box, wanted: Box, within: float = 0.1) -> bool:
    return bool(np.abs(np.array(box) - np.array(wanted)).max() < within)


def camera_info(**changes: Any) -> CameraInfo:
    """Of a camera with twice the images' size, and its principal point far from the middle."""
    info = CameraInfo(width=2 * WIDTH, height=2 * HEIGHT, distortion_model="plumb_bob")
    info.k = [700.0, 0.0, 250.0, 0.0, 600.0, 260.0, 0.0, 0.0, 1.0]
    info.d = [-0.3, 0.1, 0.0, 0.0, 0.0]
    for name, value in changes.items():
        setattr(info, name, value)
    return info


@pytest.fixture(scope="module")
def graph() -> Iterator[None]:
    rclpy.init()
    yield
    rclpy.shutdown()


@pytest.fixture(scope="module")
def picker(graph: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeProcess]:
    log = tmp_path_factory.mktemp("picker") / "log"
    process = NodeProcess("box_picker", log, "-r", "__ns:=/robot", **FAST)
    yield process
    assert process.stop(times=2) == 0, process.log
    assert "Traceback" not in process.log


@pytest.fixture(scope="module")
def met(picker: NodeProcess) -> Iterator[Rviz]:
    made = Rviz("robot")
    made.meet()
    yield made
    made.close()


@pytest.fixture
def rviz(picker: NodeProcess, met: Rviz) -> Iterator[Rviz]:
    """Connected, nothing clicked yet."""
    met.call(met.cancel_client, Trigger.Request())
    met.spin_for(0.1)
    met.given.clear()
    yield met
    assert picker.process.poll() is None, picker.log


def test_the_picture_is_a_plane_that_rviz_shows_bright_and_upright(rviz: Rviz) -> None:
    rviz.look(0)
    marker = rviz.picture
    assert marker.header.frame_id == FRAME
    assert marker.type == Marker.TRIANGLE_LIST
    assert marker.texture_resource.startswith("embedded://")
    assert marker.texture.format == "jpg"
    assert len(marker.uv_coordinates) == len(marker.points) == 6
    assert (marker.color.r, marker.color.g, marker.color.b, marker.color.a) == (1, 1, 1, 1)
    assert marker.scale.x * marker.scale.y * marker.scale.z > 0
    points = np.array([(p.x, p.y, p.z) for p in marker.points])
    for a, b, c in points.reshape(2, 3, 3):
        # RViz's light shines where the view looks, and a triangle that faces away from it is black
        assert np.cross(b - a, c - a) @ (0, 0, 1) < 0
    top_left, bottom_right = rviz.on_plane(0, 0), rviz.on_plane(WIDTH, HEIGHT)
    assert top_left.x < 0 < bottom_right.x  # optical frame: x right, y down, z forward
    assert top_left.y < 0 < bottom_right.y
    assert top_left.z == bottom_right.z > 0


def test_two_clicks_are_a_box_on_the_frozen_picture(rviz: Rviz) -> None:
    rviz.look(0)
    stamp = rviz.look(60)
    rviz.click(150, 60)
    assert "opposite corner" in rviz.text
    guides = rviz.scene["drawing", 0]
    assert (guides.type, len(guides.points)) == (Marker.LINE_LIST, 4)
    later = rviz.get_clock().now().nanoseconds
    for _ in range(10):  # the picture stands still meanwhile
        rviz.images.publish(image_message(scene(0), later, FRAME))
        rviz.spin_for(0.05)
    assert rviz.number() == 60
    rviz.click(110.5, 130)
    message = rviz.box()
    assert near(found(message), Box(110.5, 60, 39.5, 70))
    assert nanoseconds(message.header) == stamp
    assert message.header.frame_id == FRAME
    outline = rviz.scene["drawing", 1]
    assert (outline.type, len(outline.points)) == (Marker.LINE_STRIP, 5)
    assert ("drawing", 0) not in rviz.scene
    rviz.look(0)  # and goes on after the hold
    assert ("drawing", 1) not in rviz.scene


def test_clicks_go_through_the_cameras_own_k(rviz: Rviz) -> None:

    def corner(info: CameraInfo) -> tuple[float, float]:
        """Of the plane; camera_info goes best effort, and may come after the image."""
        rviz.infos.publish(info)
        rviz.look(0)
        point = rviz.on_plane(0, 0)
        return point.x / point.z, point.y / point.z

    # K is that of images twice the size: half the focal length, and the first pixel's edge is
    # half a pixel before its centre
    x, y = (-0.5 - (250.5 / 2 - 0.5)) / 350, (-0.5 - (260.5 / 2 - 0.5)) / 300
    rviz.wait_for(lambda: corner(camera_info()) == pytest.approx((x, y)), "the plane by K")
    rviz.click(20, 30)
    rviz.click(90, 100)
    assert near(found(rviz.box()), Box(20, 30, 70, 70))
    uncalibrated = camera_info(k=[0.0] * 9)
    rviz.wait_for(lambda: corner(uncalibrated) != pytest.approx((x, y)), "the nominal plane")
    rviz.look(40)  # uncalibrated: a nominal camera, and clicks still fit
    rviz.click(20, 30)
    rviz.click(90, 100)
    assert near(found(rviz.box(2)), Box(20, 30, 70, 70))


def test_a_click_in_another_frame_is_refused_and_says_what_to_set(
    rviz: Rviz, picker: NodeProcess
) -> None:
    rviz.look(0)
    rviz.click(20, 30, frame="map")
    assert "set RViz's Fixed Frame to 'cam'" in rviz.text
    assert "'map'" in picker.log
    rviz.click(20, 30, frame="/" + FRAME)
    rviz.click(90, 100)
    assert near(found(rviz.box()), Box(20, 30, 70, 70))


def test_a_click_behind_the_camera_or_twice_on_one_spot_is_refused(rviz: Rviz) -> None:
    rviz.look(0)
    for z in (-1.0, math.nan):
        behind = PointStamped(point=Point(x=0.0, y=0.0, z=z))
        behind.header.frame_id = FRAME
        rviz.points.publish(behind)
        wanted = "not finite" if math.isnan(z) else "not before the camera"
        rviz.wait_for(lambda wanted=wanted: wanted in rviz.text, "the refusal")
    rviz.click(20, 30)
    rviz.click(21, 31)
    assert "opposite corners" in rviz.text
    rviz.click(90, 100)
    assert near(found(rviz.box()), Box(20, 30, 70, 70))


def test_cancel_goes_back_to_the_live_picture(rviz: Rviz) -> None:
    rviz.look(0)
    rviz.click(20, 30)
    answer = rviz.call(rviz.cancel_client, Trigger.Request())
    assert answer.success
    rviz.look(60)
    assert not rviz.given
    assert not rviz.call(rviz.cancel_client, Trigger.Request()).success


@pytest.mark.parametrize("shown", [0, 1])
def test_mouse_clicks_of_rqt_image_view_on_raw_or_compressed_images(rviz: Rviz, shown: int) -> None:
    stamp = rviz.look(0)
    mouse = rviz.mice[shown]
    mouse.publish(Point(x=250.0, y=240.0))
    rviz.wait_for(lambda: "opposite corner" in rviz.text, "the first corner")
    mouse.publish(Point(x=float(WIDTH), y=200.0))  # rqt's last pixel is the width
    message = rviz.box()
    assert near(found(message), Box(250, 200, 70, 40))
    assert nanoseconds(message.header) == stamp


def test_polygon_and_region(rviz: Rviz) -> None:
    stamp = rviz.look(0)
    polygon = PolygonStamped()
    polygon.header.stamp.sec, polygon.header.stamp.nanosec = divmod(stamp - 7, 10**9)
    corners = ((30.0, 50.0), (80.0, 40.0), (60.0, 90.0))
    polygon.polygon.points = [Point32(x=x, y=y) for x, y in corners]
    rviz.polygons.publish(polygon)
    message = rviz.box()
    assert near(found(message), Box(30, 40, 50, 50))
    assert nanoseconds(message.header) == stamp - 7  # it names its image itself
    rviz.regions.publish(RegionOfInterest(x_offset=100, y_offset=110, width=60, height=70))
    message = rviz.box(2)
    assert near(found(message), Box(100, 110, 60, 70))
    assert nanoseconds(message.header) == stamp
    polygon.polygon.points = polygon.polygon.points[:1]
    rviz.polygons.publish(polygon)
    rviz.wait_for(lambda: "holds no box" in rviz.text, "the refusal")


def test_a_malformed_image_does_not_reach_the_plane(rviz: Rviz, picker: NodeProcess) -> None:
    rviz.look(0)
    broken = image_message(scene(60), rviz.get_clock().now().nanoseconds, FRAME)
    broken.step = 7

    def refused() -> bool:
        rviz.images.publish(broken)
        rviz.spin_for(0.05)
        return "step 7 is under" in picker.log

    rviz.wait_for(refused, "the warning")
    assert rviz.number() == 0


def test_each_region_is_on_the_newest_image_while_the_plane_stands_still(rviz: Rviz) -> None:
    """A detector that sends regions faster than `hold` must not be answered with an old image."""
    rviz.look(0)
    sent = rviz.get_clock().now().nanoseconds
    region = RegionOfInterest(x_offset=100, y_offset=110, width=60, height=70)

    def newer(than: int) -> bool:
        nonlocal sent
        sent += 10**9
        rviz.images.publish(image_message(scene(0), sent, FRAME))
        rviz.spin_for(0.05)
        rviz.regions.publish(region)
        rviz.spin_for(0.05)
        return bool(rviz.given) and nanoseconds(rviz.given[-1].header) > than

    rviz.wait_for(lambda: newer(0), "a box")
    first = nanoseconds(rviz.given[-1].header)
    rviz.wait_for(lambda: newer(first), "a box on a newer image")


def test_no_message_ends_the_node(graph: None) -> None:
    node = BoxPickerNode(namespace="/inside", parameter_overrides=[Parameter("rate", value=0.1)])
    sent: list[Detection2D] = []
    node._boxes = SimpleNamespace(
        publish=sent.append, topic_name="", get_subscription_count=lambda: 1
    )
    region = RegionOfInterest(x_offset=10, y_offset=10, width=50, height=50)
    for sec, nanosec in ((-1, 0), (-(2**31), 2**32 - 1), (2**31 - 1, 2**32 - 1)):
        image = image_message(scene(0), 1, FRAME)
        image.header.stamp.sec, image.header.stamp.nanosec = sec, nanosec
        node.on_image(image)
        node.on_rate()
        node.on_region(region)
        assert sent.pop().header.stamp == image.header.stamp
        polygon = PolygonStamped()
        polygon.header.stamp = image.header.stamp
        polygon.polygon.points = [Point32(x=1.0, y=1.0), Point32(x=40.0, y=40.0)]
        node.on_polygon(polygon)
        assert sent.pop().header.stamp == image.header.stamp
        node.picking.cancel()
    # more rows than a JPEG may have
    node.on_image(image_message(np.zeros((70_000, 2, 3), np.uint8), 1, FRAME))
    node.on_rate()
    node.on_point(PointStamped(point=Point(x=1e308, y=-1e308, z=1e-308)))
    assert node.picking.picture.height == 70_000
    node.destroy_node()


@pytest.mark.parametrize(
    ("parameters", "says"),
    [({"rate": 0.0}, "0.1 to 60"), ({"image_transport": "theora"}, "raw, compressed")],
)
def test_a_wrong_parameter_is_one_line_and_exit_code_2(
    tmp_path: Path, parameters: dict[str, Any], says: str
) -> None:
    process = NodeProcess("box_picker", tmp_path / "log", **parameters)
    assert process.wait() == 2
    (line,) = process.log.splitlines()
    assert "FATAL" in line and says in line


def test_a_box_that_no_tracker_would_get_is_not_called_sent(graph: None) -> None:
    node = BoxPickerNode(namespace="/alone")
    node.on_image(image_message(scene(0), 1, FRAME))
    node.on_region(RegionOfInterest(x_offset=10, y_offset=10, width=50, height=50))
    assert "no tracker listens on /alone/tracker/init" in node.picking.note
    node.destroy_node()


def test_rviz_to_tracker(graph: None, tmp_path: Path) -> None:
    """The whole way: compressed images, two clicks, and the tracker follows what was clicked."""
    common = {"image_transport": "compressed"}
    namespace = ("-r", "__ns:=/other")
    picker = NodeProcess("box_picker", tmp_path / "picker", *namespace, **FAST, **common)
    tracker = NodeProcess(
        "tracker",
        tmp_path / "tracker",
        *namespace,
        model=tiny_model(tmp_path),
        device="cpu",
        threads=1,
        **common,
    )
    rviz = Rviz("other")
    number = 0  # of the scene that the camera shows

    def show() -> None:
        message = CompressedImage(format="bgr8; jpeg compressed bgr8")
        message.data.frombytes(cv2.imencode(".jpg", scene(number))[1].tobytes())
        message.header.frame_id = FRAME
        message.header.stamp = rviz.get_clock().now().to_msg()
        rviz.shown[nanoseconds(message.header)] = number
        rviz.compressed.publish(message)

    def tracked() -> bool:
        """The picker may not know the tracker yet, or its box get lost: click again."""
        done = outcomes()
        rviz.click(x, y)
        rviz.click(x + w, y + h)
        rviz.wait_for(lambda: outcomes() > done, "what came of the clicks")
        rviz.spin_for(SETTLE)
        return rviz.state.startswith("tracking")

    def outcomes() -> int:
        return picker.log.count("sent to /other/tracker/init") + picker.log.count("refused: ")

    try:
        rviz.wait_for(lambda: rviz.statuses, "the tracker", 180)
        rviz.meet(rviz.compressed)
        rviz.wait_for(lambda: rviz.compressed.get_subscription_count() == 2, "both nodes")
        # the images go best effort, and one node may know us later than the other: as a camera
        # does, this one goes on
        rviz.create_timer(0.1, show)
        rviz.wait_for(lambda: rviz.scene and rviz.number() == 0, "the plane")
        x, y, w, h = place(0)
        rviz.wait_for(tracked, "the target")
        for number in range(1, 11):
            rviz.wait_for(
                lambda n=number: (
                    rviz.targets and rviz.shown[nanoseconds(rviz.targets[-1].header)] == n
                ),
                f"the result for image {number}",
            )
        assert iou(np.array(box_of(rviz.targets[-1])), np.array(place(10)))[0] > 0.5
        rviz.wait_for(lambda: ("drawing", 2) in rviz.scene, "the tracked box on the plane")
        assert "tracking" in rviz.text
        rviz.boxes.publish(Detection2D())
        rviz.wait_for(lambda: "box refused" in rviz.text, "the tracker's refusal, in RViz")
    finally:
        codes = picker.stop(), tracker.stop()
        rviz.close()
    assert codes == (0, 0), picker.log + tracker.log
