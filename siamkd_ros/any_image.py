"""An image message, raw or compressed: its size, and its pixels."""

from __future__ import annotations

from typing import Any

from siamkd_core.image import Image
from siamkd_ros.compressed_decode import check_compressed, decode_compressed
from siamkd_ros.image_decode import check, decode


def image_size(message: Any) -> tuple[int, int]:
    """(width, height) of a message of either type, all its fields checked, no pixel read.

    Raises:
        Rejected: as `image_decode.check` and `compressed_decode.check_compressed`.
    """
    if hasattr(message, "format"):
        return check_compressed(message)
    check(message)
    return message.width, message.height


def decode_image(message: Any) -> Image:
    """A message of either type as (H, W, 3) uint8 BGR.

    Raises:
        Rejected: as `image_size`, and for what cannot be decoded.
    """
    return decode_compressed(message) if hasattr(message, "format") else decode(message)
