"""siamkd_ros.camera_model: directions against formulas written out here, and what has none."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from siamkd_ros.camera_model import Camera, Uncalibrated, camera_from_info, nominal_camera

# 640x480; the principal point is the picture's very middle, which OpenCV calls 319.5, 239.5
K = [500.0, 0.0, 319.5, 0.0, 400.0, 239.5, 0.0, 0.0, 1.0]
P = [300.0, 0.0, 319.5, 0.0, 0.0, 300.0, 239.5, 0.0, 0.0, 0.0, 1.0, 0.0]


def info(**changes: Any) -> SimpleNamespace:
    fields: dict[str, Any] = {
        "width": 640,
        "height": 480,
        "k": K,
        "p": P,
        "d": [],
        "distortion_model": "",
        "binning_x": 0,
        "binning_y": 0,
        "roi": SimpleNamespace(x_offset=0, y_offset=0, width=0, height=0),
    }
    return SimpleNamespace(**fields | changes)


def plumb_bob(x: float, y: float, d: list[float]) -> tuple[float, float]:
    """Brown's model with k1, k2, p1, p2, k3, as sensor_msgs names it."""
    k1, k2, p1, p2, k3 = d
    r = x * x + y * y
    radial = 1 + k1 * r + k2 * r**2 + k3 * r**3
    return (
        x * radial + 2 * p1 * x * y + p2 * (r + 2 * x * x),
        y * radial + p1 * (r + 2 * y * y) + 2 * p2 * x * y,
    )


def rational(x: float, y: float, d: list[float]) -> tuple[float, float]:
    """The same with the radial part divided by 1 + k4 r^2 + k5 r^4 + k6 r^6."""
    r = x * x + y * y
    radial = 1 + d[0] * r + d[1] * r**2 + d[4] * r**3
    below = 1 + d[5] * r + d[6] * r**2 + d[7] * r**3
    tangential = plumb_bob(x, y, [0.0, 0.0, d[2], d[3], 0.0])
    return tangential[0] + x * (radial / below - 1), tangential[1] + y * (radial / below - 1)


def equidistant(x: float, y: float, d: list[float]) -> tuple[float, float]:
    """Kannala and Brandt's fisheye: the radius is a polynomial of the angle."""
    r = math.hypot(x, y)
    angle = math.atan(r)
    bent = angle * (1 + sum(k * angle ** (2 * n) for n, k in enumerate(d, 1)))
    return x * bent / r, y * bent / r


def unit(x: float, y: float) -> tuple[float, float, float]:
    length = math.sqrt(x * x + y * y + 1)
    return x / length, y / length, 1 / length


def test_rays_of_a_pinhole() -> None:
    camera = camera_from_info(info())
    assert camera.ray(320, 240) == pytest.approx((0, 0, 1))
    assert camera.ray(820, 240) == pytest.approx((math.sqrt(0.5), 0, math.sqrt(0.5)))
    x, y, z = camera.ray(0, 0)
    assert (x / z, y / z) == pytest.approx((-320 / 500, -240 / 400))
    assert math.hypot(x, y, z) == pytest.approx(1)


@pytest.mark.parametrize(
    ("model", "formula", "d"),
    [
        ("plumb_bob", plumb_bob, [-0.3, 0.1, 0.002, -0.001, -0.01]),
        ("rational_polynomial", rational, [0.2, 0.05, 0.001, 0.002, 0.01, 0.4, 0.1, 0.02]),
        ("equidistant", equidistant, [-0.02, 0.01, -0.003, 0.001]),
    ],
)
@pytest.mark.parametrize(("x", "y"), [(0.3, -0.2), (-0.5, 0.4), (0.01, 0.0)])
def test_rays_through_a_lens(model: str, formula: Any, d: list[float], x: float, y: float) -> None:
    camera = camera_from_info(info(d=d, distortion_model=model))
    bent_x, bent_y = formula(x, y, d)
    u, v = 500 * bent_x + 320, 400 * bent_y + 240
    assert camera.ray(u, v) == pytest.approx(unit(x, y), abs=1e-5)
    assert camera.pixel(2 * x, 2 * y, 2.0) == pytest.approx((u, v), abs=1e-6)


def test_rectified_images_have_p_and_no_distortion() -> None:
    camera = camera_from_info(info(d=[-0.3, 0.1, 0, 0, 0], distortion_model="plumb_bob"), True)
    x, _, z = camera.ray(620, 240)
    assert x / z == pytest.approx(1.0)


@given(u=st.floats(0, 640), v=st.floats(0, 480), factor=st.sampled_from([0.25, 0.5, 1.5, 3.0]))
def test_a_resized_image_sees_the_same_directions(u: float, v: float, factor: float) -> None:
    camera = camera_from_info(info())
    resized = camera.scaled(round(640 * factor), round(480 * factor))
    assert resized.ray(u * factor, v * factor) == pytest.approx(camera.ray(u, v))


def test_binning_and_region_of_interest_see_the_same_directions() -> None:
    whole = camera_from_info(info())
    part = SimpleNamespace(x_offset=100, y_offset=40, width=400, height=300)
    camera = camera_from_info(info(roi=part, binning_x=2, binning_y=2))
    assert (camera.width, camera.height) == (200, 150)
    assert camera.ray(30, 70) == pytest.approx(whole.ray(100 + 60, 40 + 140))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"k": [0.0] * 9}, "not calibrated"),
        ({"k": [math.nan, *K[1:]]}, "nan"),
        ({"width": 0}, "0x480"),
        ({"d": [0.1], "distortion_model": "plumb_bob"}, "'plumb_bob' with 1 coefficients"),
        ({"d": [0.1] * 5, "distortion_model": "thin_prism"}, "'thin_prism'"),
        ({"d": [math.inf] * 5, "distortion_model": "plumb_bob"}, "not finite"),
    ],
)
def test_what_is_missing_is_said(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(Uncalibrated, match=says):
        camera_from_info(info(**changes))


def test_another_shape_is_another_view() -> None:
    with pytest.raises(Uncalibrated, match="another shape"):
        camera_from_info(info()).scaled(640, 360)


def test_a_pixel_beyond_what_the_lens_model_describes_has_no_ray() -> None:
    # this radial polynomial turns back at r = 1.05: nothing appears further out than r = 0.7
    camera = camera_from_info(info(d=[-0.3, 0, 0, 0, 0], distortion_model="plumb_bob"))
    with pytest.raises(Uncalibrated):
        camera.ray(5000, 240)


def test_the_nominal_camera_looks_straight_at_the_middle() -> None:
    camera = nominal_camera(320, 200)
    assert camera == Camera(320, 200, 320.0, 320.0, 159.5, 99.5)
    assert camera.ray(160, 100) == (0, 0, 1)
