"""A camera's picture as a plane in its optical frame, and clicks on that plane as pixels.

The plane is drawn through the pinhole alone, without lens distortion: a picture on a plane is flat.
What is clicked is projected the same way back, so a pixel comes out as it went in.

Pixels: the first spans 0 to 1 (`siamkd_core.box`). Points: metres in the optical frame (REP 103:
x right, y down, z forward).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from siamkd_core.box import Box
from siamkd_ros.camera_model import Camera
from siamkd_ros.rejected import Rejected

Pixel = tuple[float, float]
Point = tuple[float, float, float]

# A click this far outside, as a share of the picture's side, still means its border.
MARGIN = 0.05
SMALLEST = 4.0
"""Pixels; two clicks nearer than this are one click made twice."""


@dataclass(frozen=True)
class Plane:
    """The picture of `camera`, `distance` metres before it, whatever its lens."""

    camera: Camera
    distance: float

    def point(self, pixel: Pixel, nearer: float = 0.0) -> Point:
        """Where a pixel lies on the plane; `nearer` as a share of the distance."""
        camera, z = self.camera, self.distance * (1 - nearer)
        x = (pixel[0] - 0.5 - camera.cx) / camera.fx
        y = (pixel[1] - 0.5 - camera.cy) / camera.fy
        return (x * z, y * z, z)

    def corners(self) -> tuple[Point, Point, Point, Point]:
        """Of the whole picture: left top, right top, right bottom, left bottom."""
        width, height = float(self.camera.width), float(self.camera.height)
        left_top, right_top = self.point((0.0, 0.0)), self.point((width, 0.0))
        return left_top, right_top, self.point((width, height)), self.point((0.0, height))

    def pixel(self, point: Point) -> Pixel:
        """The pixel behind a point of the optical frame, on the plane or not.

        Raises:
            Rejected: `click`: not finite, or not before the camera.
        """
        x, y, z = point
        if not all(math.isfinite(value) for value in point):
            raise Rejected("click", f"the clicked point {x:g}, {y:g}, {z:g} is not finite")
        if z <= 0:
            raise Rejected(
                "click", f"the clicked point {x:.2f}, {y:.2f}, {z:.2f} is not before the camera"
            )
        flat = replace(self.camera, model="", coefficients=())
        return flat.pixel(x, y, z)


def inside(pixel: Pixel, width: int, height: int) -> Pixel:
    """A pixel of the picture, pulled to its border from just outside.

    Raises:
        Rejected: `click`: not finite or outside by more than MARGIN.
    """
    u, v = pixel
    far_u, far_v = MARGIN * width, MARGIN * height
    # written so that nan fails too
    if not (-far_u <= u <= width + far_u and -far_v <= v <= height + far_v):
        raise Rejected(
            "click", f"the click at pixel {u:.0f}, {v:.0f} is outside the {width}x{height} picture"
        )
    return min(max(u, 0.0), float(width)), min(max(v, 0.0), float(height))


def box_between(one: Pixel, other: Pixel) -> Box:
    """The box with these two opposite corners, in any order.

    Raises:
        Rejected: `box_size`: too narrow or low to be meant.
    """
    (left, right), (top, bottom) = sorted((one[0], other[0])), sorted((one[1], other[1]))
    width, height = right - left, bottom - top
    if width < SMALLEST or height < SMALLEST:
        raise Rejected(
            "box_size",
            f"the two corners span {width:.1f}x{height:.1f} pixels: click opposite corners of the "
            "target",
        )
    return Box(left, top, width, height)
