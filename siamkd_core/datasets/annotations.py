"""What the annotation files of several datasets have in common."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from siamkd_core.box import BoolArray, FloatArray, present
from siamkd_core.errors import DataError


def from_one_based(boxes: FloatArray) -> FloatArray:
    """Boxes whose x, y count pixels from 1 (MATLAB) in our convention: (N, 4) xywh, 0-based edges.

    The first pixel is 1 there and spans [0, 1) here, so x and y lose 1; w and h stay.
    """
    shifted: FloatArray = boxes - np.array([1.0, 1.0, 0.0, 0.0])
    return shifted


def without_absent(boxes: FloatArray, absent: BoolArray | None = None) -> FloatArray:
    """A copy whose rows are nan where ``absent`` (N,) says so, and where a side is not positive."""
    gone = ~present(boxes)
    if absent is not None:
        gone |= absent
    return np.where(gone[:, None], np.nan, boxes)


def read_flags(file: Path, count: int) -> FloatArray:
    """(count,) float64 numbers, one a frame, separated by commas, spaces or line ends.

    Raises:
        DataError: the file is missing, has something else in it, or another number of numbers.
    """
    words = read_text(file).replace(",", " ").split()
    try:
        flags = np.array(words, dtype=np.float64)
    except ValueError as error:
        raise DataError(f"{file}: expected a number for each frame; {error}") from error
    if len(flags) != count:
        raise DataError(f"{file} has {len(flags)} flags, but there are {count} boxes")
    return flags


def read_names(file: Path) -> list[str]:
    """The lines of a list of sequences, without empty ones."""
    return [line.strip() for line in read_text(file).splitlines() if line.strip()]


def read_text(file: Path) -> str:
    """The text of a file.

    Raises:
        DataError: it cannot be read.
    """
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot read {file}: {error}") from error
