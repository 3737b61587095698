"""What sensor_msgs/CameraInfo says about directions: pixel to ray, ray to pixel.

Pixels are this package's (`siamkd_core.box`): the first pixel spans 0 to 1. OpenCV and ROS put its
*centre* at 0, so half a pixel lies between the two. Rays are in the optical frame of REP 103: x to
the right, y down, z forward.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from siamkd_core.errors import SiamkdError

# Number of coefficients that each model may have; the names are those of sensor_msgs.
MODELS = {"plumb_bob": (4, 5), "rational_polynomial": (8,), "equidistant": (4,)}
SAME_ASPECT = 0.01
# Far outside, the distortion polynomial has no inverse, and the iteration ends anywhere.
MAX_ERROR = 1.0


class Uncalibrated(SiamkdError):
    """No direction can be computed; the message says what is missing."""


@dataclass(frozen=True)
class Camera:
    """A pinhole camera with lens distortion.

    Attributes:
        width, height: of the images it describes, pixels.
        fx, fy, cx, cy: focal lengths and principal point in pixels, the latter with pixel centres
            at whole numbers.
        model: a key of MODELS, or empty for no distortion.
        coefficients: of that model, as in sensor_msgs/CameraInfo.d.
    """

    width: int
    height: int
    fx: float
    fy: float
    cx: float
    cy: float
    model: str = ""
    coefficients: tuple[float, ...] = ()

    @property
    def matrix(self) -> NDArray[np.float64]:
        """(3, 3) float64, OpenCV's camera matrix."""
        return np.array([[self.fx, 0, self.cx], [0, self.fy, self.cy], [0, 0, 1]], np.float64)

    def scaled(self, width: int, height: int) -> Camera:
        """The same camera with its images resized to `width` x `height` pixels.

        Raises:
            Uncalibrated: these have another shape, so they are not the same view.
        """
        sx, sy = width / self.width, height / self.height
        if abs(sx / sy - 1) > SAME_ASPECT:
            raise Uncalibrated(
                f"camera_info describes images of {self.width}x{self.height} pixels, and these "
                f"of {width}x{height} have another shape"
            )
        return replace(
            self,
            width=width,
            height=height,
            fx=self.fx * sx,
            fy=self.fy * sy,
            cx=(self.cx + 0.5) * sx - 0.5,
            cy=(self.cy + 0.5) * sy - 0.5,
        )

    def ray(self, u: float, v: float) -> tuple[float, float, float]:
        """The unit vector towards pixel (u, v).

        Raises:
            Uncalibrated: the lens model has no direction for this pixel.
        """
        pixel = np.array([[[u - 0.5, v - 0.5]]], np.float64)
        d = np.array(self.coefficients, np.float64)
        if not self.model:
            x, y = (pixel[0, 0] - (self.cx, self.cy)) / (self.fx, self.fy)
        elif self.model == "equidistant":
            x, y = cv2.fisheye.undistortPoints(pixel, self.matrix, d)[0, 0]
        else:
            x, y = cv2.undistortPoints(pixel, self.matrix, d)[0, 0]
        if not math.isfinite(x) or not math.isfinite(y):
            raise Uncalibrated(f"the lens model {self.model} has no ray for pixel {u:.0f}, {v:.0f}")
        length = math.hypot(x, y, 1.0)
        found = (float(x / length), float(y / length), float(1 / length))
        if self.model:
            back = self.pixel(*found)
            if not math.hypot(back[0] - u, back[1] - v) <= MAX_ERROR:
                raise Uncalibrated(
                    f"pixel {u:.0f}, {v:.0f} is outside what the lens model {self.model} describes"
                )
        return found

    def pixel(self, x: float, y: float, z: float) -> tuple[float, float]:
        """Where a point of the optical frame appears; z > 0, any unit of length."""
        point = np.array([[[x, y, z]]], np.float64)
        zero = np.zeros(3)
        d = np.array(self.coefficients, np.float64)
        if self.model == "equidistant":
            found = cv2.fisheye.projectPoints(point, zero, zero, self.matrix, d)[0]
        else:
            found = cv2.projectPoints(point, zero, zero, self.matrix, d if self.model else None)[0]
        u, v = np.reshape(found, 2)
        return float(u) + 0.5, float(v) + 0.5


def camera_from_info(info: Any, rectified: bool = False) -> Camera:
    """The camera that a sensor_msgs/CameraInfo describes.

    Binning and region of interest are taken into account (REP 104: K is that of the whole sensor).

    Args:
        rectified: the images were undistorted with this very camera_info: P holds, no distortion.

    Raises:
        Uncalibrated: K[0] is 0, which by the message's definition means uncalibrated; a value is
            not finite; or the lens model is not known.
    """
    fx, cx, fy, cy = _intrinsics(info, rectified)
    width, height = int(info.width), int(info.height)
    if width < 1 or height < 1:
        raise Uncalibrated(f"camera_info describes images of {width}x{height} pixels")
    bin_x, bin_y = max(int(info.binning_x), 1), max(int(info.binning_y), 1)
    if info.roi.width and info.roi.height:
        cx, cy = cx - info.roi.x_offset, cy - info.roi.y_offset
        width, height = int(info.roi.width), int(info.roi.height)
    camera = Camera(width, height, fx, fy, cx, cy, *_distortion(info, rectified))
    return replace(
        camera,
        width=max(width // bin_x, 1),
        height=max(height // bin_y, 1),
        fx=fx / bin_x,
        fy=fy / bin_y,
        cx=(cx + 0.5) / bin_x - 0.5,
        cy=(cy + 0.5) / bin_y - 0.5,
    )


def nominal_camera(width: int, height: int) -> Camera:
    """A camera for showing a picture where none is known: as far away as the picture is wide."""
    return Camera(width, height, float(width), float(width), width / 2 - 0.5, height / 2 - 0.5)


def _intrinsics(info: Any, rectified: bool) -> tuple[float, float, float, float]:
    k = info.p if rectified else info.k
    columns = 4 if rectified else 3
    fx, cx, fy, cy = (float(k[n]) for n in (0, 2, columns + 1, columns + 2))
    if fx == 0 or fy == 0:
        raise Uncalibrated(
            f"camera_info is not calibrated ({'P' if rectified else 'K'}[0] is 0): calibrate the "
            "camera (ros2 run camera_calibration cameracalibrator)"
        )
    if not all(math.isfinite(value) for value in (fx, fy, cx, cy)) or fx < 0 or fy < 0:
        raise Uncalibrated(f"camera_info has focal lengths {fx:g}, {fy:g}, centre {cx:g}, {cy:g}")
    return fx, cx, fy, cy


def _distortion(info: Any, rectified: bool) -> tuple[str, tuple[float, ...]]:
    d = tuple(float(value) for value in info.d)
    if rectified or not any(d):
        return "", ()
    name = str(info.distortion_model)
    if len(d) not in MODELS.get(name, ()):
        raise Uncalibrated(
            f"camera_info's distortion model {name[:32]!r} with {len(d)} coefficients is unknown: "
            f"it must be one of {', '.join(MODELS)}, or the images rectified"
        )
    if not all(math.isfinite(value) for value in d):
        raise Uncalibrated("camera_info has a distortion coefficient that is not finite")
    return name, d
