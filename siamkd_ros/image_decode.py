"""sensor_msgs/Image to a BGR array, trusting nothing in the message.

A message's height, width, step, encoding and data are independent fields that any publisher on the
network may fill at will. Everything is checked against everything before a pixel is read.
"""

from __future__ import annotations

import copy
import re
import sys
from functools import cache
from typing import Any, Protocol

import cv2
import numpy as np

from siamkd_core.image import Image
from siamkd_ros.rejected import Rejected

# Bytes per pixel of what is decoded here, and the conversion to BGR (None: it already is).
OWN: dict[str, tuple[int, int | None]] = {
    "bgr8": (3, None),
    "rgb8": (3, cv2.COLOR_RGB2BGR),
    "bgra8": (4, cv2.COLOR_BGRA2BGR),
    "rgba8": (4, cv2.COLOR_RGBA2BGR),
    "mono8": (1, cv2.COLOR_GRAY2BGR),
    # what OpenCV calls them without saying the colours; its order is BGR
    "8UC3": (3, None),
    "8UC4": (4, cv2.COLOR_BGRA2BGR),
    "8UC1": (1, cv2.COLOR_GRAY2BGR),
}
# (bytes per channel, channels) of what cv_bridge is asked to turn into bgr8.
BRIDGED: dict[str, tuple[int, int]] = {
    "mono16": (2, 1),
    "bgr16": (2, 3),
    "rgb16": (2, 3),
    "bgra16": (2, 4),
    "rgba16": (2, 4),
    "yuv422": (1, 2),
    "yuv422_yuy2": (1, 2),
    "uyvy": (1, 2),
    "yuyv": (1, 2),
    **{
        f"bayer_{order}{bits}": (bits // 8, 1)
        for order in ("rggb", "bggr", "gbrg", "grbg")
        for bits in (8, 16)
    },
}
# Plain numbers (depth, disparity, ...): no picture, and cv_bridge turns none of them into one.
NUMBERS = re.compile(r"(8|16|32|64)[USF]C([1-9][0-9]?)?")
MIN_SIDE = 2


class ImageMessage(Protocol):
    """The fields of sensor_msgs/Image that are read."""

    height: int
    width: int
    encoding: str
    is_bigendian: int
    step: int
    data: Any


def check(message: ImageMessage) -> int:
    """Check a message's fields against each other without reading a pixel.

    Returns:
        bytes per pixel.

    Raises:
        Rejected: reason `zero_size`, `too_small`, `encoding`, `big_endian`, `step` or `length`.
    """
    height, width, step = message.height, message.width, message.step
    if height < 1 or width < 1:
        raise Rejected("zero_size", f"an image of {width}x{height} pixels holds nothing")
    if height < MIN_SIDE or width < MIN_SIDE:
        raise Rejected("too_small", f"an image of {width}x{height} pixels is too small to track in")
    pixel, deep = _pixel_bytes(message.encoding)
    if deep and bool(message.is_bigendian) != (sys.byteorder == "big"):
        raise Rejected(
            "big_endian",
            f"encoding {message.encoding!r} in the other byte order is not supported: "
            "publish in this machine's order",
        )
    if step < width * pixel:
        raise Rejected(
            "step",
            f"step {step} is under the {width * pixel} bytes that a row of {width} pixels in "
            f"{message.encoding!r} takes",
        )
    length = len(message.data)
    if length != step * height:
        raise Rejected(
            "length",
            f"{length} bytes of data, but step {step} x height {height} is {step * height}",
        )
    return pixel


def decode(message: ImageMessage) -> Image:
    """Return the picture as (H, W, 3) uint8 BGR.

    `bgr8` is a view into the message's own buffer, with its row padding skipped: no byte is copied,
    and the view keeps the buffer alive. The other encodings take one vectorised conversion.

    Raises:
        Rejected: as `check`, and `encoding` where cv_bridge is needed and missing or refuses.
    """
    pixel = check(message)
    if message.encoding not in OWN:
        return _decode_with_cv_bridge(message, pixel)
    conversion = OWN[message.encoding][1]
    view: Image = np.ndarray(
        (message.height, message.width, pixel),
        np.uint8,
        message.data,
        strides=(message.step, pixel, 1),
    )
    return view if conversion is None else np.asarray(cv2.cvtColor(view, conversion), np.uint8)


def _pixel_bytes(encoding: str) -> tuple[int, bool]:
    """Bytes per pixel, and whether a channel has more than one byte."""
    if encoding in OWN:
        return OWN[encoding][0], False
    if encoding not in BRIDGED:
        what = "holds numbers, not colours" if NUMBERS.fullmatch(encoding) else "is not known"
        raise Rejected(
            "encoding", f"encoding {encoding[:32]!r} {what}: publish one of {', '.join(OWN)}"
        )
    bridge = _cv_bridge()
    if isinstance(bridge, str):
        raise Rejected(
            "encoding",
            f"encoding {encoding!r} needs cv_bridge, which cannot be imported ({bridge}): install "
            f"ros-<distro>-cv-bridge, or publish one of {', '.join(OWN)}",
        )
    depth, channels = BRIDGED[encoding]
    return depth * channels, depth > 1


@cache
def _cv_bridge() -> Any:
    """A CvBridge, or why there is none, in words."""
    try:
        from cv_bridge import CvBridge

        return CvBridge()
    except Exception as error:  # built for another numpy, it raises more than ImportError
        return f"{type(error).__name__}: {error}"


def _decode_with_cv_bridge(message: ImageMessage, pixel: int) -> Image:
    # cv_bridge's Python path shears or narrows an image with padded rows: it only sees tight ones
    row = message.width * pixel
    if message.step != row:
        padded: Image = np.ndarray(
            (message.height, row), np.uint8, message.data, strides=(message.step, 1)
        )
        message = copy.copy(message)
        message.data, message.step = padded.tobytes(), row
    try:
        image = _cv_bridge().imgmsg_to_cv2(message, desired_encoding="bgr8")
    except Exception as error:  # cv_bridge lets cv2.error, TypeError and its own class through
        raise Rejected(
            "encoding", f"cv_bridge cannot turn {message.encoding!r} into bgr8: {error}"
        ) from error
    return np.asarray(image, np.uint8)
