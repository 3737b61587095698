"""What an image is: uint8 (H, W, 3), BGR, as OpenCV reads it."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from siamkd_core.errors import ImageError

Image = NDArray[np.uint8]


def check_image(image: object) -> Image:
    """Return ``image`` if it is a BGR uint8 (H, W, 3) array with at least 2x2 pixels.

    Raises:
        ImageError: anything else, saying what it was.
    """
    if not isinstance(image, np.ndarray):
        raise ImageError(
            f"an image is a numpy array (H, W, 3) uint8 BGR; got {type(image).__name__}"
        )
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise ImageError(
            f"an image is (H, W, 3) uint8 BGR; got shape {image.shape}, dtype {image.dtype}"
        )
    if image.shape[0] < 2 or image.shape[1] < 2:
        raise ImageError(f"an image of {image.shape[1]}x{image.shape[0]} pixels is too small")
    return image


def read_image(path: str | Path) -> Image:
    """Read an image file as BGR uint8 (H, W, 3).

    Raises:
        ImageError: the file is missing or cannot be decoded.
    """
    # imread's own warning says less than the error below, and paths with non-ASCII names fail in it
    try:
        data = np.fromfile(path, np.uint8)
    except OSError as error:
        raise ImageError(f"cannot read the image {path}: {error.strerror or error}") from error
    image = cv2.imdecode(data, cv2.IMREAD_COLOR) if data.size else None
    if image is None:
        raise ImageError(f"cannot decode the image {path}: it is empty, truncated or not an image")
    return np.asarray(image, np.uint8)
