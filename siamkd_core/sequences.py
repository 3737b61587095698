"""Sequence folders and annotated stills: what is on disk, without reading a pixel."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence as Seq
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from siamkd_core.box import FloatArray
from siamkd_core.errors import DataError
from siamkd_core.layout import holdings

IMAGE_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff"}


@dataclass(frozen=True)
class Sequence:
    """One target in one video.

    Attributes:
        name: the folder's name, with ``_N`` for the target of ``groundtruth_N.txt``.
        frames: paths of the images in order; a tuple, or made when asked for
            (`siamkd_core.datasets.frames.Frames`).
        boxes: (len(frames), 4) float64 xywh, pixels, 0-based; a nan row: target absent.
    """

    name: str
    frames: Seq[Path]
    boxes: FloatArray


@dataclass(frozen=True)
class Still:
    """One image with boxes (N, 4) float64 xywh, pixels, 0-based; N = 0 where nobody drew any."""

    path: Path
    boxes: FloatArray


def is_sequence_folder(folder: Path) -> bool:
    return (folder / "img").is_dir() and (folder / "groundtruth.txt").is_file()


def read_sequence(folder: str | Path, annotation: str = "groundtruth.txt") -> Sequence:
    """Read one target of a folder ``img/*.jpg`` + ``groundtruth.txt`` (a box a line, x,y,w,h).

    Raises:
        DataError: no such layout, a line that is not four numbers, or another number of lines
            than images.
    """
    folder = Path(folder)
    file = folder / annotation
    if not (folder / "img").is_dir() or not file.is_file():
        raise DataError(f"{folder} is no sequence folder: {_layout(folder)}")
    frames = tuple(list_images(folder / "img"))
    boxes = read_boxes(file)
    if len(frames) != len(boxes):
        raise DataError(
            f"{file} has {len(boxes)} lines but {folder / 'img'} has {len(frames)} images; "
            "every frame needs one line x,y,w,h (nan,nan,nan,nan where the target is absent)"
        )
    suffix = file.stem.removeprefix("groundtruth")
    return Sequence(folder.name + suffix, frames, boxes)


def read_sequences(root: str | Path) -> list[Sequence]:
    """Every target of every sequence folder in ``root`` (or of ``root`` itself), by name.

    Raises:
        DataError: no sequence folder there, or a broken one.
    """
    root = Path(root)
    folders = [root] if is_sequence_folder(root) else []
    if root.is_dir() and not folders:
        folders = [p for p in sorted(root.iterdir()) if is_sequence_folder(p)]
    if not folders:
        raise DataError(f"no sequence folder in {root}: {_layout(root)}")
    found = []
    for folder in folders:
        found.append(read_sequence(folder))
        for file in folder.glob("groundtruth_*.txt"):
            found.append(read_sequence(folder, file.name))
    return sorted(found, key=lambda s: s.name)


def read_boxes(file: str | Path) -> FloatArray:
    """(N, 4) float64 from a text file, a box a line, separated by commas, spaces or tabs.

    Raises:
        DataError: the file is missing or a line is not four numbers.
    """
    rows = []
    try:
        lines = Path(file).read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise DataError(f"cannot read the boxes {file}: {error.strerror}") from error
    while lines and not lines[-1].strip():
        lines.pop()
    for number, line in enumerate(lines, 1):
        try:
            row = [float(v) for v in line.replace(",", " ").split()]
        except ValueError:
            row = []
        if len(row) != 4:
            raise DataError(f"{file}, line {number}: expected x,y,w,h, got {line!r}")
        rows.append(row)
    return np.array(rows, float).reshape(-1, 4)


def read_stills(folder: str | Path) -> list[Still]:
    """Read ``boxes.jsonl``: a line ``{"file": ..., "boxes": [[x, y, w, h], ...]}`` an image.

    Raises:
        DataError: no such file, or a line without these keys.
    """
    file = Path(folder) / "boxes.jsonl"
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise DataError(f"{folder} holds no annotated stills: {error.strerror} ({file})") from error
    stills = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
            boxes = np.array(record["boxes"], float).reshape(-1, 4)
            path = file.parent / record["file"]
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(
                f'{file}, line {number}: expected {{"file": ..., "boxes": [[x,y,w,h], ...]}}, '
                f"got {line[:80]!r}"
            ) from error
        if len(boxes):
            stills.append(Still(path, boxes))
    return stills


def read_photographs(folder: str | Path) -> list[Still]:
    """The images of a folder, without boxes."""
    return [Still(path, np.empty((0, 4))) for path in list_images(Path(folder))]


def list_images(folder: Path) -> list[Path]:
    """Image files of a folder by suffix, in natural order; hidden files are left out."""
    found = (
        path
        for path in folder.iterdir()
        if path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")
    )
    return sorted(found, key=lambda path: natural_key(path.name))


def natural_key(text: str) -> list[tuple[int, int, str]]:
    """Sort key that orders runs of digits by value: `img2` before `img10`."""
    parts = re.findall(r"[0-9]+|[^0-9]+", text)
    return [(0, int(part), part) if part[0] in "0123456789" else (1, 0, part) for part in parts]


def _layout(folder: Path) -> str:
    expected = "expected <name>/img/*.jpg and <name>/groundtruth.txt (x,y,w,h a line)"
    return f"{expected}; {holdings(folder)}"
