"""The plan of shards: which targets a recipe has, and which shard each of them goes to."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from siamkd_core.box import Box
from siamkd_core.cut import Target
from siamkd_core.errors import ConfigError
from siamkd_core.pairs import PairsConfig, SourceConfig, find_sources
from siamkd_core.sequences import Sequence, Still
from siamkd_core.shards import FORMAT, settings
from siamkd_core.views import usable

SEED = 0
"""Of the random boxes."""


@dataclass(frozen=True)
class PrepareConfig:
    """How the crops are stored.

    Attributes:
        quality: of the JPEG crops, 1..100.
        random_boxes: boxes drawn in each photograph of a source with ``random_boxes``.
        shard_size: most crops in a shard.
    """

    quality: int = 90
    random_boxes: int = 8
    shard_size: int = 10_000

    def __post_init__(self) -> None:
        if not 1 <= self.quality <= 100 or self.random_boxes < 1 or self.shard_size < 1:
            raise ConfigError("quality must lie in 1..100; random boxes and shard size above 0")


@dataclass(frozen=True)
class Part:
    """The items of one source, trained on or held out; ``frames`` has the numbers to cut of each:
    frames of a sequence, boxes of a still."""

    source: int
    held_out: bool
    config: SourceConfig
    items: tuple[Sequence | Still, ...]
    frames: list[NDArray[np.integer]]


def list_parts(config: PairsConfig, data: Path, how: PrepareConfig) -> list[Part]:
    """Every source twice: what is trained on, and what is held out (perhaps nothing)."""
    parts = []
    for held_out in (False, True):
        found = {id(s.config): s.items for s in find_sources(data, config, held_out)}
        for number, source in enumerate(config.sources):
            items = cast(tuple[Sequence | Still, ...], tuple(found.get(id(source), ())))
            frames: list[NDArray[np.integer]] = [
                np.arange(how.random_boxes)
                if source.random_boxes
                else np.flatnonzero(usable(item.boxes, config.min_side))
                for item in items
            ]
            parts.append(Part(number, held_out, source, items, frames))
    return parts


def plan_of(
    config: PairsConfig, parts: list[Part], data: Path, how: PrepareConfig
) -> dict[str, Any]:
    """What decides on the bytes of the shards, with a hash in place of the list of targets."""
    listed = hashlib.sha256()
    for part in parts:
        for item, frames in zip(part.items, part.frames, strict=True):
            name = os.path.relpath(item.path, data) if isinstance(item, Still) else item.name
            listed.update(f"{name}\n".encode())
            listed.update(np.asarray(frames, np.int64).tobytes() + item.boxes.tobytes())
    return {
        "format": FORMAT,
        **settings(config),
        "quality": how.quality,
        "random_boxes": how.random_boxes,
        "shard_size": how.shard_size,
        "annotations_sha256": listed.hexdigest(),
    }


def shard_ranges(parts: list[Part], size: int) -> list[tuple[Part, int, int]]:
    """(part, first row, end) of every shard, in the order of the table."""
    ranges = []
    for part in parts:
        count = sum(map(len, part.frames))
        ranges += [(part, start, min(start + size, count)) for start in range(0, count, size)]
    return ranges


def shard_name(part: Part, start: int) -> str:
    return f"{_prefix(part)}_{start:08d}.tar"


def _prefix(part: Part) -> str:
    return f"{part.source:02d}_{'held' if part.held_out else 'train'}"


def list_targets(one: tuple[Part, int, int], data: Path) -> list[Target]:
    part, start, stop = one
    prefix = _prefix(part)
    ends = np.cumsum([len(frames) for frames in part.frames])
    targets = []
    for row in range(start, stop):
        which = int(np.searchsorted(ends, row, side="right"))
        item = part.items[which]
        frame = int(part.frames[which][row - (ends[which] - len(part.frames[which]))])
        path = image_path(item, frame)
        targets.append(
            Target(
                f"{prefix}_{which:07d}_{frame:06d}",
                path,
                frame,
                None if part.config.random_boxes else Box(*item.boxes[frame].tolist()),
                (SEED, part.source, int(part.held_out), which, frame),
                {
                    "source": ", ".join(part.config.folders),
                    "track": None if isinstance(item, Still) else item.name,
                    "file": os.path.relpath(path, data),
                },
            )
        )
    return targets


def image_path(item: Sequence | Still, frame: int) -> Path:
    return item.path if isinstance(item, Still) else item.frames[frame]
