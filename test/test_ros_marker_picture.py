"""tools/marker_picture.py: RViz's camera, against a projection written out here."""

from __future__ import annotations

import math

import cv2
import numpy as np
import pytest

pytest.importorskip("visualization_msgs", reason="needs ROS 2's visualization_msgs")

from marker_picture import View, draw_markers, view_from_rviz
from ros_support import ROOT
from visualization_msgs.msg import Marker, MarkerArray

from siamkd_core.box import Box
from siamkd_ros.camera_model import Camera
from siamkd_ros.picker_markers import PIXEL, PlaneMarkers, encode_picture
from siamkd_ros.picture_plane import Plane

WIDTH, HEIGHT = 640, 480
# A camera without a tilt, from one metre behind the optical frame's origin
BEHIND = View(
    800, 600, (0, 0, 1), 2.0, 3 * math.pi / 2, -math.pi / 2 + 1e-3, math.pi / 4, (9, 9, 9)
)
QUARTERS = {(0, 0): (0, 0, 255), (1, 0): (0, 255, 0), (0, 1): (255, 0, 0), (1, 1): (0, 255, 255)}


def plane() -> Plane:
    return Plane(Camera(WIDTH, HEIGHT, 640.0, 640.0, 319.5, 239.5), 1.0)


def markers(given: Box | None = None) -> MarkerArray:
    image = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    for (column, row), colour in QUARTERS.items():
        image[row * 240 : row * 240 + 240, column * 320 : column * 320 + 320] = colour
    return PlaneMarkers().array("camera", plane(), encode_picture(image, 640, 95), given=given)


def added(array: MarkerArray) -> list:
    """What is shown in the end."""
    ids = [(marker.ns, marker.id) for marker in array.markers]
    assert len(set(ids)) == len(ids), "RViz takes two markers of one id for an error"
    shown = {}
    for marker in array.markers:
        if marker.action == marker.ADD:
            shown[marker.ns, marker.id] = marker
        else:
            shown.pop((marker.ns, marker.id), None)
    return list(shown.values())


def window(x: float, y: float, z: float) -> tuple[float, float]:
    """Where BEHIND shows a point: its camera stands at z = -1 and looks along z."""
    focal = 300 / math.tan(math.pi / 8)
    return 400 + focal * x / (z + 1), 300 + focal * y / (z + 1)


def test_the_plane_is_where_it_must_be_upright_and_not_mirrored() -> None:
    picture = draw_markers(added(markers()), BEHIND)
    for (column, row), colour in QUARTERS.items():
        u, v = window(-0.25 + 0.5 * column, -0.1875 + 0.375 * row, 1.0)
        shown = picture[round(v), round(u)].astype(float)
        assert np.abs(shown / shown.max() - np.array(colour) / 255).max() < 0.1
        assert shown.max() > 200  # the light falls on it
    left, top = window(-0.5, -0.375, 1.0)
    assert (picture[round(top) - 3, round(left) - 3] == 9).all()
    assert (picture[round(top) + 3, round(left) + 3] != 9).any()


def test_a_picture_that_faces_away_from_the_light_is_dark() -> None:
    (marker,) = (one for one in added(markers()) if one.ns == "picture" and one.scale.x == 1)
    for first in (0, 3):
        for listed in (marker.points, marker.uv_coordinates):
            listed[first], listed[first + 1] = listed[first + 1], listed[first]
    assert draw_markers([marker], BEHIND).max() <= 9, "no more than the background"


def test_lines_lie_on_the_pixels_that_they_mean() -> None:
    without = draw_markers(added(markers()), BEHIND)
    picture = draw_markers(added(markers(Box(100, 50, 200, 300))), BEHIND)
    rows, columns = np.nonzero((picture != without).any(axis=2))
    x, y = 100 / 640 - 0.5, 50 / 640 - 0.375
    left, top = window(x, y, 1.0)
    right, bottom = window(300 / 640 - 0.5, 350 / 640 - 0.375, 1.0)
    assert columns.min() == pytest.approx(left, abs=4)
    assert columns.max() == pytest.approx(right, abs=4)
    assert rows.min() == pytest.approx(top, abs=4)
    assert rows.max() == pytest.approx(bottom, abs=4)


def test_a_space_is_as_wide_as_a_space() -> None:
    """Left to RViz it is as wide as a letter a metre high, and words lie outside of the window."""
    array = PlaneMarkers().array("camera", plane(), encode_picture(PIXEL, 1, 50), text="a b")
    (text,) = (marker for marker in added(array) if marker.type == Marker.TEXT_VIEW_FACING)
    assert 0.2 * text.scale.z <= text.scale.x <= 0.6 * text.scale.z


def test_the_shipped_view_shows_the_whole_plane() -> None:
    view = view_from_rviz((ROOT / "config/tracker.rviz").read_text(), 800, 600)
    assert view.background == (48, 48, 48)
    matrix = view.matrix()
    for x, y, z in plane().corners():
        u, v, depth = matrix @ (x, y, z, 1.0)
        assert depth > 0
        assert 0 < u / depth < 800
        assert 0 < v / depth < 600


def test_large_pictures_are_shrunk() -> None:
    image = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    small = cv2.imdecode(np.frombuffer(encode_picture(image, 100, 80), np.uint8), 1)
    assert small.shape == (75, 100, 3)
