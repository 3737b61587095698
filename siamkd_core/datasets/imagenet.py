"""ImageNet VID and DET (Russakovsky et al., IJCV 2015; ILSVRC2015, ILSVRC2017 archives).

    Annotations/VID/train/ILSVRC2015_VID_train_0000/<video>/000000.xml   an XML file a frame
    Data/VID/train/ILSVRC2015_VID_train_0000/<video>/000000.JPEG
    Annotations/VID/val/<video>/000000.xml, Data/VID/val/...             no folder in between
    Annotations/DET/train/<set>/.../<image>.xml, Data/DET/train/...      one tree, two suffixes
    Annotations/DET/val/<image>.xml, Data/DET/val/<image>.JPEG

A box is xmin, ymin, xmax, ymax in pixel indices that count from 0 (an xmin of 0 is common, and
readers such as Flow-Guided Feature Aggregation clip xmax to width - 1), the last pixel included: so
w = xmax - xmin + 1, as in the got10k toolkit. In our edges that is x = xmin, no shift.

`occluded` marks partly hidden targets and `generated` interpolated boxes: both keep their box. A
frame whose XML file does not name a track: its target is absent.
"""

from __future__ import annotations

import os
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from siamkd_core.box import FloatArray
from siamkd_core.datasets.annotations import without_absent
from siamkd_core.datasets.frames import Frames, leave_out_missing, leave_out_missing_stills
from siamkd_core.errors import DataError
from siamkd_core.layout import require
from siamkd_core.sequences import Sequence, Still

VID, DET = "ImageNet VID", "ImageNet DET"
SPLITS = ("train", "val")
EXPECTED_VID = (
    "{Annotations,Data}/VID/train/ILSVRC2015_VID_train_0000/<video>/000000.{xml,JPEG} and "
    "{Annotations,Data}/VID/val/<video>/000000.{xml,JPEG}"
)
EXPECTED_DET = (
    "{Annotations,Data}/DET/train/<set>/.../<image>.{xml,JPEG} and "
    "{Annotations,Data}/DET/val/<image>.{xml,JPEG}"
)

BoxRow = tuple[float, float, float, float]


def read_imagenet_vid(root: Path, split: str) -> list[Sequence]:
    """A sequence ``<video>_<trackid>`` for every track of ``train`` or ``val`` with at least two
    boxes, from its first to its last.

    Reads every XML file (train: 1.1 million in 3,862 videos): minutes, most of it opening files.

    Raises:
        DataError: another layout, or a broken XML file.
    """
    annotations = require(root / "Annotations" / "VID" / split, root, VID, EXPECTED_VID)
    images = require(root / "Data" / "VID" / split, root, VID, EXPECTED_VID)
    videos = sorted(annotations.glob("ILSVRC*/ILSVRC*" if split == "train" else "ILSVRC*"))
    videos = [folder for folder in videos if folder.is_dir()]
    if not videos:
        require(annotations / "ILSVRC2015_VID_train_0000", root, VID, EXPECTED_VID)
    tracks = (
        track
        for folder in videos
        for track in _tracks(folder, images / folder.relative_to(annotations))
    )
    return leave_out_missing(tracks, VID)


def read_imagenet_det(root: Path, split: str) -> list[Still]:
    """The images of ``train`` or ``val`` with at least one box.

    Reads every XML file (train: 457 thousand): a minute or more.

    Raises:
        DataError: another layout, or a broken XML file.
    """
    annotations = require(root / "Annotations" / "DET" / split, root, DET, EXPECTED_DET)
    images = require(root / "Data" / "DET" / split, root, DET, EXPECTED_DET)
    return leave_out_missing_stills(_stills(annotations, images), DET)


def _tracks(annotations: Path, images: Path) -> Iterator[Sequence]:
    found: dict[int, dict[int, BoxRow]] = {}
    for name in sorted(os.listdir(annotations)):
        if not name.endswith(".xml"):
            continue
        for track, box in _objects(annotations / name):
            found.setdefault(track, {})[int(name[:-4])] = box
    for track, rows in sorted(found.items()):
        numbers = range(min(rows), max(rows) + 1)
        boxes = np.array([rows.get(number, (np.nan,) * 4) for number in numbers])
        if len(rows) > 1:
            frames = Frames(images, "{:06d}.JPEG", numbers)
            yield Sequence(f"{annotations.name}_{track}", frames, without_absent(boxes))


def _stills(annotations: Path, images: Path) -> Iterator[Still]:
    for folder, below, names in os.walk(annotations, followlinks=True):
        below.sort()
        for name in sorted(names):
            if not name.endswith(".xml"):
                continue
            found = np.array([box for _, box in _objects(Path(folder, name))]).reshape(-1, 4)
            boxes: FloatArray = found[(found[:, 2:] > 0).all(axis=1)]
            if len(boxes):
                image = images / Path(folder).relative_to(annotations) / f"{name[:-4]}.JPEG"
                yield Still(image, boxes)


def _objects(file: Path) -> Iterator[tuple[int, BoxRow]]:
    """Track (-1 without one) and xywh box of every object in an XML file."""
    try:
        for thing in ElementTree.parse(file).iter("object"):
            box = thing.find("bndbox")
            if box is None:
                raise DataError(f"{file}: an object has no bndbox")
            x0, y0, x1, y1 = (float(box.findtext(k, "")) for k in ("xmin", "ymin", "xmax", "ymax"))
            yield int(thing.findtext("trackid", "-1")), (x0, y0, x1 - x0 + 1, y1 - y0 + 1)
    except (ElementTree.ParseError, ValueError, OSError) as error:
        raise DataError(f"{file} is no ILSVRC annotation: {error}") from error
