"""UAV123, UAV20L and UAV123_10fps (Mueller, Smith, Ghanem, ECCV 2016).

    configSeqs.m                                which folder and frames belong to a sequence
    anno/UAV123/<sequence>.txt                  x,y,w,h a line; likewise anno/UAV20L
    data_seq/UAV123/<video>/000001.jpg ...      also the frames of UAV20L

UAV123_10fps is a download of its own: anno/UAV123_10fps, data_seq/UAV123_10fps, its configSeqs.m.
Several sequences share a video (car1_1 is frames 1 to 751 of car1, car1_2 is 751 to 1627).

NaN means that the target is fully occluded or outside the image (the dataset's README). Coordinates
are 1-based: the dataset is made for, and configured in, OTB's MATLAB benchmark.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from siamkd_core.datasets.annotations import from_one_based, read_text, without_absent
from siamkd_core.datasets.frames import Frames, leave_out_missing
from siamkd_core.errors import DataError
from siamkd_core.layout import require
from siamkd_core.sequences import Sequence, read_boxes

NAME = "UAV123"
SPLITS = ("UAV123", "UAV20L", "UAV123_10fps")
EXPECTED = (
    "configSeqs.m, anno/{UAV123,UAV20L}/<sequence>.txt and data_seq/UAV123/<video>/000001.jpg, ... "
    "(UAV123_10fps: with that name in both places)"
)


def read_uav123(root: Path, split: str) -> list[Sequence]:
    """The sequences of a split, in the order of configSeqs.m.

    Raises:
        DataError: another layout, a configSeqs.m without this split, a sequence without
            annotation, or another number of lines than frames.
    """
    config = require(root / "configSeqs.m", root, NAME, EXPECTED)
    annotations = require(root / "anno" / split, root, NAME, EXPECTED)
    name = "UAV123" if split == "UAV20L" else split
    videos = require(root / "data_seq" / name, root, NAME, EXPECTED)
    rows = read_config(config, split)
    return leave_out_missing(_sequences(rows, root, annotations, videos), NAME)


def read_config(file: Path, split: str) -> list[tuple[str, str, int, int]]:
    """Name, video, first and last frame of the sequences that configSeqs.m lists as ``seq<split>``.

    Raises:
        DataError: it lists none.
    """
    listed = re.search(rf"\bseq{split}\s*=\s*\{{(.*?)\}}\s*;", read_text(file), re.DOTALL)
    entry = re.compile(
        r"struct\(\s*'name'\s*,\s*'([^']+)'\s*,\s*'path'\s*,\s*'[^']*?([^'\\/]+)[\\/]*'\s*,"
        r"\s*'startFrame'\s*,\s*(\d+)\s*,\s*'endFrame'\s*,\s*(\d+)"
    )
    rows = entry.findall(listed[1]) if listed else []
    if not rows:
        raise DataError(
            f"{file} lists no sequences of {split}: expected "
            f"seq{split} = {{struct('name',...,'path',...,'startFrame',...,'endFrame',...), ...}};"
        )
    return [(name, video, int(start), int(end)) for name, video, start, end in rows]


def _sequences(
    rows: list[tuple[str, str, int, int]], root: Path, annotations: Path, videos: Path
) -> Iterator[Sequence]:
    for name, video, start, end in rows:
        file = require(annotations / f"{name}.txt", root, NAME, EXPECTED)
        boxes = without_absent(from_one_based(read_boxes(file)))
        if len(boxes) != end - start + 1:
            raise DataError(
                f"{file} has {len(boxes)} lines, but configSeqs.m gives {name} the frames "
                f"{start} to {end} of {video}"
            )
        yield Sequence(name, Frames(videos / video, "{:06d}.jpg", range(start, end + 1)), boxes)
