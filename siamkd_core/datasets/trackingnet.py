"""TrackingNet (Müller et al., ECCV 2018; arXiv 1803.10794).

    TRAIN_0/anno/<sequence>.txt       x,y,w,h a line; likewise TRAIN_1 ... TRAIN_11 and TEST
    TRAIN_0/frames/<sequence>/0.jpg   numbered from 0, without leading zeros
    TEST/anno/<sequence>.txt          the first frame only

There are no flags. Between the human annotations (one a second) boxes are those of a tracker, and
some reach outside the image. The development kit does not say where coordinates start, and reads
them as they are; so does this reader (0-based): at most one pixel is at stake.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from siamkd_core.datasets.annotations import without_absent
from siamkd_core.datasets.frames import Frames, leave_out_missing
from siamkd_core.layout import require, wrong_layout
from siamkd_core.sequences import Sequence, natural_key, read_boxes

NAME = "TrackingNet"
SPLITS = ("train", "test")
EXPECTED = (
    "TRAIN_<0 to 11>/{anno/<sequence>.txt, frames/<sequence>/0.jpg, ...} and TEST likewise "
    "(frames/ is what the archives in zips/ hold)"
)


def read_trackingnet(root: Path, split: str) -> list[Sequence]:
    """The sequences of ``test``, or of ``train``: all the TRAIN_* folders that are there.

    In ``test`` all boxes but the first are nan: they are not published. All of ``train`` is 30,132
    text files with 14 million lines: minutes to read, and 0.45 GB of boxes in memory. The frame
    folders are not listed, except where the first or the last frame is missing.

    Raises:
        DataError: another layout, a broken annotation, or no frames.
    """
    chunks = [root / "TEST"]
    if split == "train":
        chunks = sorted(root.glob("TRAIN_*"), key=lambda path: natural_key(path.name))
    if not chunks:
        raise wrong_layout(root, NAME, EXPECTED, root / "TRAIN_0")
    for chunk in chunks:
        for part in ("anno", "frames"):
            require(chunk / part, root, NAME, EXPECTED)
    sequences = (sequence for chunk in chunks for sequence in _sequences(chunk, split))
    return leave_out_missing(sequences, NAME, every_frame=False)


def _sequences(chunk: Path, split: str) -> Iterator[Sequence]:
    for file in sorted((chunk / "anno").glob("*.txt")):
        folder = chunk / "frames" / file.stem
        boxes = without_absent(read_boxes(file))
        if split == "test" and folder.is_dir():
            count = sum(entry.endswith(".jpg") for entry in os.listdir(folder))
            unknown = np.full((max(count - len(boxes), 0), 4), np.nan)
            boxes = np.concatenate([boxes, unknown])
        yield Sequence(file.stem, Frames(folder, "{:d}.jpg", range(len(boxes))), boxes)
