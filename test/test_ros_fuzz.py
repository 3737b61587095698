"""10,000 generated images and boxes through a real node: no crash, the target kept, every refusal
counted by its reason."""

from __future__ import annotations

import array
import math
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from ros_support import box_message, image_message, place, rclpy, scene, tiny_model
from sensor_msgs.msg import Image

from siamkd_core.box import Box
from siamkd_core.presence import State
from siamkd_core.tracker import load_tracker
from siamkd_ros.diagnostics import Report
from siamkd_ros.rejected import Rejected
from siamkd_ros.tracker_node import TrackerNode

IMAGES, BOXES = 6_000, 4_000
WIDTH, HEIGHT = 320, 240
# Hypothesis makes texts of the constants in our modules too: all encodings must be here
CHANNELS = {
    "bgr8": 3,
    "rgb8": 3,
    "bgra8": 4,
    "rgba8": 4,
    "mono8": 1,
    "8UC1": 1,
    "8UC3": 3,
    "8UC4": 4,
}
GENERATE = settings(
    max_examples=IMAGES,
    deadline=None,
    database=None,
    phases=[Phase.generate],
    derandomize=True,
    suppress_health_check=list(HealthCheck),
)


class Watched(TrackerNode):
    """Counts what goes out, which is cheaper to poll than the statistics."""

    shown = refused = 0

    def target(self, *arguments: Any) -> None:
        super().target(*arguments)
        self.shown += 1

    def rejected(self, error: Rejected) -> None:
        super().rejected(error)
        self.refused += 1


