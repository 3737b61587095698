"""siamkd_ros.picture_plane: what is clicked on the plane is the pixel that was shown there."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from siamkd_core.box import Box
from siamkd_ros.camera_model import Camera
from siamkd_ros.picture_plane import Plane, box_between, inside
from siamkd_ros.rejected import Rejected

CAMERA = Camera(640, 480, 500.0, 400.0, 300.0, 250.0)
LENS = Camera(640, 480, 500.0, 400.0, 300.0, 250.0, "plumb_bob", (-0.3, 0.1, 0.0, 0.0, 0.0))


def test_corners_by_hand() -> None:
    left_top, right_top, right_bottom, left_bottom = Plane(CAMERA, 2.0).corners()
    left, right = 2 * (-0.5 - 300) / 500, 2 * (639.5 - 300) / 500
    top, bottom = 2 * (-0.5 - 250) / 400, 2 * (479.5 - 250) / 400
    assert left_top == pytest.approx((left, top, 2))
    assert right_top == pytest.approx((right, top, 2))
    assert right_bottom == pytest.approx((right, bottom, 2))
    assert left_bottom == pytest.approx((left, bottom, 2))


@given(
    u=st.floats(0, 640),
    v=st.floats(0, 480),
    distance=st.floats(0.01, 1000),
    camera=st.sampled_from([CAMERA, LENS]),
)
def test_there_and_back(u: float, v: float, distance: float, camera: Camera) -> None:
    plane = Plane(camera, distance)
    assert plane.pixel(plane.point((u, v))) == pytest.approx((u, v), abs=1e-6)
    # something else under the cursor, on the same ray
    x, y, z = plane.point((u, v), nearer=0.5)
    assert plane.pixel((x, y, z)) == pytest.approx((u, v), abs=1e-6)
    assert z == pytest.approx(distance / 2)


@pytest.mark.parametrize("point", [(0, 0, 0), (0, 0, -1), (math.nan, 0, 1), (0, math.inf, 1)])
def test_points_without_a_pixel(point: tuple[float, float, float]) -> None:
    with pytest.raises(Rejected) as refused:
        Plane(CAMERA, 1.0).pixel(point)
    assert refused.value.reason == "click"


def test_a_click_at_the_border_means_the_border() -> None:
    assert inside((640, 480), 640, 480) == (640, 480)  # rqt_image_view's last pixel
    assert inside((-20, 490), 640, 480) == (0, 480)
    for outside in ((-40, 10), (10, 520), (math.nan, 10)):
        with pytest.raises(Rejected, match="outside"):
            inside(outside, 640, 480)


def test_two_corners_in_any_order() -> None:
    for one, other in (((10, 20), (40, 80)), ((40, 80), (10, 20)), ((40, 20), (10, 80))):
        assert box_between(one, other) == Box(10, 20, 30, 60)
    with pytest.raises(Rejected) as refused:
        box_between((10, 20), (12, 80))
    assert refused.value.reason == "box_size"
