"""VOT short-term and long-term challenges, RGB, one target (Kristan et al., votchallenge.net).

    list.txt                            names of the sequences
    <sequence>/groundtruth.txt          a region a line
    <sequence>/00000001.jpg ...         VOT2013 to VOT2017
    <sequence>/sequence                 channels.color=color/%08d.jpg      from VOT2018 on
    <sequence>/color/00000001.jpg ...

A region is a rectangle x,y,w,h; a polygon x0,y0,x1,y1,...; or a mask m<x>,<y>,<w>,<h>,<runs> (from
VOT2020 on). Coordinates are read as they are, 0-based, as the VOT toolkit does.

A polygon becomes the axis-aligned box around the mean of its corners that has the polygon's area
and the aspect ratio of the box enclosing it: what pysot and the got10k toolkit give their trackers
(they add 1 to w and h, which counts pixels; our boxes have edges). The enclosing box would be far
larger than a rotated target. A mask becomes the box that encloses it, which the line begins with.

nan, one number (a code for "not annotated"), and regions without area: the target is absent. The
`.tag` and `.label` files (occlusion, motion change ...) describe the frame; boxes stay.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from siamkd_core.box import FloatArray
from siamkd_core.datasets.annotations import read_names, read_text, without_absent
from siamkd_core.datasets.frames import Frames, leave_out_missing
from siamkd_core.errors import DataError
from siamkd_core.layout import require, wrong_layout
from siamkd_core.sequences import Sequence

NAME = "VOT"
EXPECTED = (
    "list.txt, <sequence>/groundtruth.txt and <sequence>/00000001.jpg, ... or "
    "<sequence>/{sequence, color/00000001.jpg, ...}"
)


def read_vot(root: Path, split: str = "") -> list[Sequence]:
    """The sequences of list.txt, or without one every folder with a groundtruth.txt.

    Raises:
        DataError: another layout, a listed sequence that is not there, or a broken region.
    """
    names = sorted(file.parent.name for file in root.glob("*/groundtruth.txt"))
    if (root / "list.txt").is_file():
        names = read_names(root / "list.txt")
    if not names:
        raise wrong_layout(root, NAME, EXPECTED, root / "<sequence>" / "groundtruth.txt")
    return leave_out_missing(_sequences(root, names), NAME)


def region_box(line: str) -> tuple[float, float, float, float]:
    """xywh of one line of a groundtruth.txt; nan if it annotates no target.

    Raises:
        ValueError: it is none of the forms above.
    """
    mask = line.startswith("m")
    values = np.array(line.removeprefix("m").split(","), dtype=np.float64)
    if len(values) == 1:
        return (np.nan,) * 4
    if mask or len(values) == 4:
        x, y, w, h = values[:4].tolist()
        return (x, y, w, h)
    if len(values) < 6 or len(values) % 2:
        raise ValueError(f"{len(values)} numbers are no rectangle and no polygon")
    return _polygon_box(values.reshape(-1, 2))


def _polygon_box(corners: FloatArray) -> tuple[float, float, float, float]:
    x, y = corners.T
    area = 0.5 * abs(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1)))  # shoelace formula
    width, height = np.ptp(x), np.ptp(y)
    scale = np.sqrt(area / (width * height)) if width * height > 0 else np.nan
    w, h = float(scale * width), float(scale * height)
    return (float(x.mean()) - w / 2, float(y.mean()) - h / 2, w, h)


def _sequences(root: Path, names: list[str]) -> Iterator[Sequence]:
    for name in names:
        folder = root / name
        file = require(folder / "groundtruth.txt", root, NAME, EXPECTED)
        boxes = []
        for number, line in enumerate(read_text(file).rstrip().splitlines(), 1):
            try:
                boxes.append(region_box(line.strip()))
            except ValueError as error:
                raise DataError(
                    f"{file}, line {number}: expected x,y,w,h, a polygon x0,y0,x1,y1,... or a mask "
                    f"m<x>,<y>,<w>,<h>,<runs>; got {line[:80]!r}"
                ) from error
        images, pattern = _images(folder)
        frames = Frames(images, pattern, range(1, len(boxes) + 1))
        yield Sequence(name, frames, without_absent(np.array(boxes, float).reshape(-1, 4)))


def _images(folder: Path) -> tuple[Path, str]:
    """Folder and pattern of the colour frames."""
    where = "color/%08d.jpg" if (folder / "color").is_dir() else "%08d.jpg"
    if (folder / "sequence").is_file():
        stated = re.search(r"^channels\.color\s*=\s*(\S+)", read_text(folder / "sequence"), re.M)
        where = stated[1] if stated else where
    path = folder / where
    if not path.suffix:  # a folder alone stands for its %08d.jpg
        path /= "%08d.jpg"
    return path.parent, re.sub(r"%(\d*)d", r"{:\1d}", path.name)