class Fuzzed:
    """A real node with a target, and what is expected of its counters."""

    def __init__(self, model: Path) -> None:
        # the last image serves many boxes; on a slow machine it must not count as a dead camera's
        patient = rclpy.parameter.Parameter("image_timeout", value=60.0)
        tracker = load_tracker(model, device="cpu", threads=1)
        self.node = Watched(tracker, parameter_overrides=[patient])
        self.expected: Counter[str] = Counter()
        self.good = 0
        self.clock = self.node.now()
        self.sent = 0
        self.show()
        self.node.session.on_init(box_message(place(0)))
        self.until(lambda: self.report().state is State.TRACKING, "the target")
        self.target = self.report().target

    def report(self) -> Report:
        assert self.node.session
        return self.node.session.follower.report()

    def show(self) -> None:
        """A good image of the scene, to its end."""
        before = self.node.shown
        self.clock += 1000
        self.node.session.on_image(image_message(scene(0), self.clock))
        self.good += 1
        self.until(lambda: self.node.shown > before, "a good image")

    def check(self) -> None:
        """After every hundred: still alive, still on target, nothing uncounted."""
        self.sent += 1
        if self.sent % 100:
            return
        self.show()
        snapshot = self.node.statistics.snapshot(0.0)
        assert snapshot.errors == 0
        assert Counter(snapshot.rejects) == self.expected
        assert snapshot.received == self.good
        report = self.report()
        assert (report.state, report.target) == (State.TRACKING, self.target)

    @staticmethod
    def until(condition: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + 30
        while not condition():
            assert time.monotonic() < deadline, f"waited in vain for {what}"
            time.sleep(0.0005)


@pytest.fixture
def fuzzed(tmp_path: Path) -> Iterator[Fuzzed]:
    rclpy.init()
    made = Fuzzed(tiny_model(tmp_path))
    made.node.get_logger().set_level(50)
    yield made
    made.node.close()
    made.node.destroy_node()
    rclpy.shutdown()


def refusal(
    height: int, width: int, encoding: str, step: int, length: int, back: int, **_: int
) -> str:
    """Why a message must be refused, said once more in the simplest way; empty: it must not."""
    if min(height, width) == 0:
        return "zero_size"
    if min(height, width) == 1:
        return "too_small"
    if encoding not in CHANNELS:
        return "encoding"
    if step < width * CHANNELS[encoding]:
        return "step"
    if length != step * height:
        return "length"
    if back:
        return "out_of_order"
    return "" if (width, height) == (WIDTH, HEIGHT) else "other_size"


SIDE = st.integers(0, 2**32 - 1) | st.integers(0, 3)
IMAGE_FAULT = st.one_of(
    st.tuples(st.just("height"), SIDE),
    st.tuples(st.just("width"), SIDE),
    st.tuples(st.just("encoding"), st.sampled_from([*CHANNELS, "", "BGR8", "jpeg"]) | st.text()),
    st.tuples(st.just("step"), st.integers(0, 2**32 - 1) | st.integers(0, 2000)),
    st.tuples(st.just("length"), st.integers(0, 500_000)),
    st.tuples(st.just("is_bigendian"), st.integers(0, 255)),
    st.tuples(st.just("back"), st.integers(1, 400_000_000)),
)


def test_images(fuzzed: Fuzzed) -> None:
    noise = np.random.default_rng(0).integers(0, 256, 500_000, np.uint8).tobytes()

    @GENERATE
    @given(st.lists(IMAGE_FAULT, max_size=3))
    def one(faults: list[tuple[str, Any]]) -> None:
        fields: dict[str, Any] = {
            "height": HEIGHT,
            "width": WIDTH,
            "encoding": "bgr8",
            "is_bigendian": 0,
        }
        fields |= dict(faults)
        back = fields.pop("back", 0)
        natural = fields["width"] * CHANNELS.get(fields["encoding"], 3)
        fields.setdefault("step", min(natural, 2**32 - 1))
        length = fields.pop("length", min(fields["step"] * fields["height"], len(noise)))
        reason = refusal(length=length, back=back, **fields)
        if not reason:
            # what passes all checks shows the scene: noise would rightly move the target
            fuzzed.show()
            return
        message = Image(**fields, data=array.array("B", noise[:length]))
        stamp = fuzzed.clock - back
        message.header.stamp.sec, message.header.stamp.nanosec = divmod(stamp, 10**9)
        fuzzed.expected[reason] += 1
        fuzzed.node.session.on_image(message)
        if reason == "other_size":
            fuzzed.show()  # three of the same size in a row would rightly be a new stream
        fuzzed.check()

    one()
    assert set(fuzzed.expected) >= {
        "zero_size",
        "too_small",
        "encoding",
        "step",
        "length",
        "out_of_order",
    }


def test_boxes(fuzzed: Fuzzed) -> None:
    numbers = st.floats(width=64)
    sides = st.floats(-10, 5000) | numbers
    stamps = st.sampled_from(["newest", "old", "future"])

    @settings(GENERATE, max_examples=BOXES)
    @given(
        cx=st.floats(-500, 800) | numbers,
        cy=st.floats(-500, 800) | numbers,
        w=sides,
        h=sides,
        theta=st.just(0.0) | numbers,
        when=stamps,
    )
    def one(cx: float, cy: float, w: float, h: float, theta: float, when: str) -> None:
        stamp = {"newest": 0, "old": 1, "future": fuzzed.clock + 10**11}[when]
        message = box_message(Box(0, 0, 0, 0), stamp)
        center = message.bbox.center
        center.position.x, center.position.y, center.theta = cx, cy, theta
        message.bbox.size_x, message.bbox.size_y = w, h
        reason = box_refusal(cx, cy, w, h, theta, when)
        before = fuzzed.node.refused
        fuzzed.node.session.on_init(message)
        if reason:
            fuzzed.expected[reason] += 1
            fuzzed.until(lambda: fuzzed.node.refused > before, f"the refusal of {message.bbox}")
        else:
            # a good box is a new target; give the old place back for what follows
            for _ in range(2):
                old = fuzzed.target
                fuzzed.until(
                    lambda old=old: fuzzed.report().target != old,
                    "the new target",
                )
                fuzzed.target = fuzzed.report().target
                fuzzed.node.session.on_init(box_message(place(0)))
            old = fuzzed.target
            fuzzed.until(lambda: fuzzed.report().target != old, "the target given back")
            fuzzed.target = fuzzed.report().target
        fuzzed.check()

    one()
    assert set(fuzzed.expected) == {
        "box_not_finite",
        "box_size",
        "box_outside",
        "box_too_old",
        "box_in_future",
    }


def box_refusal(cx: float, cy: float, w: float, h: float, theta: float, when: str) -> str:
    """Why a box must be refused; empty: it must not."""
    if not np.isfinite((cx, cy, w, h, theta)).all():
        return "box_not_finite"
    if min(w, h) <= 0:
        return "box_size"
    cos, sin = abs(math.cos(theta)), abs(math.sin(theta))
    box = Box.from_center(cx, cy, w * cos + h * sin, w * sin + h * cos)
    if not np.isfinite(box).all():
        return "box_size"
    if when != "newest":
        return "box_too_old" if when == "old" else "box_in_future"
    if not (0 <= box.cx <= WIDTH and 0 <= box.cy <= HEIGHT):
        return "box_outside"
    too_small, too_large = min(box.w, box.h) < 1, box.w > 8 * WIDTH or box.h > 8 * HEIGHT
    return "box_size" if too_small or too_large else ""
