"""Cut one shard: decode each image once, crop its targets, write tar and table atomically."""

from __future__ import annotations

import errno
import math
import os
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from siamkd_core.box import Box
from siamkd_core.crop import crop_square, exemplar_side, mean_colour
from siamkd_core.errors import DataError, ImageError
from siamkd_core.image import Image, read_image
from siamkd_core.shards import NOT_READ, ROW, STORED, TOO_LARGE
from siamkd_core.siamfc import EXEMPLAR_SIZE
from siamkd_core.views import View, look, random_box


@dataclass(frozen=True)
class Target:
    """One crop to cut.

    Attributes:
        key: of the sample in its shard; no dot in it.
        path: image file.
        frame: number in the sequence, or of the box in a still.
        box: xywh in pixels of the image; None: draw one with ``seed``.
        seed: for the box.
        facts: what the sample's JSON says besides.
    """

    key: str
    path: Path
    frame: int
    box: Box | None
    seed: tuple[int, ...]
    facts: dict[str, Any]


@dataclass(frozen=True)
class Job:
    """One shard.

    Attributes:
        shard: path of the tar; its rows are written beside it, first.
        number: of the shard in the index.
        targets: those of one image in a row.
        reach: pixels of the network's crops that are needed around a target.
        min_side: of random boxes, pixels.
        max_share: larger boxes are left out.
        quality: of the JPEG, 1..100.
    """

    shard: Path
    number: int
    targets: list[Target]
    reach: float
    min_side: float
    max_share: float
    quality: int


def rows_file(shard: Path) -> Path:
    return shard.with_suffix(".rows.npy")


def is_finished(shard: Path) -> bool:
    # the rows are renamed before the tar
    return shard.is_file() and rows_file(shard).is_file()


def cut_target(view: View, reach: float) -> tuple[Image, Box, float]:
    """The square around a target that every crop of its ``reach`` lies in.

    A large target is shrunk to the scale the network sees it at; a small one keeps its pixels as
    they are, whole pixels included, so that nothing is interpolated twice.

    Returns:
        (S, S, 3) uint8, the box in its pixels, and its pixels per pixel of the image.
    """
    image, box, fill = view
    unit = exemplar_side(box.w, box.h) / EXEMPLAR_SIZE  # pixels of the image per network's pixel
    if unit >= 1:
        side = math.ceil(2 * reach) + 4  # 2 more at each edge for the interpolation
        crop = crop_square(image, (box.cx, box.cy), side * unit, side, fill)
        inside = Box.from_center(side / 2, side / 2, box.w / unit, box.h / unit)
        return crop, inside, 1 / unit
    side = math.ceil(2 * reach * unit) + 5
    left, top = math.floor(box.cx - side / 2), math.floor(box.cy - side / 2)
    crop = crop_square(image, (left + side / 2, top + side / 2), side, side, fill)
    return crop, Box(box.x - left, box.y - top, box.w, box.h), 1.0


def write_shard(job: Job, advance: Callable[[int], None]) -> None:
    """Cut all targets of ``job``; ``advance`` is called with the number done since the last call.

    Raises:
        DataError: the disk is full or the folder cannot be written to; nothing is left half done.
    """
    temporary = job.shard.with_suffix(f".{os.getpid()}.part")
    rows = np.zeros(len(job.targets), ROW)
    try:
        with temporary.open("wb") as file:
            _write_tar(job, file, rows, advance)
            file.flush()
            os.fsync(file.fileno())
        _locate(temporary, job.number, rows)
        save_array(rows, rows_file(job.shard))
        temporary.replace(job.shard)
    except OSError as error:
        raise DataError(_write_error(job.shard, error)) from error
    finally:
        temporary.unlink(missing_ok=True)


def save_array(array: NDArray[np.void], path: Path) -> None:
    """``numpy.save``, so that ``path`` is there whole or not at all."""
    temporary = path.with_suffix(f".{os.getpid()}.part")
    try:
        with temporary.open("wb") as file:
            np.save(file, array)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _write_tar(job: Job, file: Any, rows: NDArray[np.void], advance: Callable[[int], None]) -> None:
    from webdataset.writer import TarWriter

    # no time, no user: the same data gives the same bytes
    with TarWriter(file, mtime=0, user="", group="", mode=0o644) as writer:
        for path, group in groupby(enumerate(job.targets), key=lambda pair: pair[1].path):
            try:
                image = read_image(path)
            except ImageError:
                image = None
            done = 0
            for number, target in group:
                done += 1
                row = rows[number]
                row["frame"] = target.frame
                if image is None:
                    row["status"] = NOT_READ
                    continue
                view = _view(image, target, job)
                if view is None:
                    row["status"] = TOO_LARGE
                    continue
                crop, box, scale = cut_target(view, job.reach)
                row["status"], row["box"], row["fill"] = STORED, box, view.fill
                _, packed = cv2.imencode(".jpg", crop, [cv2.IMWRITE_JPEG_QUALITY, job.quality])
                facts = {
                    **target.facts,
                    "frame": target.frame,
                    "box": [round(float(v), 3) for v in box],
                    "scale": round(scale, 5),
                    "mean_colour": [round(float(v), 2) for v in view.fill],
                }
                writer.write({"__key__": target.key, "jpg": packed.tobytes(), "json": facts})
            advance(done)


def _view(image: Image, target: Target, job: Job) -> View | None:
    if target.box is not None:
        return look(image, target.box, job.max_share)
    rng = np.random.default_rng(target.seed)
    box = random_box(image.shape[1], image.shape[0], job.min_side, rng)
    return View(image, box, mean_colour(image))


def _locate(tar: Path, number: int, rows: NDArray[np.void]) -> None:
    """Fill in where the JPEGs of a written tar lie."""
    with tarfile.open(tar) as members:
        images = [(m.offset_data, m.size) for m in members if m.name.endswith(".jpg")]
    stored = rows["status"] == STORED
    if images:
        rows["offset"][stored], rows["size"][stored] = np.array(images, np.uint64).T
    rows["shard"] = number


def _write_error(path: Path, error: OSError) -> str:
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return (
            f"no room to write {path} ({error.strerror}); the finished shards are kept: free some "
            "space and run siamkd prepare again to go on"
        )
    return f"cannot write {path}: {error.strerror}"
