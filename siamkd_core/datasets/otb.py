"""OTB (Wu, Lim, Yang, TPAMI 2015), and DTB70 (Li, Yeung, AAAI 2017), which has its layout.

    <Sequence>/groundtruth_rect.txt                        x,y,w,h a line; commas, tabs or spaces
    <Sequence>/groundtruth_rect.1.txt, ..rect.2.txt        two targets in one video
    <Sequence>/img/0001.jpg ...                            DTB70, and OTB's Board: 00001.jpg

OTB's targets of Jogging, Skating2 and Human4 are named Jogging-1, Jogging-2 and so on; the file of
Human4-1 is empty, so there is only Human4-2.

Line 1 belongs to frame 1, but for the videos of FIRST_FRAME; Football1, Freeman3, Freeman4 and
Diving have fewer lines than images, and end with their last line. The frames are those of the
benchmark's own configuration (github.com/jwlim/tracker_benchmark, and the got10k toolkit).

Coordinates are 1-based, as the benchmark is MATLAB code; SiamMask's and DaSiamRPN's readers take 1
off likewise. DTB70 "follows OTB50", says its README. There are no flags; the last lines of Board
and Twinnings are 0,0,0,0, which is no box.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from siamkd_core.datasets.annotations import from_one_based, read_text, without_absent
from siamkd_core.datasets.frames import Frames, leave_out_missing
from siamkd_core.layout import wrong_layout
from siamkd_core.sequences import Sequence, list_images, read_boxes

OTB, DTB70 = "OTB", "DTB70"
FIRST_FRAME = {"David": 300, "BlurCar1": 247, "BlurCar3": 3, "BlurCar4": 18}
EXPECTED_OTB = (
    "<Sequence>/groundtruth_rect.txt (or .1.txt, .2.txt) and <Sequence>/img/0001.jpg, ..."
)
EXPECTED_DTB70 = "<Sequence>/groundtruth_rect.txt and <Sequence>/img/00001.jpg, ..."


def read_otb(root: Path, split: str = "") -> list[Sequence]:
    """Every target of every sequence folder in ``root``, by name.

    Raises:
        DataError: no such folder, or a broken annotation.
    """
    return _read(root, OTB, EXPECTED_OTB, FIRST_FRAME)


def read_dtb70(root: Path, split: str = "") -> list[Sequence]:
    """The sequences in ``root``, by name.

    Raises:
        DataError: no such folder, or a broken annotation.
    """
    return _read(root, DTB70, EXPECTED_DTB70, {})


def _read(root: Path, dataset: str, expected: str, first: dict[str, int]) -> list[Sequence]:
    files = sorted(root.glob("*/groundtruth_rect*.txt"))
    if not files:
        raise wrong_layout(root, dataset, expected, root / "<Sequence>" / "groundtruth_rect.txt")
    return leave_out_missing(_sequences(files, root, dataset, expected, first), dataset)


def _sequences(
    files: list[Path], root: Path, dataset: str, expected: str, first: dict[str, int]
) -> Iterator[Sequence]:
    for file in files:
        if not read_text(file).strip():
            continue
        folder = file.parent
        target = file.stem.removeprefix("groundtruth_rect").removeprefix(".")
        images = list_images(folder / "img") if (folder / "img").is_dir() else []
        if not images:
            raise wrong_layout(root, dataset, expected, folder / "img" / "0001.jpg")
        boxes = without_absent(from_one_based(read_boxes(file)))
        start = first.get(folder.name, 1)
        pattern = f"{{:0{len(images[0].stem)}d}}{images[0].suffix}"
        frames = Frames(folder / "img", pattern, range(start, start + len(boxes)))
        yield Sequence(folder.name + (f"-{target}" if target else ""), frames, boxes)
