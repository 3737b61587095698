"""LaSOT (Fan et al., CVPR 2019; arXiv 1809.07845).

    testing_set.txt                           names of the test sequences (protocol II)
    <class>/<class>-<n>/groundtruth.txt       x,y,w,h a line
    <class>/<class>-<n>/full_occlusion.txt    0 or 1 for each frame, separated by commas
    <class>/<class>-<n>/out_of_view.txt       likewise
    <class>/<class>-<n>/img/00000001.jpg ...

testing_set.txt comes with the evaluation toolkit (github.com/HengLan/LaSOT_Evaluation_Toolkit,
folder sequence_evaluation_config). Coordinates are 1-based: "the smallest should be 1", says the
author (issue 14 there).

A target that is fully occluded or out of view counts as absent, as in the toolkit, whose
annos/absent is the union of both flags. A handful of boxes with sides of 0 or less are errors of
the annotation, and nan too.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from siamkd_core.datasets.annotations import (
    from_one_based,
    read_flags,
    read_names,
    without_absent,
)
from siamkd_core.datasets.frames import Frames, leave_out_missing
from siamkd_core.layout import require, wrong_layout
from siamkd_core.sequences import Sequence, natural_key, read_boxes

NAME = "LaSOT"
SPLITS = ("train", "test", "all")
EXPECTED = (
    "<class>/<class>-<n>/{groundtruth.txt, full_occlusion.txt, out_of_view.txt, img/00000001.jpg, "
    "...} and, for train and test, testing_set.txt (of the LaSOT evaluation toolkit)"
)


def read_lasot(root: Path, split: str) -> list[Sequence]:
    """The sequences of ``test`` (those of testing_set.txt), ``train`` (the others) or ``all``.

    Every frame folder is listed once (3.5 million files in 1,400 folders).

    Raises:
        DataError: another layout, a test sequence that is not there, or annotation files that do
            not fit each other.
    """
    folders = {file.parent.name: file.parent for file in root.glob("*/*-*/groundtruth.txt")}
    if not folders:
        raise wrong_layout(root, NAME, EXPECTED, root / "airplane" / "airplane-1")
    names = sorted(folders, key=natural_key)
    if split != "all":
        testing = read_names(require(root / "testing_set.txt", root, NAME, EXPECTED))
        names = testing if split == "test" else [n for n in names if n not in set(testing)]
    return leave_out_missing(_sequences(root, names), NAME)


def _sequences(root: Path, names: list[str]) -> Iterator[Sequence]:
    for name in names:
        folder = root / name.rpartition("-")[0] / name
        for file in ("groundtruth.txt", "full_occlusion.txt", "out_of_view.txt"):
            require(folder / file, root, NAME, EXPECTED)
        boxes = from_one_based(read_boxes(folder / "groundtruth.txt"))
        occluded = read_flags(folder / "full_occlusion.txt", len(boxes)) == 1
        outside = read_flags(folder / "out_of_view.txt", len(boxes)) == 1
        frames = Frames(folder / "img", "{:08d}.jpg", range(1, len(boxes) + 1))
        yield Sequence(name, frames, without_absent(boxes, occluded | outside))
