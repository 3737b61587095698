"""Training pairs: an exemplar and a search region of the same target.

Pair number ``k`` is a function of the seed and ``k`` alone, so any number of workers, in any order,
before or after a resume, gives the same pairs.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence as Seq
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TypedDict

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from siamkd_core.augment import AugmentConfig, change_colours, random_linear
from siamkd_core.box import Box, FloatArray
from siamkd_core.crop import crop_square, exemplar_side, mean_colour
from siamkd_core.datasets import check_dataset, read_dataset
from siamkd_core.datasets.folders import read_folders
from siamkd_core.errors import ConfigError, DataError, ImageError
from siamkd_core.image import Image, read_image
from siamkd_core.sequences import (
    Sequence,
    Still,
    is_sequence_folder,
    read_photographs,
)
from siamkd_core.siamfc import EXEMPLAR_SIZE


@dataclass(frozen=True)
class SourceConfig:
    """Folders that are drawn from together.

    Attributes:
        folders: globs below the data folder, of sequence folders or folders with boxes.jsonl; of
            dataset roots where ``dataset`` is another.
        dataset: layout of the folders, one of `siamkd_core.datasets.DATASETS`.
        split: part of the dataset, if it has several.
        weight: share of the pairs, relative to the other sources.
        max_gap: most frames between the exemplar and the search region.
        random_boxes: the folders are of photographs; every pair's target is a random box in one,
            object or not (boxes that the folder may have are not used).
    """

    folders: tuple[str, ...]
    weight: float = 1.0
    max_gap: int = 100
    random_boxes: bool = False
    dataset: str = "folders"
    split: str = ""

    def __post_init__(self) -> None:
        try:
            check_dataset(self.dataset, self.split)
        except DataError as error:
            raise ConfigError(str(error)) from error
        if self.random_boxes and self.dataset != "folders":
            raise ConfigError("random_boxes is for folders of photographs, not for a dataset")


@dataclass(frozen=True)
class PairsConfig:
    """What pairs are made of.

    Attributes:
        sources: where they come from.
        holdout: names of sequences and still folders that are never trained on.
        search_size: side of the search crop in pixels (239 gives a 15x15 response).
        min_side: boxes with a shorter side, in pixels, are left out.
        max_share: boxes that cover more of the image are left out.
        augment: see :class:`siamkd_core.augment.AugmentConfig`.
    """

    sources: tuple[SourceConfig, ...] = (SourceConfig(("tracks/*", "stills/*")),)
    holdout: tuple[str, ...] = ()
    search_size: int = 239
    min_side: float = 8.0
    max_share: float = 0.8
    augment: AugmentConfig = field(default_factory=AugmentConfig)

    def __post_init__(self) -> None:
        if self.search_size < EXEMPLAR_SIZE:
            raise ConfigError(f"search_size must be at least {EXEMPLAR_SIZE}")
        if not self.sources or any(s.weight <= 0 or s.max_gap < 1 for s in self.sources):
            raise ConfigError("sources need a weight above 0 and a max_gap of at least 1")


class Pair(TypedDict):
    """exemplar (3, 127, 127) and search (3, S, S) uint8 BGR; offset (2,) float32: the target's
    x, y from the centre of the search region in its pixels; identity () int64: the same number
    for pairs cut from the same sequence or still."""

    exemplar: Tensor
    search: Tensor
    offset: Tensor
    identity: Tensor


@dataclass(frozen=True)
class Source:
    """The usable sequences and stills of a :class:`SourceConfig`."""

    config: SourceConfig
    items: tuple[Sequence | Still, ...]


def find_sources(root: str | Path, config: PairsConfig, held_out: bool = False) -> list[Source]:
    """List the sources below ``root``: without the held-out names, or (``held_out``) only those.

    Raises:
        DataError: a source that finds nothing usable, or a held-out name that does not exist.
    """
    root = Path(root)
    found, seen = [], set()
    for source in config.sources:
        items: list[Sequence | Still] = []
        for folder in sorted({p for glob in source.folders for p in root.glob(glob)}):
            read = _reader(folder, source)
            if read is None:
                continue
            seen.add(folder.name)
            if (folder.name in config.holdout) == held_out:
                items += read(folder)
        if items:
            found.append(Source(source, tuple(items)))
        elif not held_out:
            wanted = "sequence folder (img/ + groundtruth.txt) and no stills (boxes.jsonl)"
            if source.random_boxes:
                wanted = "photographs"
            elif source.dataset != "folders":
                wanted = f"folder of {source.dataset}"
            raise DataError(
                f"the source {', '.join(source.folders)} finds no {wanted} in {root}; "
                "name the data folder with --data"
            )
    missing = set(config.holdout) - seen
    if missing:
        raise DataError(f"held-out folders not found in {root}: {', '.join(sorted(missing))}")
    return found


def _reader(folder: Path, source: SourceConfig) -> Callable[[Path], Seq[Sequence | Still]] | None:
    """What reads this folder for this source; None if it holds nothing of the kind."""
    if source.random_boxes:
        return read_photographs if folder.is_dir() else None
    if source.dataset != "folders":
        return (
            partial(read_dataset, source.dataset, split=source.split) if folder.is_dir() else None
        )
    usable = (folder / "boxes.jsonl").is_file() or is_sequence_folder(folder)
    return read_folders if usable else None


def random_box(width: int, height: int, min_side: float, rng: np.random.Generator) -> Box:
    """A box inside an image of ``width`` x ``height``: sides log-uniform from ``min_side`` to half
    the image's, with an aspect ratio of at most 3, its place uniform."""
    limits = (max(min_side, 0.5 * width), max(min_side, 0.5 * height))
    w = min_side * (limits[0] / min_side) ** rng.random()
    low, high = max(min_side, w / 3), min(limits[1], 3 * w)
    h = low * (high / low) ** rng.random() if high > low else low
    x, y = rng.random(2) * (max(width - w, 0.0), max(height - h, 0.0))
    return Box(float(x), float(y), float(w), float(h))


