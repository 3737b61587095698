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
from typing import NamedTuple, TypedDict

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from siamkd_core.augment import AugmentConfig, change_colours, occlude, random_linear
from siamkd_core.box import Box
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
from siamkd_core.shards import StoredTarget, is_shard_folder, read_shards
from siamkd_core.siamfc import EXEMPLAR_SIZE
from siamkd_core.views import View, look, random_box, usable


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
        holdout: names that are never trained on: of sequences, of those in a published dataset
            too, of folders with stills, or of whole dataset roots.
        search_size: side of the search crop in pixels (239 gives a 15x15 response).
        min_side: boxes with a shorter side, in pixels, are left out.
        max_share: boxes that cover more of the image are left out.
        negative: probability that the search region shows another target than the exemplar.
        augment: see :class:`siamkd_core.augment.AugmentConfig`.
    """

    sources: tuple[SourceConfig, ...] = (SourceConfig(("tracks/*", "stills/*")),)
    holdout: tuple[str, ...] = ()
    search_size: int = 239
    min_side: float = 8.0
    max_share: float = 0.8
    negative: float = 0.0
    augment: AugmentConfig = field(default_factory=AugmentConfig)

    def __post_init__(self) -> None:
        if self.search_size < EXEMPLAR_SIZE:
            raise ConfigError(f"search_size must be at least {EXEMPLAR_SIZE}")
        if not self.sources or any(s.weight <= 0 or s.max_gap < 1 for s in self.sources):
            raise ConfigError("sources need a weight above 0 and a max_gap of at least 1")
        if not 0 <= self.negative <= 1:
            raise ConfigError(f"negative must lie in 0..1, got {self.negative}")


class Pair(TypedDict):
    """exemplar (3, 127, 127) and search (3, S, S) uint8 BGR; offset (2,) float32: the exemplar's
    target, x, y from the centre of the search region in its pixels, nan in a negative pair (it is
    not there); box (4,) float32: x, y, w, h of that target in the search region's pixels (of a
    rotated one: the box around it), nan likewise; shape (2,) float32: width and height of the
    exemplar's target in the exemplar's pixels; identity (2,) int64: number of the sequence or
    still that the exemplar and the search region were cut from, two different ones in a negative
    pair; number () int64: of the pair."""

    exemplar: Tensor
    search: Tensor
    offset: Tensor
    box: Tensor
    shape: Tensor
    identity: Tensor
    number: Tensor


class Drawn(NamedTuple):
    """Two views of one target; ``frames`` are their numbers in a sequence, or twice the number of
    the box in a still; ``name`` is the sequence's or the image file's."""

    exemplar: View
    search: View
    frames: tuple[int, int]
    identity: int
    source: SourceConfig
    name: str
    is_still: bool


class PairDetail(NamedTuple):
    """A pair with what people want to know of it: where both crops come from, and the targets'
    boxes in their pixels (of a rotated crop: the box around the box)."""

    pair: Pair
    exemplar: Drawn
    search: Drawn
    boxes: tuple[Box, Box]


@dataclass(frozen=True)
class Source:
    """The usable sequences and stills of a :class:`SourceConfig`."""

    config: SourceConfig
    items: Seq[Sequence | Still | StoredTarget]


def find_sources(root: str | Path, config: PairsConfig, held_out: bool = False) -> list[Source]:
    """List the sources below ``root``: without the held-out names, or (``held_out``) only those.

    ``root`` may be a folder of shards that ``siamkd prepare`` wrote.

    Raises:
        DataError: a source that finds nothing usable, a held-out name that does not exist, or
            shards that were prepared for other settings.
    """
    root = Path(root)
    if is_shard_folder(root):
        stored = zip(config.sources, read_shards(root, config, held_out), strict=True)
        return [Source(source, items) for source, items in stored if items]
    found, seen = [], set()
    for source in config.sources:
        items: list[Sequence | Still] = []
        others = 0
        for folder in sorted({p for glob in source.folders for p in root.glob(glob)}):
            read = _reader(folder, source)
            if read is None:
                continue
            seen.add(folder.name)
            whole = folder.name in config.holdout
            for item in read(folder):
                # a sequence of a dataset, or a target of a folder, may be held out by itself
                name = item.name if isinstance(item, Sequence) else folder.name
                seen.add(name)
                if (whole or name in config.holdout) == held_out:
                    items.append(item)
                else:
                    others += 1
        if items:
            found.append(Source(source, tuple(items)))
        elif not held_out and not others:
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
        raise DataError(f"held-out names not found in {root}: {', '.join(sorted(missing))}")
    if not found and not held_out:
        raise DataError(f"everything in {root} that the sources find is held out: nothing is left")
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


def _two_frames(
    present: NDArray[np.integer], max_gap: int, rng: np.random.Generator
) -> tuple[int, int]:
    """Two of the frame numbers ``present`` (increasing), at most ``max_gap`` apart."""
    z = int(rng.choice(present))
    return z, int(rng.choice(present[np.abs(present - z) <= max_gap]))


_Views = tuple[View, View, tuple[int, int]] | None


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
        if config.negative and self.starts[-1] < 2:
            raise DataError("negative pairs need two targets, and the data has one")
        self._cache: dict[Path, Image] = {}
        self._cache_left = cache_bytes

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, number: int) -> Pair:
        return self.detail(number).pair

    def detail(self, number: int) -> PairDetail:
        """Pair ``number`` with its origin."""
        rng = np.random.default_rng((self.seed, number))
        negative = bool(self.config.negative) and rng.random() < self.config.negative
        exemplar = search = self._draw(rng)
        if negative:
            search = self._draw(rng, unlike=exemplar.identity)
        return self._cut(exemplar, search, rng, number)

    def _draw(self, rng: np.random.Generator, unlike: int | None = None) -> Drawn:
        """Two views of a random target, that is not the one of the identity ``unlike``."""
        # An unreadable image costs one draw; a folder of them is the user's to know about.
        failures = 0
        while failures < 20:
            kind = int(rng.choice(len(self.sources), p=self.shares))
            source = self.sources[kind]
            which = int(rng.integers(len(source.items)))
            identity = int(self.starts[kind]) + which
            if identity == unlike:
                continue
            item = source.items[which]
            try:
                if isinstance(item, StoredTarget):
                    views = self._from_shards(item, source.config.max_gap, rng)
                elif isinstance(item, Still):
                    views = self._from_still(item, source.config, rng)
                else:
                    views = self._from_sequence(item, source.config.max_gap, rng)
            except ImageError as error:
                broken = str(error)
            else:
                name = item.path.name if isinstance(item, Still) else item.name
                still = item.is_still if isinstance(item, StoredTarget) else isinstance(item, Still)
                if views is not None:
                    return Drawn(*views, identity, source.config, name, still)
                broken = f"no usable box in {name}"
            failures += 1
        raise DataError(f"20 draws in a row gave no pair; the last: {broken}")

    def _from_sequence(self, item: Sequence, max_gap: int, rng: np.random.Generator) -> _Views:
        present = np.flatnonzero(usable(item.boxes, self.config.min_side))
        if not len(present):
            return None
        z, x = _two_frames(present, max_gap, rng)
        share = self.config.max_share
        images = self._read(item.frames[z]), self._read(item.frames[x])
        exemplar = look(images[0], Box(*item.boxes[z]), share)
        search = look(images[1], Box(*item.boxes[x]), share)
        return (exemplar, search, (z, x)) if exemplar and search else None

    def _from_still(self, item: Still, source: SourceConfig, rng: np.random.Generator) -> _Views:
        if source.random_boxes:
            image = self._read(item.path)
            box = random_box(image.shape[1], image.shape[0], self.config.min_side, rng)
            drawn = View(image, box, mean_colour(image))
            return drawn, drawn, (0, 0)
        numbers = np.flatnonzero(usable(item.boxes, self.config.min_side))
        if not len(numbers):
            return None
        which = int(rng.choice(numbers))
        view = look(self._read(item.path), Box(*item.boxes[which]), self.config.max_share)
        return (view, view, (which, which)) if view else None

    def _from_shards(self, item: StoredTarget, max_gap: int, rng: np.random.Generator) -> _Views:
        frames = item.frames
        if not len(frames):
            return None
        if item.is_still:
            z = x = int(rng.choice(frames))
        else:
            z, x = _two_frames(frames, max_gap, rng)
        exemplar, search = item.view(z), item.view(x)
        return (exemplar, search, (z, x)) if exemplar and search else None

    def _cut(
        self, exemplar: Drawn, search: Drawn, rng: np.random.Generator, number: int
    ) -> PairDetail:
        augment = self.config.augment
        flip, grey = rng.random() < augment.flip, rng.random() < augment.grey
        shift = rng.uniform(-augment.shift, augment.shift, 2)
        crops, boxes = [], []
        for view, size, offset, hide in (
            (exemplar.exemplar, EXEMPLAR_SIZE, np.zeros(2), 0.0),
            (search.search, self.config.search_size, shift, augment.occlude),
        ):
            box = view.box
            linear = random_linear(augment, rng, flip)
            side = exemplar_side(box.w, box.h) * size / EXEMPLAR_SIZE
            # moving the square by -offset (in its own pixels) shows the target at +offset
            moved = -(linear @ offset) * side / size
            crop = crop_square(
                view.image,
                (box.cx + moved[0], box.cy + moved[1]),
                side,
                size,
                view.fill,
                linear,
            )
            extent = np.abs(np.linalg.inv(linear)) @ (box.w, box.h) * size / side
            seen = Box.from_center(*(size / 2 + offset), *extent)
            if hide and rng.random() < hide:
                crop = occlude(crop, seen, view.fill, rng)
            crop = change_colours(crop, augment, rng, grey)
            crops.append(torch.from_numpy(np.ascontiguousarray(crop.transpose(2, 0, 1))))
            boxes.append(Box(*map(float, seen)))
        negative = exemplar.identity != search.identity
        pair = Pair(
            exemplar=crops[0],
            search=crops[1],
            offset=torch.tensor([np.nan] * 2 if negative else shift, dtype=torch.float32),
            box=torch.tensor([np.nan] * 4 if negative else boxes[1], dtype=torch.float32),
            shape=torch.tensor(boxes[0][2:], dtype=torch.float32),
            number=torch.tensor(number),
            identity=torch.tensor([exemplar.identity, search.identity]),
        )
        return PairDetail(pair, exemplar, search, (boxes[0], boxes[1]))

    def _read(self, path: Path) -> Image:
        image = self._cache.get(path)
        if image is None:
            image = read_image(path)
            if image.nbytes <= self._cache_left:
                self._cache[path] = image
                self._cache_left -= image.nbytes
        return image
