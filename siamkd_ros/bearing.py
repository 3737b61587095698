"""The direction of the target: from a box and camera_info to a unit ray."""

from __future__ import annotations

from typing import Any

from siamkd_core.box import Box
from siamkd_ros.camera_model import Camera, Uncalibrated, camera_from_info

NO_RAY = (0.0, 0.0, 0.0)


class Bearing:
    """Keeps the camera, never waits for one: camera_info is not synchronised with the images.

    `info` may be called from another thread than `ray`.

    Attributes:
        note: why the last ray was none; empty if it was one.
    """

    def __init__(self, rectified: bool, topic: str) -> None:
        self._rectified = rectified
        self._topic = topic
        self._info: Any = None
        self._made: tuple[Any, Camera] | None = None  # the info that the camera is of, too
        self.note = ""

    def info(self, message: Any) -> None:
        """Take a sensor_msgs/CameraInfo."""
        # a camera says the same thing with every image
        if self._info is not None and _same(message, self._info):
            return
        self._info = message

    def ray(self, box: Box, width: int, height: int) -> tuple[float, float, float]:
        """The unit vector in the optical frame (REP 103) to the box's centre, or NO_RAY.

        Args:
            width, height: of the image that the box is in, pixels.
        """
        try:
            camera = self._of(width, height)
            self.note = ""
            return camera.ray(box.cx, box.cy)
        except Uncalibrated as error:
            self.note = str(error)
            return NO_RAY

    def _of(self, width: int, height: int) -> Camera:
        info, made = self._info, self._made
        if info is None:
            raise Uncalibrated(f"no camera_info came on {self._topic}")
        if made is not None:
            of, camera = made
            if of is info and (camera.width, camera.height) == (width, height):
                return camera
        camera = camera_from_info(info, self._rectified).scaled(width, height)
        self._made = info, camera
        return camera


def _same(one: Any, other: Any) -> bool:
    names = ("width", "height", "distortion_model", "d", "k", "p", "binning_x", "binning_y", "roi")
    return all(_equal(getattr(one, name), getattr(other, name)) for name in names)


def _equal(one: Any, other: Any) -> bool:
    sequence = hasattr(one, "__len__") and not isinstance(one, str)
    return list(one) == list(other) if sequence else bool(one == other)
