"""YouTube-BoundingBoxes (Real et al., CVPR 2017; arXiv 1702.00824).

Google publishes a CSV file of annotations, one a second; the frames are extracted by whoever
downloads the videos. This is the layout that youtube-bb-utility's download_detection.py leaves, and
that the tracking repositories (pysot among them) read:

    yt_bb_detection_train.csv          likewise yt_bb_detection_validation.csv; no header line
    yt_bb_detection_train/<class_id>/<youtube_id>_<timestamp_ms>_<class_id>_<object_id>.jpg

Columns: youtube_id, timestamp_ms, class_id, class_name, object_id, object_presence (present or
absent), xmin, xmax, ymin, ymax. The coordinates are shares of the frame's width and height, 0 to 1,
so they are edges; with `absent` they are -1. Pixels come from the size of the segment's first
image.

A segment is youtube_id, class_id and object_id together. Its frames are a second apart: a
`max_gap` of 20 spans the whole segment. Videos that are no longer on YouTube are missing frames.
"""

from __future__ import annotations

import csv
from array import array
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from siamkd_core.datasets.annotations import without_absent
from siamkd_core.datasets.frames import Frames, leave_out_missing
from siamkd_core.errors import DataError
from siamkd_core.layout import require
from siamkd_core.sequences import Sequence

NAME = "YouTube-BB"
SPLITS = ("train", "val")
EXPECTED = (
    "yt_bb_detection_{train,validation}.csv and yt_bb_detection_{train,validation}/<class_id>/"
    "<youtube_id>_<timestamp_ms>_<class_id>_<object_id>.jpg"
)
COLUMNS = 10

Segment = tuple[str, str, str]
"""class_id, youtube_id, object_id."""


def read_youtube_bb(root: Path, split: str) -> list[Sequence]:
    """A sequence ``<youtube_id>_<class_id>_<object_id>`` for every segment with frames.

    All of ``train`` is millions of lines and hundreds of thousands of segments: minutes for the CSV
    file, one listing of each class folder, and one image header a segment.

    Raises:
        DataError: another layout, a broken line, or no frames.
    """
    stem = f"yt_bb_detection_{'validation' if split == 'val' else split}"
    file = require(root / f"{stem}.csv", root, NAME, EXPECTED)
    images = require(root / stem, root, NAME, EXPECTED)
    segments = _read_csv(file)
    there = leave_out_missing(_shares(segments, images), NAME)
    found = [pixels for sequence in there if (pixels := _in_pixels(sequence)) is not None]
    if not found:
        raise DataError(f"{NAME}: no image in {images} can be read")
    return found


def _read_csv(file: Path) -> dict[Segment, tuple[array[int], array[float]]]:
    """Time stamps, and xmin, xmax, ymin, ymax of each in turn, by segment."""
    segments: dict[Segment, tuple[array[int], array[float]]] = {}
    with open(file, encoding="utf-8", newline="") as lines:
        for row in csv.reader(lines):
            if not row:
                continue
            try:
                if len(row) != COLUMNS:
                    raise ValueError(f"{len(row)} columns")
                key = (str(int(row[2])), row[0], str(int(row[4])))
                present = row[5] == "present"
                edges = [float(v) if present else np.nan for v in row[6:]]
                stamp = int(row[1])
            except ValueError as error:
                raise DataError(
                    f"{file}: expected {COLUMNS} columns youtube_id, timestamp_ms, class_id, "
                    "class_name, object_id, object_presence, xmin, xmax, ymin, ymax; "
                    f"got {','.join(row)[:80]!r} ({error})"
                ) from error
            if key not in segments:
                segments[key] = (array("q"), array("d"))
            segments[key][0].append(stamp)
            segments[key][1].extend(edges)
    return segments


def _shares(
    segments: dict[Segment, tuple[array[int], array[float]]], images: Path
) -> Iterator[Sequence]:
    """Segments class by class, in the order of time; boxes are shares of the image."""
    for key in sorted(segments):
        class_id, video, thing = key
        stamps, edges = segments[key]
        order = np.argsort(stamps, kind="stable")
        left, right, top, bottom = np.array(edges).reshape(-1, 4)[order].T
        boxes = np.stack([left, top, right - left, bottom - top], axis=1)
        numbers = array("q", (stamps[i] for i in order))
        pattern = f"{video}_{{}}_{class_id}_{thing}.jpg"
        frames = Frames(images / class_id, pattern, numbers)
        yield Sequence(f"{video}_{class_id}_{thing}", frames, boxes)


def _in_pixels(sequence: Sequence) -> Sequence | None:
    """The sequence with boxes in pixels; None if none of its images can be read."""
    from PIL import Image  # reads the size without decoding the image

    for path in sequence.frames:
        try:
            with Image.open(path) as image:
                width, height = image.size
        except OSError:
            continue
        boxes = without_absent(sequence.boxes * (width, height, width, height))
        return Sequence(sequence.name, sequence.frames, boxes)
    return None
