"""sensor_msgs/CompressedImage to a BGR array, trusting nothing in the message.

JPEG and PNG, told by the data itself: `format` is free text that drivers fill in many ways. The
size is read from the header first, so a few bytes cannot claim gigabytes of memory.
"""

from __future__ import annotations

import io
from typing import Any, Protocol

import cv2
import numpy as np
from PIL import Image as Pillow

from siamkd_core.image import Image
from siamkd_ros.image_decode import MIN_SIDE
from siamkd_ros.rejected import Rejected

JPEG, PNG = b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n"
JPEG_END, PNG_END = b"\xff\xd9", b"IEND"
# More than any camera's; a decoder may be made to allocate 0.2 GB.
MAX_PIXELS = 1 << 26
# The header is looked for in so many bytes first; the end, in the last ones before the padding.
HEAD, TAIL = 1 << 16, 1 << 10
STEP = 1 << 12
PADDING = bytes(STEP), b"\xff" * STEP


class CompressedMessage(Protocol):
    """The fields of sensor_msgs/CompressedImage that are read."""

    format: str
    data: Any


def check_compressed(message: CompressedMessage) -> tuple[int, int]:
    """Check a message without decoding a pixel.

    Returns:
        (width, height), pixels.

    Raises:
        Rejected: reason `encoding`, `truncated`, `zero_size`, `too_small` or `too_large`.
    """
    data = memoryview(message.data)
    if "compressedDepth" in message.format:
        raise Rejected("encoding", "a compressedDepth image holds distances, not colours")
    start = bytes(data[: len(PNG)])
    if not start.startswith((JPEG, PNG)):
        raise Rejected(
            "encoding",
            f"a compressed image of format {message.format[:32]!r} is neither JPEG nor PNG",
        )
    # a decoder fills the rest of a picture that was cut off with grey, and says nothing
    end = JPEG_END if start.startswith(JPEG) else PNG_END
    if end not in bytes(_without_padding(data)[-TAIL:]):
        raise Rejected("truncated", f"a compressed image of {len(data)} bytes has no end")
    try:
        width, height = _size(data[:HEAD])
    except Rejected:
        if len(data) <= HEAD:
            raise
        width, height = _size(data)
    if width < 1 or height < 1:
        raise Rejected("zero_size", f"an image of {width}x{height} pixels holds nothing")
    if width < MIN_SIDE or height < MIN_SIDE:
        raise Rejected("too_small", f"an image of {width}x{height} pixels is too small to track in")
    if width * height > MAX_PIXELS:
        raise Rejected("too_large", f"a compressed image claims {width}x{height} pixels")
    return width, height


def decode_compressed(message: CompressedMessage) -> Image:
    """Return the picture as (H, W, 3) uint8 BGR; grey becomes BGR, an alpha channel is dropped.

    The camera's pixels are what boxes are given in, so an EXIF rotation is not applied.

    Raises:
        Rejected: as `check_compressed`, and `encoding` for what cannot be decoded.
    """
    width, height = check_compressed(message)
    buffer = np.frombuffer(message.data, np.uint8)
    try:
        image = cv2.imdecode(buffer, cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    except cv2.error as error:
        raise Rejected("encoding", f"a compressed image cannot be decoded: {error}") from error
    if image is None or image.shape != (height, width, 3):
        raise Rejected("encoding", f"a compressed image of {width}x{height} cannot be decoded")
    return np.asarray(image, np.uint8)


def _without_padding(data: memoryview) -> memoryview:
    """The data without what some cameras fill their buffers up with: zeros, or all bits set."""
    end = len(data)
    while end:
        tail = bytes(data[max(end - STEP, 0) : end])
        content = b"" if tail in PADDING else tail.rstrip(b"\0\xff")
        end -= len(tail) - len(content)
        if content:
            break
    return data[:end]


def _size(data: memoryview) -> tuple[int, int]:
    """(width, height) by the header."""
    try:
        with Pillow.open(io.BytesIO(data), formats=("JPEG", "PNG")) as opened:
            return opened.size
    except Pillow.DecompressionBombError as error:
        raise Rejected("too_large", f"a compressed image: {error}") from error
    except Exception as error:  # Pillow lets its parsers' own errors through
        raise Rejected("encoding", f"a compressed image cannot be read: {error}") from error
