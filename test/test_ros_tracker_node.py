"""The tracker node in a process of its own, seen and driven over real topics.

What a newcomer may read as the manual of the node's behaviour.
"""

from __future__ import annotations

import itertools
import math
import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from diagnostic_msgs.msg import DiagnosticStatus
from rcl_interfaces.srv import SetParametersAtomically
from rclpy.parameter import Parameter
from ros_support import (
    PATIENCE,
    SETTLE,
    NodeProcess,
    Observer,
    box_message,
    box_of,
    image_message,
    nanoseconds,
    place,
    rclpy,
    scene,
    tiny_model,
    tiny_siamrpn,
    values,
    write_clip,
)
from sensor_msgs.msg import Image
from std_srvs.srv import SetBool, Trigger

from siamkd_core.box import Box, iou
from siamkd_core.tracker import load_tracker
from siamkd_ros.image_decode import decode
from siamkd_ros.statistics import STAGES

COUNT = itertools.count()


def overlap(a: Box, b: Box) -> float:
    return float(iou(np.array(a), np.array(b))[0])


@pytest.fixture(scope="module")
def tracker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeProcess]:
    folder = tmp_path_factory.mktemp("tracker")
    # a busy machine takes its time to show forty images
    options = {"device": "cpu", "threads": 1, "ring_seconds": 30.0}
    process = NodeProcess("tracker", folder / "log", model=tiny_model(folder), **options)
    yield process
    # as often as an impatient user presses Ctrl-C
    assert process.stop(times=3) == 0, process.log
    assert "Traceback" not in process.log


@pytest.fixture(scope="module")
def graph() -> Iterator[None]:
    rclpy.init()
    yield
    rclpy.shutdown()


@pytest.fixture(scope="module")
def connected(tracker: NodeProcess, graph: None) -> Iterator[Observer]:
    made = Observer()
    made.connect()
    yield made
    made.close()


@pytest.fixture
def observer(tracker: NodeProcess, connected: Observer) -> Iterator[Observer]:
    """Connected to a tracker that has no target; nothing seen yet but the latest status."""
    connected.statuses.clear()
    connected.call(connected.reset_client, Trigger.Request())
    connected.wait_for(lambda: connected.state == "idle: reset by ~/reset", "the reset")
    connected.targets.clear()
    yield connected
    assert tracker.process.poll() is None, tracker.log


def follow(observer: Observer, start: int = 0) -> str:
    """Show frame `start`, give its box, show the next; the target's id."""
    observer.send(scene(start))
    assert observer.give(place(start)).startswith("tracking")
    observer.send(scene(start + 1))
    return str(observer.targets[-1].detections[0].id)


def test_the_image_header_goes_out_verbatim_and_in_order(observer: Observer) -> None:
    sent = []
    for n in range(20):
        frame_id = f"front/camera {next(COUNT)} é"
        sent.append((observer.send(scene(n), frame_id), frame_id))
    got = [(nanoseconds(message.header), message.header.frame_id) for message in observer.targets]
    assert got == sent
    assert all(not message.detections for message in observer.targets)  # nobody gave a target


def test_the_target_is_followed(observer: Observer) -> None:
    observer.send(scene(0))
    observer.give(place(0))
    for n in range(1, 40):
        observer.send(scene(n))
        (detection,) = observer.targets[-1].detections
        assert detection.header == observer.targets[-1].header
        assert 0 <= detection.results[0].hypothesis.score <= 1
        assert overlap(box_of(observer.targets[-1]), place(n)) > 0.5
    assert len({message.detections[0].id for message in observer.targets[1:]}) == 1