class PairDataset(Dataset[Pair]):
    """Numbered training pairs.

    Args:
        sources: of :func:`find_sources`.
        config: crop sizes and augmentation.
        count: how many pairs there are.
        seed: of everything random.
        cache_bytes: decoded images are kept in memory up to this size, per worker.
    """

    def __init__(
        self,
        sources: Seq[Source],
        config: PairsConfig,
        count: int,
        seed: int = 0,
        cache_bytes: int = 0,
    ) -> None:
        if not sources:
            raise DataError("no data to make pairs of")
        self.sources = list(sources)
        self.config = config
        self.count = count
        self.seed = seed
        weights = np.array([s.config.weight for s in self.sources])
        self.shares = weights / weights.sum()
        self.starts = np.cumsum([0] + [len(s.items) for s in self.sources])
        self._cache: dict[Path, Image] = {}
        self._cache_left = cache_bytes

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, number: int) -> Pair:
        rng = np.random.default_rng((self.seed, number))
        # An unreadable image costs one draw; a folder of them is the user's to know about.
        for _ in range(20):
            kind = int(rng.choice(len(self.sources), p=self.shares))
            source = self.sources[kind]
            which = int(rng.integers(len(source.items)))
            item = source.items[which]
            try:
                drawn = (
                    self._from_still(item, source.config, rng)
                    if isinstance(item, Still)
                    else self._from_sequence(item, source.config.max_gap, rng)
                )
            except ImageError as error:
                broken = str(error)
                continue
            if drawn is None:
                broken = f"no usable box in {item}"[:200]
                continue
            return self._cut(*drawn, int(self.starts[kind]) + which, rng)
        raise DataError(f"20 draws in a row gave no pair; the last: {broken}")

    def _from_sequence(
        self, item: Sequence, max_gap: int, rng: np.random.Generator
    ) -> tuple[Image, Box, Image, Box] | None:
        present = np.flatnonzero(self._usable(item.boxes))
        if not len(present):
            return None
        z = int(rng.choice(present))
        near = present[np.abs(present - z) <= max_gap]
        x = int(rng.choice(near))
        image_z, image_x = self._read(item.frames[z]), self._read(item.frames[x])
        box_z, box_x = Box(*item.boxes[z]), Box(*item.boxes[x])
        if self._too_large(box_z, image_z) or self._too_large(box_x, image_x):
            return None
        return image_z, box_z, image_x, box_x

    def _from_still(
        self, item: Still, source: SourceConfig, rng: np.random.Generator
    ) -> tuple[Image, Box, Image, Box] | None:
        if source.random_boxes:
            image = self._read(item.path)
            box = random_box(image.shape[1], image.shape[0], self.config.min_side, rng)
            return image, box, image, box
        usable = np.flatnonzero(self._usable(item.boxes))
        if not len(usable):
            return None
        image = self._read(item.path)
        box = Box(*item.boxes[int(rng.choice(usable))])
        return None if self._too_large(box, image) else (image, box, image, box)

    def _usable(self, boxes: FloatArray) -> np.ndarray:
        with np.errstate(invalid="ignore"):
            return np.asarray((boxes[:, 2:] >= self.config.min_side).all(axis=1))

    def _too_large(self, box: Box, image: Image) -> bool:
        return bool(box.w * box.h > self.config.max_share * image.shape[0] * image.shape[1])

    def _cut(
        self,
        image_z: Image,
        box_z: Box,
        image_x: Image,
        box_x: Box,
        identity: int,
        rng: np.random.Generator,
    ) -> Pair:
        augment = self.config.augment
        flip, grey = rng.random() < augment.flip, rng.random() < augment.grey
        shift = rng.uniform(-augment.shift, augment.shift, 2)
        crops = []
        for image, box, size, offset in (
            (image_z, box_z, EXEMPLAR_SIZE, np.zeros(2)),
            (image_x, box_x, self.config.search_size, shift),
        ):
            linear = random_linear(augment, rng, flip)
            side = exemplar_side(box.w, box.h) * size / EXEMPLAR_SIZE
            # moving the square by -offset (in its own pixels) shows the target at +offset
            moved = -(linear @ offset) * side / size
            crop = crop_square(
                image,
                (box.cx + moved[0], box.cy + moved[1]),
                side,
                size,
                mean_colour(image),
                linear,
            )
            crop = change_colours(crop, augment, rng, grey)
            crops.append(torch.from_numpy(np.ascontiguousarray(crop.transpose(2, 0, 1))))
        return Pair(
            exemplar=crops[0],
            search=crops[1],
            offset=torch.tensor(shift, dtype=torch.float32),
            identity=torch.tensor(identity),
        )

    def _read(self, path: Path) -> Image:
        image = self._cache.get(path)
        if image is None:
            image = read_image(path)
            if image.nbytes <= self._cache_left:
                self._cache[path] = image
                self._cache_left -= image.nbytes
        return image
