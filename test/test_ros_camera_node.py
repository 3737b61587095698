"""The camera node in a process of its own: every image, once, in order, at the asked size."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from rclpy.qos import QoSProfile, QoSReliabilityPolicy
from ros_support import (
    NodeProcess,
    Observer,
    box_message,
    box_of,
    nanoseconds,
    place,
    rclpy,
    scene,
    tiny_model,
    write_clip,
)
from sensor_msgs.msg import Image

from siamkd_core.box import iou
from siamkd_core.errors import SiamkdError
from siamkd_core.video import FrameSource
from siamkd_ros import camera_node
from siamkd_ros.image_decode import decode


class Viewer(Observer):
    """Also keeps the images."""

    def __init__(self, reliability: QoSReliabilityPolicy) -> None:
        super().__init__()
        self.images_seen: list[Image] = []
        self.create_subscription(
            Image,
            "image",
            self.images_seen.append,
            QoSProfile(depth=50, reliability=reliability),
        )


@pytest.fixture
def viewer(request: pytest.FixtureRequest) -> Iterator[Viewer]:
    rclpy.init()
    made = Viewer(getattr(request, "param", QoSReliabilityPolicy.RELIABLE))
    yield made
    made.close()
    rclpy.shutdown()


def test_a_clip_is_played_to_its_end_and_the_node_ends(viewer: Viewer, tmp_path: Path) -> None:
    camera = NodeProcess(
        "camera",
        tmp_path / "log",
        source=write_clip(tmp_path / "clip", range(12)),
        rate=20.0,
        frame_id="front",
        wait_for_subscribers=1,
    )
    viewer.wait_for(lambda: len(viewer.images_seen) == 12, "12 images")
    assert camera.wait() == 0, camera.log
    for n, message in enumerate(viewer.images_seen):
        np.testing.assert_array_equal(decode(message), scene(n))
        assert (message.encoding, message.header.frame_id) == ("bgr8", "front")
    stamps = [nanoseconds(message.header) for message in viewer.images_seen]
    assert stamps == sorted(set(stamps))
    seconds = (stamps[-1] - stamps[0]) / 1e9
    assert seconds > 0.9 * 11 / 20  # not faster than asked
    assert "12 images published" in camera.log


def test_looping_at_another_size(viewer: Viewer, tmp_path: Path) -> None:
    camera = NodeProcess(
        "camera",
        tmp_path / "log",
        source=write_clip(tmp_path / "clip", range(3)),
        rate=30.0,
        loop=True,
        width=160,
        height=90,
    )
    viewer.wait_for(lambda: len(viewer.images_seen) >= 8, "more images than the clip has")
    assert camera.stop(times=2) == 0, camera.log
    assert {decode(message).shape for message in viewer.images_seen} == {(90, 160, 3)}


def test_best_effort_is_best_effort(viewer: Viewer, tmp_path: Path) -> None:
    camera = NodeProcess(
        "camera",
        tmp_path / "log",
        source=write_clip(tmp_path / "clip", range(2)),
        loop=True,
        reliability="best_effort",
        depth=1,
    )
    offered = "camera"

    def reliability() -> list[QoSReliabilityPolicy]:
        found = viewer.get_publishers_info_by_topic("/image")
        return [info.qos_profile.reliability for info in found if info.node_name == offered]

    viewer.wait_for(reliability, "the camera's publisher")
    assert reliability() == [QoSReliabilityPolicy.BEST_EFFORT]
    assert camera.stop() == 0, camera.log


@pytest.mark.parametrize("viewer", [QoSReliabilityPolicy.BEST_EFFORT], indirect=True)
def test_the_tracker_follows_what_a_best_effort_camera_shows(
    viewer: Viewer, tmp_path: Path
) -> None:
    model = tiny_model(tmp_path)
    tracker = NodeProcess("tracker", tmp_path / "tracker", model=model, device="cpu", threads=1)
    viewer.connect()
    camera = NodeProcess(
        "camera",
        tmp_path / "camera",
        # there and back: where it starts anew, the target is within reach
        source=write_clip(tmp_path / "clip", [*range(12), *range(10, 0, -1)]),
        rate=20.0,
        loop=True,
        reliability="best_effort",
    )

    def shown(message: Image) -> int:
        return next(n for n in range(12) if np.array_equal(decode(message), scene(n)))

    viewer.wait_for(lambda: viewer.images_seen and viewer.targets, "the first image")
    newest = viewer.images_seen[-1]
    viewer.boxes.publish(box_message(place(shown(newest)), nanoseconds(newest.header)))
    viewer.wait_for(lambda: viewer.targets[-1].detections, "the target")
    given = len(viewer.targets)
    viewer.wait_for(lambda: len(viewer.targets) >= given + 25, "a round of the clip")
    assert camera.stop() == 0, camera.log
    assert tracker.stop() == 0, tracker.log
    followed = viewer.targets[given:]
    (target,) = {message.detections[0].id for message in followed}
    assert target
    # this process, too, may have missed some images
    frames = {nanoseconds(message.header): shown(message) for message in viewer.images_seen}
    both = [message for message in followed if nanoseconds(message.header) in frames]
    assert len(both) > 10
    for message in both:
        truth = place(frames[nanoseconds(message.header)])
        assert iou(np.array(box_of(message)), np.array(truth))[0] > 0.5


class Webcam(FrameSource):
    """Gives its frames to a reader that is too slow for them, then is unplugged."""

    name, live, fps, size = "video0", True, 30.0, (320, 240)

    def __init__(self) -> None:
        self.unplugged = threading.Event()

    def __iter__(self) -> Iterator[np.ndarray]:
        for n in range(5):
            yield scene(n)
        self.unplugged.wait(30)

    def close(self) -> None: ...


def test_a_webcam_is_newest_only_stamped_when_taken_and_its_end_is_an_error(
    viewer: Viewer, monkeypatch: pytest.MonkeyPatch
) -> None:
    device = Webcam()
    monkeypatch.setattr(camera_node, "open_source", lambda _: device)
    node = camera_node.CameraNode(
        parameter_overrides=[
            rclpy.parameter.Parameter("source", value="/dev/video0"),
            rclpy.parameter.Parameter("rate", value=10.0),
        ]
    )
    time.sleep(0.5)  # the device is faster than the node
    before = node.get_clock().now().nanoseconds
    node.on_timer()
    viewer.wait_for(lambda: viewer.images_seen, "an image")
    (message,) = viewer.images_seen
    np.testing.assert_array_equal(decode(message), scene(4))
    assert 0.3e9 < before - nanoseconds(message.header) < 20e9
    node.on_timer()
    device.unplugged.set()
    time.sleep(0.5)
    with pytest.raises(SiamkdError, match="plugged in"):
        node.on_timer()
    assert node.published == 1
    node.close()
    node.destroy_node()


@pytest.mark.parametrize(
    ("parameters", "says"),
    [
        ({}, "source is empty"),
        ({"source": "no/such/clip.mp4"}, "no/such/clip.mp4"),
        ({"source": ".", "reliability": "maybe"}, "reliable, best_effort"),
        ({"source": ".", "width": 640}, "go together"),
    ],
)
def test_what_the_user_must_change_is_said_in_words(
    tmp_path: Path, parameters: dict[str, object], says: str
) -> None:
    camera = NodeProcess("camera", tmp_path / "log", **parameters)
    assert camera.wait() == 2
    assert says in camera.log
    assert "Traceback" not in camera.log
