"""COCO detection (Lin et al., ECCV 2014), 2014 and 2017.

    annotations/instances_train2017.json
    train2017/000000000009.jpg ...      or images/train2017/..., as in the COCO API's demos

`bbox` is x, y, w, h in float pixels, "0-indexed" (cocodataset.org/#format-data): as ours.
Crowd regions (`iscrowd`) are no single objects and are left out, and so are images without boxes.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from siamkd_core.datasets.annotations import read_text
from siamkd_core.datasets.frames import leave_out_missing_stills
from siamkd_core.errors import DataError
from siamkd_core.layout import require
from siamkd_core.sequences import Still

NAME = "COCO"
SPLITS = ("train2017", "val2017", "train2014", "val2014")
EXPECTED = "annotations/instances_<split>.json and <split>/<image>.jpg (or images/<split>/...)"


def read_coco(root: Path, split: str) -> list[Still]:
    """The images of ``split`` with at least one object, in the order of the annotation file.

    train2017's JSON file is 450 MB: some 20 seconds and 3 GB of memory while it is read.

    Raises:
        DataError: another layout, or a file that is no COCO annotation.
    """
    file = require(root / "annotations" / f"instances_{split}.json", root, NAME, EXPECTED)
    images = root / "images" / split
    if not images.is_dir():
        images = require(root / split, root, NAME, EXPECTED)
    boxes: dict[int, list[list[float]]] = {}
    stills = []
    try:
        content = json.loads(read_text(file))
        for one in content["annotations"]:
            if not one.get("iscrowd") and min(one["bbox"][2:]) > 0:
                boxes.setdefault(one["image_id"], []).append(one["bbox"])
        for image in content["images"]:
            rows = boxes.get(image["id"])
            if rows:
                path = images / image["file_name"]
                stills.append(Still(path, np.array(rows, dtype=np.float64).reshape(-1, 4)))
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{file} is no COCO annotation with images (id, file_name) and annotations "
            f"(image_id, bbox): {type(error).__name__} {error}"
        ) from error
    return leave_out_missing_stills(stills, NAME)
