"""siamkd_ros.boxes: centre-based messages to edge-based boxes and back."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest

from siamkd_core.box import Box
from siamkd_ros.boxes import (
    box_from_detection,
    check_box,
    fill_detection,
    id_from_detection,
    label_from_detection,
)
from siamkd_ros.rejected import Rejected


def detection(
    cx: float = 0.0, cy: float = 0.0, w: float = 0.0, h: float = 0.0, theta: float = 0.0
) -> Any:
    center = SimpleNamespace(position=SimpleNamespace(x=cx, y=cy), theta=theta)
    bbox = SimpleNamespace(center=center, size_x=w, size_y=h)
    return SimpleNamespace(bbox=bbox, results=[], id="")


def hypothesis(label: str = "") -> Any:
    return SimpleNamespace(hypothesis=SimpleNamespace(class_id=label, score=0.0))


def test_the_whole_image_has_its_centre_at_half_its_size() -> None:
    assert box_from_detection(detection(320, 240, 640, 480)) == Box(0, 0, 640, 480)


def test_there_and_back() -> None:
    message = detection()
    fill_detection(message, Box(10.5, 20, 30, 41), 0.75, "dog", hypothesis())
    assert box_from_detection(message) == Box(10.5, 20, 30, 41)
    assert message.results[0].hypothesis.score == 0.75
    assert label_from_detection(message) == "dog"


@pytest.mark.parametrize(
    ("theta", "w", "h"),
    [(math.pi / 2, 20, 40), (math.pi, 40, 20), (math.pi / 4, 60 / 2**0.5, 60 / 2**0.5)],
)
def test_a_rotated_box_gives_the_upright_one_around_it(theta: float, w: float, h: float) -> None:
    box = box_from_detection(detection(100, 100, 40, 20, theta))
    assert (box.cx, box.cy, box.w, box.h) == pytest.approx((100, 100, w, h))


@pytest.mark.parametrize("field", ["cx", "cy", "w", "h", "theta"])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_is_refused(field: str, value: float) -> None:
    values = {"cx": 50.0, "cy": 50.0, "w": 20.0, "h": 20.0, field: value}
    with pytest.raises(Rejected) as refusal:
        box_from_detection(detection(**values))
    assert refusal.value.reason == "box_not_finite"


@pytest.mark.parametrize(("w", "h"), [(0, 10), (10, 0), (-5, 10), (10, -5)])
def test_an_empty_box_is_refused(w: float, h: float) -> None:
    with pytest.raises(Rejected) as refusal:
        box_from_detection(detection(50, 50, w, h))
    assert refusal.value.reason == "box_size"


@pytest.mark.parametrize(
    ("box", "reason"),
    [
        (Box(10, 10, 0.5, 20), "box_size"),
        (Box(-5000, -5000, 10_100, 10_100), "box_size"),
        (Box(-30, 10, 20, 20), "box_outside"),
        (Box(10, 95, 20, 20), "box_outside"),
        (Box(1e300, 10, 20, 20), "box_outside"),
    ],
)
def test_a_box_that_does_not_fit_the_image_is_refused(box: Box, reason: str) -> None:
    with pytest.raises(Rejected) as refusal:
        check_box(box, 100, 100)
    assert refusal.value.reason == reason


def test_a_box_over_the_border_is_a_target() -> None:
    assert check_box(Box(-5, -5, 30, 30), 100, 100) == Box(-5, -5, 30, 30)


def test_labels_are_cut_and_have_a_default() -> None:
    message = detection()
    assert label_from_detection(message) == "target"
    message.results = [hypothesis("x" * 100_000)]
    assert label_from_detection(message) == "x" * 64


def test_the_senders_name_for_a_box_is_cut() -> None:
    message = detection()
    assert id_from_detection(message) == ""
    message.id = "y" * 100_000
    assert id_from_detection(message) == "y" * 64
