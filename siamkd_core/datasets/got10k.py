"""GOT-10k (Huang, Zhao, Huang, TPAMI 2021; arXiv 1810.11981).

    train/list.txt                        names of the sequences; likewise val/, test/
    train/<sequence>/groundtruth.txt      x,y,w,h a line; test: the first frame only
    train/<sequence>/absence.label        1: the target is absent          (not in test)
    train/<sequence>/cover.label          visible share in eighths, 0 to 8 (not in test)
    train/<sequence>/00000001.jpg ...

Coordinates are 1-based, says the author (github.com/got-10k/toolkit, issue 6). Some boxes at the
image's edge have 0 all the same; they come out one pixel outside.

A target that is wholly covered (cover 0) counts as absent: the toolkit's own evaluation judges only
frames with a cover above 0.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from siamkd_core.datasets.annotations import (
    from_one_based,
    read_flags,
    read_names,
    without_absent,
)
from siamkd_core.datasets.frames import Frames, leave_out_missing
from siamkd_core.layout import require
from siamkd_core.sequences import Sequence, read_boxes

NAME = "GOT-10k"
SPLITS = ("train", "val", "test")
EXPECTED = (
    "{train,val,test}/list.txt and <split>/<sequence>/{groundtruth.txt, absence.label, "
    "cover.label, 00000001.jpg, ...}"
)


def read_got10k(root: Path, split: str) -> list[Sequence]:
    """The sequences of ``train``, ``val`` or ``test``, in the order of its list.txt.

    In ``test`` all boxes but the first are nan: they are not published. Every frame folder is
    listed once (train: 1.4 million files in 9,335 folders).

    Raises:
        DataError: another layout, a listed sequence that is not there, or annotation files that
            do not fit each other.
    """
    names = read_names(require(root / split / "list.txt", root, NAME, EXPECTED))
    return leave_out_missing(_sequences(root, split, names), NAME)


def _sequences(root: Path, split: str, names: list[str]) -> Iterator[Sequence]:
    for name in names:
        folder = root / split / name
        file = require(folder / "groundtruth.txt", root, NAME, EXPECTED)
        boxes = from_one_based(read_boxes(file))
        if split == "test":
            count = sum(entry.endswith(".jpg") for entry in os.listdir(folder))
            unknown = np.full((max(count - len(boxes), 0), 4), np.nan)
            boxes = np.concatenate([boxes, unknown])
        else:
            for label in ("absence.label", "cover.label"):
                require(folder / label, root, NAME, EXPECTED)
            absent = read_flags(folder / "absence.label", len(boxes)) == 1
            covered = read_flags(folder / "cover.label", len(boxes)) == 0
            boxes = without_absent(boxes, absent | covered)
        yield Sequence(name, Frames(folder, "{:08d}.jpg", range(1, len(boxes) + 1)), boxes)
