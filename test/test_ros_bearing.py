"""~/bearing and ~/overlay of a tracker in a process of its own, and what makes a ray."""

from __future__ import annotations

import math
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from geometry_msgs.msg import Vector3Stamped
from ros_support import (
    NodeProcess,
    Observer,
    box_of,
    nanoseconds,
    place,
    rclpy,
    scene,
    tiny_model,
    values,
)
from sensor_msgs.msg import CameraInfo, Image

from siamkd_core.box import Box
from siamkd_ros import bearing as module
from siamkd_ros.bearing import NO_RAY, Bearing

# Of images twice the size of the scene's, 320x240
K = [600.0, 0.0, 319.5, 0.0, 600.0, 239.5, 0.0, 0.0, 1.0]


def info(**changes: Any) -> CameraInfo:
    made = CameraInfo(width=640, height=480, distortion_model="plumb_bob", k=K)
    for name, value in changes.items():
        setattr(made, name, value)
    return made


def expected(box: Box) -> np.ndarray[Any, Any]:
    """The ray to a box's centre in the 320x240 scene: half the focal length, the same middle."""
    ray = np.array([(box.cx - 160) / 300, (box.cy - 120) / 300, 1.0])
    return np.asarray(ray / np.linalg.norm(ray))


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimpleNamespace]:
    folder = tmp_path_factory.mktemp("bearing")
    options = {"device": "cpu", "threads": 1, "bearing": True, "overlay_width": 160}
    process = NodeProcess("tracker", folder / "log", model=tiny_model(folder), **options)
    rclpy.init()
    observer = Observer()
    rays: list[Vector3Stamped] = []
    infos = observer.create_publisher(CameraInfo, "camera_info", 10)
    observer.create_subscription(Vector3Stamped, "tracker/bearing", rays.append, 100)
    observer.connect()
    observer.wait_for(infos.get_subscription_count, "the tracker's camera_info")
    yield SimpleNamespace(observer=observer, rays=rays, infos=infos, process=process)
    observer.close()
    rclpy.shutdown()
    assert process.stop() == 0, process.log
    assert "Traceback" not in process.log


def ray_of(seen: SimpleNamespace, stamp: int) -> tuple[float, float, float]:
    """The ray under an image's stamp."""

    def there() -> bool:
        return bool(seen.rays) and nanoseconds(seen.rays[-1].header) == stamp

    seen.observer.wait_for(there, "the ray")
    vector = seen.rays[-1].vector
    return vector.x, vector.y, vector.z


def settle(seen: SimpleNamespace, message: CameraInfo, note: str) -> None:
    """Be a camera until the node has its camera_info, which goes best effort too."""

    def taken() -> bool:
        seen.infos.publish(message)
        seen.observer.send(scene(1))
        return note in values(seen.observer.fresh_diagnostics()["tracker"])["bearing"]

    seen.observer.wait_for(taken, f"the bearing's {note!r}")


def test_a_ray_for_every_image_once_the_camera_is_known(seen: SimpleNamespace) -> None:
    observer = seen.observer
    stamp = observer.send(scene(0), "optical")
    assert ray_of(seen, stamp) == NO_RAY  # no target
    observer.give(place(0))
    stamp = observer.send(scene(1), "optical")
    assert observer.targets[-1].detections
    assert ray_of(seen, stamp) == NO_RAY  # no camera_info yet
    note = values(observer.fresh_diagnostics()["tracker"])["bearing"]
    assert note == "no camera_info came on /camera_info"
    settle(seen, info(), "valid")
    stamp = observer.send(scene(2), "optical")
    ray = ray_of(seen, stamp)
    assert ray == pytest.approx(expected(box_of(observer.targets[-1])), abs=1e-6)
    assert math.hypot(*ray) == pytest.approx(1)
    assert seen.rays[-1].header == observer.targets[-1].header
    assert values(observer.fresh_diagnostics()["tracker"])["bearing"] == "valid"


@pytest.mark.parametrize(
    ("changes", "says"),
    [({"k": [0.0] * 9}, "not calibrated"), ({"height": 360}, "another shape")],
)
def test_without_a_valid_camera_there_is_no_ray(
    seen: SimpleNamespace, changes: dict[str, Any], says: str
) -> None:
    observer = seen.observer
    observer.send(scene(0))
    observer.give(place(0))
    settle(seen, info(**changes), says)
    stamp = observer.send(scene(1))
    assert ray_of(seen, stamp) == NO_RAY


def test_the_overlay_is_for_those_who_look_small_and_with_the_box(seen: SimpleNamespace) -> None:
    observer = seen.observer
    observer.send(scene(0))
    observer.give(place(0))
    pictures: list[Image] = []
    subscription = observer.create_subscription(Image, "tracker/overlay", pictures.append, 10)

    def shown() -> bool:
        observer.send(scene(0), "optical")
        return bool(pictures)

    observer.wait_for(shown, "the overlay")
    picture = pictures[-1]
    assert (picture.width, picture.height, picture.encoding) == (160, 120, "bgr8")
    assert picture.header.frame_id == "optical"
    pixels = np.frombuffer(picture.data, np.uint8).reshape(120, 160, 3)
    box = box_of(observer.targets[-1])
    corner = pixels[round(box.y / 2) - 2 : round(box.y / 2) + 3, round(box.cx / 2)]
    assert np.abs(corner.astype(int) - (60, 220, 255)).sum(axis=1).min() < 60  # amber: tracked
    observer.destroy_subscription(subscription)


def test_the_same_camera_info_is_not_worked_on_again() -> None:
    bearing = Bearing(False, "/camera_info")
    bearing.info(info())
    first = bearing.ray(Box(0, 0, 10, 10), 320, 240)
    kept = bearing._made
    bearing.info(info())
    assert bearing.ray(Box(0, 0, 10, 10), 320, 240) == first
    assert bearing._made is kept
    bearing.info(info(k=[500.0, *K[1:]]))
    assert bearing.ray(Box(0, 0, 10, 10), 320, 240) != first


def test_a_camera_info_that_comes_while_a_ray_is_made_is_not_lost(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    zoomed = Bearing(False, "/camera_info")
    zoomed.info(info(k=[500.0, *K[1:]]))
    bearing = Bearing(False, "/camera_info")
    bearing.info(info())
    real = module.camera_from_info

    def interrupted(message: CameraInfo, rectified: bool) -> Any:
        made = real(message, rectified)
        bearing.info(info(k=[500.0, *K[1:]]))
        return made

    monkeypatch.setattr(module, "camera_from_info", interrupted)
    bearing.ray(Box(0, 0, 10, 10), 320, 240)
    monkeypatch.undo()
    box = Box(0, 0, 10, 10)
    assert bearing.ray(box, 320, 240) == zoomed.ray(box, 320, 240)
