import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from siamkd_core.box import Box, check_target_box, iou
from siamkd_core.errors import BoxError

side = st.integers(1, 12)
corner = st.integers(-5, 12)
boxes = st.tuples(corner, corner, side, side)


@given(boxes, boxes)
def test_iou_equals_counting_pixels(a, b):
    def pixels(box):
        x, y, w, h = box
        return {(i, j) for i in range(x, x + w) for j in range(y, y + h)}

    expected = len(pixels(a) & pixels(b)) / len(pixels(a) | pixels(b))
    assert iou(np.array(a, float), np.array(b, float))[0] == pytest.approx(expected)


def test_iou_golden_and_nan():
    a = np.array([[0, 0, 10, 10], [0, 0, 10, 10], [np.nan] * 4, [0, 0, 0, 0]], float)
    b = np.array([[5, 5, 10, 10], [20, 0, 5, 5], [0, 0, 1, 1], [0, 0, 0, 0]], float)
    assert iou(a, b)[:2] == pytest.approx([25 / 175, 0])
    assert np.isnan(iou(a, b)[2])
    assert iou(a, b)[3] == 0


def test_center_of_one_pixel():
    assert (Box(0, 0, 1, 1).cx, Box(3, 7, 1, 1).cy) == (0.5, 7.5)
    assert Box.from_center(10, 20, 4, 6) == Box(8, 17, 4, 6)


@pytest.mark.parametrize(
    "box, says",
    [
        ((float("nan"), 0, 5, 5), "not finite"),
        ((0, 0, float("inf"), 5), "not finite"),
        ((0, 0, 0, 5), "under one pixel"),
        ((0, 0, 5, -5), "under one pixel"),
        ((200, 0, 5, 5), "outside the 100x50 image"),
        ((0, -20, 5, 5), "outside"),
        ((-500, -500, 1000, 1000), "far larger"),
        ((1, 2, 3), "four numbers"),
        ("none", "four numbers"),
    ],
)
def test_a_box_that_cannot_be_a_target_is_refused(box, says):
    with pytest.raises(BoxError, match=says):
        check_target_box(box, 100, 50)


def test_a_box_over_the_border_is_a_target():
    assert check_target_box((-5, -5, 20, 20), 100, 50) == Box(-5, -5, 20, 20)