def test_images_in_a_burst_come_out_in_order_and_none_is_made_up(observer: Observer) -> None:
    follow(observer)
    before = len(observer.targets)
    start = observer.get_clock().now().nanoseconds
    stamps = [start + n * 1000 for n in range(60)]
    for n, stamp in enumerate(stamps[:-1]):
        observer.images.publish(image_message(scene(n // 10), stamp))
    observer.send(scene(5), stamp=stamps[-1])
    got = [nanoseconds(message.header) for message in observer.targets[before:]]
    assert got == sorted(set(got))
    assert set(got) <= set(stamps)


def test_a_box_names_the_frame_it_was_drawn_on(observer: Observer) -> None:
    far = 40  # where the target has long left the box
    assert overlap(place(0), place(far)) == 0
    stamps = [observer.send(scene(n)) for n in range(far + 1)]
    state = observer.give(place(0), stamps[0])
    assert "caught up" in state
    observer.send(scene(far + 1))
    assert overlap(box_of(observer.targets[-1]), place(far + 1)) > 0.5


def test_every_box_gives_a_new_id(observer: Observer) -> None:
    assert follow(observer) != follow(observer)


@pytest.mark.parametrize(
    ("box", "stamp", "says"),
    [
        (Box(math.nan, 10, 40, 40), 0, "not finite"),
        (Box(10, 10, 0, 40), 0, "must be positive"),
        (Box(-500, 10, 40, 40), 0, "outside"),
        (Box(10, 10, 40, 40), 1, "old"),
        (Box(10, 10, 40, 40), 2**31 * 10**9 - 1, "ahead"),
    ],
)
def test_a_bad_box_is_refused_with_the_reason_and_keeps_the_target(
    observer: Observer, box: Box, stamp: int, says: str
) -> None:
    target = follow(observer)
    state = observer.give(box, stamp)
    assert state.startswith("tracking: box refused: ")
    assert says in state
    observer.send(scene(2))
    assert observer.targets[-1].detections[0].id == target


def test_malformed_images_are_counted_by_reason_and_keep_the_target(observer: Observer) -> None:
    target = follow(observer)
    faults = {
        "zero_size": ("width", 0),
        "step": ("step", 1),
        "length": ("height", 7),
        "encoding": ("encoding", "h264"),
    }

    def counted() -> set[str]:
        camera = values(observer.fresh_diagnostics()["camera"])
        return {reason for reason in faults if f"rejected.{reason}" in camera}

    while missing := set(faults) - counted():
        for reason in missing:
            message = image_message(scene(0), observer.get_clock().now().nanoseconds)
            setattr(message, *faults[reason])
            observer.images.publish(message)
            observer.spin_for(0.2)  # the node keeps only the newest image that waits
    observer.send(scene(2))
    assert observer.targets[-1].detections[0].id == target


def test_reset_drops_the_target(observer: Observer) -> None:
    follow(observer)
    assert observer.call(observer.reset_client, Trigger.Request()).success
    observer.wait_for(lambda: observer.state == "idle: reset by ~/reset", "the reset")
    observer.send(scene(2))
    assert not observer.targets[-1].detections


def test_disabled_is_silent_and_enabled_goes_on_with_the_target(observer: Observer) -> None:
    target = follow(observer)
    assert observer.call(observer.enable_client, SetBool.Request(data=False)).success
    observer.wait_for(lambda: observer.state == "idle: disabled by ~/enable", "the pause")
    before = len(observer.targets)
    for n in range(3):
        message = image_message(scene(n), observer.get_clock().now().nanoseconds)
        observer.images.publish(message)
        observer.spin_for(0.1)
    assert len(observer.targets) == before
    observer.call(observer.enable_client, SetBool.Request(data=True))
    observer.wait_for(lambda: observer.state.startswith("tracking"), "tracking again")
    observer.send(scene(2))
    assert observer.targets[-1].detections[0].id == target


def test_time_that_jumps_back_drops_the_target_with_the_reason(observer: Observer) -> None:
    follow(observer)
    hour_ago = observer.get_clock().now().nanoseconds - 3600 * 10**9
    count = itertools.count()

    def jumped() -> bool:
        n = next(count)
        observer.images.publish(image_message(scene(n), hour_ago + n * 10**8))
        observer.spin_for(0.2)  # the first is refused, as it might be a fluke
        return observer.state.startswith("idle: the image stamps jumped back")

    observer.wait_for(jumped, "the jump back")
    observer.send(scene(0), stamp=hour_ago + 10**11)
    assert not observer.targets[-1].detections


def test_an_unstamped_camera_is_tracked_too(observer: Observer) -> None:
    follow(observer)
    observer.send_message(image_message(scene(2), 0))
    assert nanoseconds(observer.targets[-1].header) == 0
    assert overlap(box_of(observer.targets[-1]), place(2)) > 0.5


def test_status_is_there_for_those_who_come_later(observer: Observer) -> None:
    follow(observer)
    late = Observer(name="late")
    late.wait_for(lambda: late.statuses, "the latched status")
    status = values(late.statuses[0])
    late.close()
    assert status["state"] == "tracking"
    assert status["model"] == "tiny"
    assert float(status["since"]) > 1e9


def test_diagnostics_have_four_tasks_with_the_stages_of_every_frame(observer: Observer) -> None:
    follow(observer)
    for n in range(2, 8):
        observer.send(scene(n))
    tasks = observer.fresh_diagnostics()
    assert set(tasks) == {"camera", "tracker", "timing", "device"}
    timing = values(tasks["timing"])
    for stage in STAGES:
        p50, p95, highest = (float(timing[f"{stage}_ms.{k}"]) for k in ("p50", "p95", "max"))
        assert 0 <= p50 <= p95 <= highest
    inside = sum(float(timing[f"{stage}_ms.p50"]) for stage in ("decode", "crop", "model"))
    assert float(timing["latency_ms.max"]) > inside / 2
    assert values(tasks["tracker"])["state"] == "tracking"
    assert values(tasks["tracker"])["internal_errors"] == "0"
    device = values(tasks["device"])
    assert (device["model"], len(device["sha256"])) == ("tiny", 64)
    assert "warmed up" in device["start_up"]


def test_silence_is_an_error_that_says_who_publishes(
    observer: Observer, tracker: NodeProcess
) -> None:
    observer.send(scene(0))
    observer.spin_for(1.5)
    camera = observer.fresh_diagnostics()["camera"]
    assert camera.level == b"\x02"
    offer = "/observer (sensor_msgs/msg/Image, reliable, volatile)"
    assert offer in camera.message
    assert offer in tracker.log


def test_a_frozen_picture_is_a_warning_and_keeps_the_target(
    observer: Observer, tracker: NodeProcess
) -> None:
    target = follow(observer)

    # the same picture under new stamps
    def warned() -> bool:
        observer.send(scene(2))
        camera = observer.diagnostics.get("camera")
        return camera is not None and "the same picture for" in camera.message

    observer.wait_for(warned, "the warning")
    camera = observer.diagnostics["camera"]
    assert camera.level == b"\x01"
    assert float(values(camera)["same_picture_s"]) > 1.0
    observer.wait_for(lambda: "the same picture for" in tracker.log, "the log")
    assert observer.targets[-1].detections[0].id == target
    observer.send(scene(3))
    assert values(observer.fresh_diagnostics()["camera"])["same_picture_s"] == "0.0"


def test_a_camera_that_changes_its_encoding_keeps_the_target(observer: Observer) -> None:
    target = follow(observer)
    for n, (encoding, convert) in enumerate(
        [
            ("rgb8", cv2.COLOR_BGR2RGB),
            ("bgra8", cv2.COLOR_BGR2BGRA),
            ("bgr8", None),
            ("mono8", cv2.COLOR_BGR2GRAY),
            ("bgr8", None),
        ],
        start=2,
    ):
        image = scene(n) if convert is None else cv2.cvtColor(scene(n), convert)
        observer.send_message(
            image_message(image, observer.get_clock().now().nanoseconds, encoding=encoding)
        )
        assert observer.targets[-1].detections[0].id == target
        if encoding != "mono8":  # of its colours the tiny model knows nothing
            assert overlap(box_of(observer.targets[-1]), place(n)) > 0.5


def show_until_believed(observer: Observer, image: np.ndarray[Any, Any]) -> None:
    """Two images of a new size are refused, the third is believed."""
    for _ in range(2):
        now = observer.get_clock().now().nanoseconds
        observer.images.publish(image_message(image, now))
        observer.spin_for(SETTLE)
    observer.send(image)


def test_a_camera_that_changes_its_size_keeps_the_target_in_the_same_view(
    observer: Observer,
) -> None:
    target = follow(observer)
    results = len(observer.targets)
    twice = cv2.resize(scene(2), None, fx=2, fy=2, interpolation=cv2.INTER_NEAREST)
    show_until_believed(observer, twice)
    found = observer.targets[-1]
    assert found.detections[0].id == target
    assert overlap(Box(*(value / 2 for value in box_of(found))), place(2)) > 0.5
    # one that was lost on the way is sent again
    assert len(observer.targets) == results + 1
    show_until_believed(observer, scene(3)[:200])
    assert not observer.targets[-1].detections
    dropped = "idle: the image changed from 640x480 to 320x200"
    observer.wait_for(lambda: observer.state == dropped, "the status of the drop")
    show_until_believed(observer, scene(3))  # for the tests after this one


def test_a_camera_that_changes_its_rate_keeps_the_target(observer: Observer) -> None:
    target = follow(observer)
    n, seen = 2, []
    for interval in (0.02, 0.4, 0.02):
        for _ in range(6):
            observer.spin_for(interval)
            seen.append(observer.send(scene(n)))
            n += 1
    got = [nanoseconds(message.header) for message in observer.targets[-len(seen) :]]
    assert got == seen
    assert {message.detections[0].id for message in observer.targets[-len(seen) :]} == {target}
    assert overlap(box_of(observer.targets[-1]), place(n - 1)) > 0.5
    assert observer.state.startswith("tracking")


def test_a_camera_without_stamps_all_along(observer: Observer) -> None:
    def show(n: int) -> None:
        observer.send_message(image_message(scene(n), 0))
        assert nanoseconds(observer.targets[-1].header) == 0

    before = int(values(observer.fresh_diagnostics()["camera"])["unstamped"])
    show(0)
    assert observer.give(place(0)).startswith("tracking")
    for n in range(1, 6):
        show(n)
        assert overlap(box_of(observer.targets[-1]), place(n)) > 0.5
    camera = values(observer.fresh_diagnostics()["camera"])
    assert int(camera["unstamped"]) >= before + 6


def test_a_camera_whose_clock_is_ahead_is_tracked_by_its_own_stamps(observer: Observer) -> None:
    ahead = observer.get_clock().now().nanoseconds + 3600 * 10**9
    first = int(values(observer.fresh_diagnostics()["camera"])["stamped_in_future"])
    for n in range(4):
        assert observer.send(scene(n), stamp=ahead + n * 10**8) == ahead + n * 10**8
    # a box drawn on one of them, by its stamp
    assert observer.give(place(1), ahead + 10**8).startswith("tracking")
    observer.send(scene(4), stamp=ahead + 4 * 10**8)
    target = observer.targets[-1].detections[0].id
    assert overlap(box_of(observer.targets[-1]), place(4)) > 0.5
    camera = values(observer.fresh_diagnostics()["camera"])
    assert int(camera["stamped_in_future"]) >= first + 5
    # the camera's clock is put right: no jump back, as the future was never believed
    observer.send(scene(5))
    assert observer.targets[-1].detections[0].id == target
    assert observer.state.startswith("tracking")


def test_a_camera_killed_and_started_again(observer: Observer, tmp_path: Path) -> None:
    # there and back over 20 px: wherever the clip starts anew, the target is within reach
    clip = write_clip(tmp_path / "clip", [*range(12), *range(10, 0, -1)])
    options = {"source": clip, "rate": 20.0, "loop": True}
    images: dict[int, Any] = {}
    subscription = observer.create_subscription(
        Image, "image", lambda message: images.update({nanoseconds(message.header): message}), 100
    )
    camera = NodeProcess("camera", tmp_path / "first", **options)
    # which of the clip's images gets here first is chance
    observer.wait_for(lambda: images and observer.targets, "the first image")
    stamp, message = images.popitem()
    observer.destroy_subscription(subscription)
    shown = decode(message).astype(float)
    first = min(range(12), key=lambda n: float(np.abs(shown - scene(n)).mean()))
    observer.boxes.publish(box_message(place(first), stamp))
    observer.wait_for(lambda: observer.targets[-1].detections, "the target")
    target = observer.targets[-1].detections[0].id
    camera.kill()
    observer.spin_for(2.0)
    silent_since = len(observer.targets)
    camera = NodeProcess("camera", tmp_path / "second", **options)
    observer.wait_for(lambda: len(observer.targets) >= silent_since + 15, "images after restart")
    assert camera.stop() == 0, camera.log
    after = observer.targets[silent_since:]
    assert all(message.detections for message in after)
    assert {message.detections[0].id for message in after} == {target}
    boxes = [box_of(message) for message in after[5:]]
    assert all(max(overlap(box, place(n)) for n in range(12)) > 0.5 for box in boxes)


def set_all(observer: Observer, **changes: Any) -> Any:
    client = observer.create_client(SetParametersAtomically, "tracker/set_parameters_atomically")
    observer.wait_for(client.service_is_ready, "the parameter service")
    observer.be_known()
    made = [Parameter(name, value=value).to_parameter_msg() for name, value in changes.items()]
    result = observer.call(client, SetParametersAtomically.Request(parameters=made)).result
    observer.destroy_client(client)
    return result


def test_thresholds_change_live_and_together_or_not_at_all(observer: Observer) -> None:
    target = follow(observer)  # the score is 0.88
    higher = {"uncertain_score": 0.9, "tracking_score": 0.95, "recover_score": 0.97}
    wrong = set_all(observer, **higher, overlay_rate=1e6)
    assert not wrong.successful and "overlay_rate" in wrong.reason
    observer.send(scene(2))
    assert observer.state.startswith("tracking")
    assert set_all(observer, **higher, lost_after=60.0).successful
    try:
        observer.send(scene(3))
        observer.wait_for(lambda: observer.state.startswith("uncertain"), "another threshold")
    finally:
        lower = {"uncertain_score": 0.5, "tracking_score": 0.7, "recover_score": 0.8}
        assert set_all(observer, **lower, lost_after=1.0).successful

    count = itertools.count()

    def tracked() -> bool:
        observer.send(scene(3 + next(count) % 2))
        return observer.state.startswith("tracking")

    observer.wait_for(tracked, "the threshold before")
    assert observer.targets[-1].detections[0].id == target


def test_the_overlay_keeps_its_rate(observer: Observer) -> None:
    follow(observer)
    assert set_all(observer, overlay_rate=2.0).successful
    pictures: list[Image] = []
    looking = observer.create_subscription(Image, "tracker/overlay", pictures.append, 100)
    count = itertools.count()

    def seen() -> bool:
        observer.send(scene(2 + next(count) % 8))
        return bool(pictures)

    try:
        observer.wait_for(seen, "the overlay")
        began, before, targets = time.monotonic(), len(pictures), len(observer.targets)
        for _ in range(40):
            seen()
        took = time.monotonic() - began
        drawn, processed = len(pictures) - before, len(observer.targets) - targets
    finally:
        observer.destroy_subscription(looking)
        assert set_all(observer, overlay_rate=10.0).successful
    assert processed >= 40
    assert drawn <= 2 * took + 1


# The following start a tracker of their own, in a namespace of its own


@pytest.fixture
def other(graph: None) -> Iterator[Observer]:
    made = Observer("other")
    yield made
    made.close()


def start_other(folder: Path, name: str, *arguments: str, **parameters: object) -> NodeProcess:
    return NodeProcess(name, folder / name, "-r", "__ns:=/other", *arguments, **parameters)


def test_incompatible_qos_is_a_warning_that_names_topic_and_policy(
    tmp_path: Path, other: Observer
) -> None:
    reliable = ("-p", "qos_overrides./other/image.subscription.reliability:=reliable")
    tracker = start_other(tmp_path, "tracker", *reliable, model=tiny_model(tmp_path))
    clip = write_clip(tmp_path / "clip", range(2))
    camera = start_other(tmp_path, "camera", source=clip, loop=True, reliability="best_effort")
    try:
        other.wait_for(lambda: "incompatible QoS" in tracker.log, "the warning", 2 * PATIENCE)
    finally:
        assert camera.stop() == 0, camera.log
        assert tracker.stop(signal.SIGTERM, times=3) == 0, tracker.log
    assert "Traceback" not in tracker.log
    assert "a publisher on /other/image offers an incompatible QoS (RELIABILITY)" in tracker.log
    assert "qos_overrides./other/image.subscription.reliability" in tracker.log


def test_large_images_that_do_not_fit_into_shared_memory_are_explained(
    tmp_path: Path, other: Observer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A camera that was started without the profile: most of its images are lost, or all."""
    image = np.random.default_rng(0).integers(0, 256, (1080, 1920, 3), np.uint8)
    clip = tmp_path / "clip"
    clip.mkdir()
    assert cv2.imwrite(str(clip / "0.png"), image)
    tracker = start_other(tmp_path, "tracker", model=tiny_model(tmp_path), image_timeout=1.0)
    monkeypatch.delenv("FASTRTPS_DEFAULT_PROFILES_FILE")
    camera = start_other(
        tmp_path, "camera", source=clip, rate=30.0, loop=True, reliability="best_effort"
    )
    monkeypatch.undo()
    began = time.monotonic()
    explained = re.compile(
        r"(do not arrive|no image (for [\d.]+ s|yet); .*/other/camera .*if it does send)"
        r".* FASTRTPS_DEFAULT_PROFILES_FILE .*config/fastdds.xml"
    )
    try:
        other.wait_for(lambda: "/other/image" in camera.log, "the camera")
        # a middleware that loses nothing has nothing to explain
        other.wait_for(
            lambda: explained.search(tracker.log) or time.monotonic() > began + 45, "the advice"
        )
        seen = values(other.fresh_diagnostics()["camera"])
    finally:
        assert camera.stop() == 0, camera.log
        assert tracker.stop() == 0, tracker.log
    lost = f"{seen['missing_percent']} % of {seen['received']} received and lost"
    if not explained.search(tracker.log) and float(seen["missing_percent"]) < 30:
        assert int(seen["received"]) > 0, tracker.log
        pytest.skip(f"the middleware loses little without a profile: {lost}")
    assert explained.search(tracker.log), f"{lost}\n{tracker.log}"


def test_what_the_user_must_change_ends_the_start_in_words(tmp_path: Path) -> None:
    tracker = start_other(tmp_path, "tracker", model="no_such_model")
    assert tracker.wait() == 2
    assert "no_such_model" in tracker.log
    assert "Traceback" not in tracker.log


def test_a_model_of_another_family_needs_its_name_alone(tmp_path: Path, other: Observer) -> None:
    """The boxes are the library's, and their aspect ratio changes."""
    model = tiny_siamrpn(tmp_path)
    tracker = start_other(tmp_path, "tracker", model=model, device="cpu", threads=1)
    alone = load_tracker(model, "cpu")
    other.connect()
    other.send(scene(0))
    other.give(place(0))
    alone.init(scene(0), place(0))
    changes = []
    for n in range(1, 10):
        other.send(scene(n))
        expected = alone.update(scene(n)).box
        assert box_of(other.targets[-1]) == pytest.approx(expected, abs=0.01)
        changes.append(abs(expected.w / expected.h - 1))
    assert max(changes) > 0.05
    assert tracker.stop() == 0, tracker.log


def states_in(log: str) -> list[str]:
    """The state of each line about one."""
    return re.findall(r"\[other\.tracker\]: (idle|tracking|uncertain|lost):", log)


@pytest.mark.parametrize("model", ["siamfc", "dstrpn_large"])
def test_a_shipped_model_follows_and_tells_when_the_target_goes_and_comes_back(
    tmp_path: Path, other: Observer, model: str
) -> None:
    tracker = start_other(
        tmp_path, "tracker", model=model, device="auto", lost_after=0.3, recover_after=0.1
    )
    other.connect()
    other.send(scene(0))
    other.give(place(0))
    for n in range(1, 30):
        other.send(scene(n))
        assert overlap(box_of(other.targets[-1]), place(n)) > 0.5
    empty = scene(30).copy()
    x, y, w, h = (int(value) for value in place(30))
    empty[y : y + h, x : x + w] = empty[y - h : y, x : x + w]
    for _ in range(60):
        other.send(empty)
        if other.state.startswith("lost"):
            break
    assert other.state.startswith("lost")
    target = values(other.statuses[-1])["target_id"]
    other.send(empty)
    assert not other.targets[-1].detections
    for _ in range(60):
        other.send(scene(30))
        if other.state.startswith("tracking"):
            break
    assert other.state.startswith("tracking")
    other.send(scene(31))
    assert overlap(box_of(other.targets[-1]), place(31)) > 0.5
    assert other.targets[-1].detections[0].id == target
    # each change is a status and a line
    said = [values(status)["state"] for status in other.statuses]
    assert said == ["idle", "tracking", "uncertain", "lost", "tracking"]
    assert states_in(tracker.log) == said
    device = other.fresh_diagnostics()["device"]
    if not torch.cuda.is_available():
        assert device.level == DiagnosticStatus.WARN and "no CUDA" in device.message
    assert tracker.stop() == 0, tracker.log
