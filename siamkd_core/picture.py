"""A picture as a file: the name is checked before the work, the file is written whole or not."""

from __future__ import annotations

from pathlib import Path

import cv2

from siamkd_core.errors import ConfigError, SiamkdError
from siamkd_core.image import Image
from siamkd_core.modelfile import write_atomically


def picture_path(output: str) -> Path:
    """The path ``output``.

    Raises:
        ConfigError: it does not end in .png or .jpg.
    """
    path = Path(output)
    if path.suffix not in (".png", ".jpg"):
        raise ConfigError(f"--output must end in .png or .jpg, got {output}")
    return path


def write_picture(path: Path, image: Image) -> None:
    """Write an image (H, W, 3) uint8 BGR; makes the folder.

    Raises:
        SiamkdError: it cannot be written.
    """
    _, data = cv2.imencode(path.suffix, image)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, data.tobytes())
    except OSError as error:
        raise SiamkdError(f"cannot write {path}: {error.strerror or error}") from error
