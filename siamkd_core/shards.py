"""Prepared crops: what a folder of shards holds, and reading a target from it.

``siamkd prepare`` writes WebDataset tar shards, an index in the form of the library ``wids`` and a
table with one row a target. The table says at which byte a crop's JPEG begins, so that drawing a
pair is two reads, whatever the size of the data; no tar header is looked at.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import cv2
import numpy as np
from numpy.typing import NDArray

from siamkd_core.augment import reach
from siamkd_core.box import Box
from siamkd_core.config import to_mapping
from siamkd_core.errors import DataError, ImageError
from siamkd_core.views import View

if TYPE_CHECKING:
    from siamkd_core.pairs import PairsConfig

INDEX, TABLE, PLAN, UNREADABLE = "index.json", "targets.npy", "prepare.json", "unreadable.txt"
FORMAT = 1

STORED, TOO_LARGE, NOT_READ = 0, 1, 2
"""Status of a target: its crop is there; its box covers too much; its image cannot be decoded."""

ROW = np.dtype(
    [
        ("offset", "<u8"),  # of the JPEG in its shard, bytes
        ("size", "<u4"),
        ("shard", "<u4"),  # place in the index's list
        ("frame", "<u4"),  # number in the sequence, or of the box in its still
        ("status", "<u4"),
        ("box", "<f4", 4),  # xywh in pixels of the crop
        ("fill", "<f4", 3),  # mean colour of the image, BGR
    ]
)


@dataclass(frozen=True)
class StoredTarget:
    """The crops of one sequence or still.

    Attributes:
        name: of the sequence or the image file.
        is_still: a pair is one crop twice, not two frames.
        rows: (N,) of :data:`ROW`, by increasing frame.
        files: the shards.
    """

    name: str
    is_still: bool
    rows: NDArray[np.void]
    files: Sequence[Path]

    @property
    def frames(self) -> NDArray[np.int64]:
        """Numbers of the frames (of a still: of the boxes) with a usable box, increasing."""
        return np.asarray(self.rows["frame"], np.int64)

    def view(self, frame: int) -> View | None:
        """The target in its crop; None if there is none for this frame.

        Raises:
            DataError: the shard cannot be read.
            ImageError: the crop cannot be decoded.
        """
        row = self.rows[np.searchsorted(self.rows["frame"], frame)]
        if row["status"] != STORED:
            return None
        path = self.files[row["shard"]]
        try:
            with path.open("rb", buffering=0) as file:
                file.seek(int(row["offset"]))
                data = np.frombuffer(file.read(int(row["size"])), np.uint8)
        except OSError as error:
            raise DataError(f"cannot read the shard {path}: {error.strerror}") from error
        image = cv2.imdecode(data, cv2.IMREAD_COLOR) if data.size else None
        if image is None:
            raise ImageError(f"cannot decode the crop of frame {frame} of {self.name} in {path}")
        return View(
            np.asarray(image, np.uint8), Box(*row["box"].tolist()), row["fill"].astype(float)
        )


class StoredTargets(Sequence[StoredTarget]):
    """The targets of one source, made when they are asked for: there may be a million."""

    def __init__(self, part: dict[str, Any], rows: NDArray[np.void], files: list[Path]) -> None:
        self.names: list[str] = part["names"]
        self.stills: list[int] = part["is_still"]
        self.ends = part["first_row"] + np.cumsum([0, *part["rows"]])
        self.rows = rows
        self.files = files

    def __len__(self) -> int:
        return len(self.names)

    @overload
    def __getitem__(self, index: int) -> StoredTarget: ...
    @overload
    def __getitem__(self, index: slice) -> list[StoredTarget]: ...
    def __getitem__(self, index: int | slice) -> StoredTarget | list[StoredTarget]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        if not 0 <= index < len(self):
            raise IndexError(index)
        rows = self.rows[self.ends[index] : self.ends[index + 1]]
        return StoredTarget(self.names[index], bool(self.stills[index]), rows, self.files)


def is_shard_folder(folder: Path) -> bool:
    return (folder / PLAN).is_file() or (folder / TABLE).is_file()


def settings(config: PairsConfig) -> dict[str, Any]:
    """What of a recipe decides on the crops: plain values that JSON keeps.

    Weights and gaps decide only what is drawn from them, and a smaller crop or milder augmentation
    finds its pixels in a wider one; ``reach`` is in pixels of the network's crops.
    """
    sources = [to_mapping(source) for source in config.sources]
    for source in sources:
        del source["weight"], source["max_gap"]
    return {
        "sources": sources,
        "holdout": sorted(config.holdout),
        "min_side": config.min_side,
        "max_share": config.max_share,
        "reach": round(reach(config.augment, config.search_size), 3),
    }


def differences(stored: dict[str, Any], wanted: dict[str, Any]) -> list[str]:
    """What of ``stored`` does not serve ``wanted`` (both of :func:`settings`), in words."""
    found = []
    for name in ("holdout", "min_side", "max_share"):
        if stored[name] != wanted[name]:
            found.append(f"{name} is {stored[name]} in the shards and {wanted[name]} in the recipe")
    if stored["reach"] < wanted["reach"]:
        found.append(
            f"the crops reach {stored['reach']} px from the target and the recipe's search_size "
            f"and augmentation {wanted['reach']} px"
        )
    sources = stored["sources"], wanted["sources"]
    if len(sources[0]) != len(sources[1]):
        counts = map(len, sources)
        return [*found, "the shards have {} sources and the recipe {}".format(*counts)]
    for number, (a, b) in enumerate(zip(*sources, strict=True), 1):
        for name in sorted({*a, *b}):
            if a.get(name) != b.get(name):
                found.append(
                    f"source {number} has {name} {a.get(name)} in the shards and {b.get(name)} "
                    "in the recipe"
                )
    return found


def read_index(folder: Path) -> dict[str, Any]:
    """The index of finished shards.

    Raises:
        DataError: preparing has not finished, the index is another's or broken, or a shard is
            missing or of another size.
    """
    path = folder / INDEX
    if not path.is_file():
        raise DataError(f"the shards in {folder} are not finished; run siamkd prepare again")
    try:
        index: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if index["siamkd"]["format"] != FORMAT:
            raise DataError(f"{path} is of another version of siamkd; prepare the shards again")
        for shard in index["shardlist"]:
            file = folder / shard["url"]
            if not file.is_file() or file.stat().st_size != shard["filesize"]:
                raise DataError(
                    f"the shard {file} is missing or damaged: {path} lists it with "
                    f"{shard['filesize']} bytes; copy it again, or delete {INDEX} and the shard "
                    "and run siamkd prepare again"
                )
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path} is no index that siamkd prepare wrote ({error!r})") from error
    return index


def read_shards(folder: Path, config: PairsConfig, held_out: bool) -> list[StoredTargets]:
    """The targets of each source of ``config``, in its order: without the held-out ones, or only
    those.

    Raises:
        DataError: see :func:`read_index`; or the shards were prepared for other settings.
    """
    index = read_index(folder)
    stored = index["siamkd"]
    found = differences(stored["settings"], settings(config))
    if found:
        raise DataError(
            f"the shards in {folder} do not fit this recipe: {'; '.join(found)}. "
            "Prepare shards for it with siamkd prepare, or train with the recipe of the shards"
        )
    rows = np.load(folder / TABLE, mmap_mode="r")
    files = [folder / shard["url"] for shard in index["shardlist"]]
    return [
        StoredTargets(part, rows, files)
        for part in stored["parts"]
        if bool(part["held_out"]) == held_out
    ]
