"""Prepare a recipe's data: plan the shards, cut them in parallel, index them.

A shard is a function of the plan alone, so a run that was killed goes on with the shards that are
missing and ends with the same bytes.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from siamkd_core.box import Box
from siamkd_core.cut import Job, Target, is_finished, rows_file, save_array, write_shard
from siamkd_core.errors import ConfigError, DataError
from siamkd_core.modelfile import write_atomically
from siamkd_core.pairs import PairsConfig, SourceConfig, find_sources
from siamkd_core.sequences import Sequence, Still
from siamkd_core.shards import (
    FORMAT,
    INDEX,
    NOT_READ,
    PLAN,
    ROW,
    STORED,
    TABLE,
    UNREADABLE,
    is_shard_folder,
    read_index,
    settings,
)
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
class Summary:
    """What a folder of shards holds; ``written`` is the number of crops of this run."""

    crops: int
    written: int
    too_large: int
    unreadable: int
    shards: int
    bytes: int


@dataclass(frozen=True)
class _Part:
    """The items of one source, trained on or held out; ``frames`` has the numbers to cut of each:
    frames of a sequence, boxes of a still."""

    source: int
    held_out: bool
    config: SourceConfig
    items: tuple[Sequence | Still, ...]
    frames: list[NDArray[np.integer]]


def prepare(
    config: PairsConfig,
    data: str | Path,
    output: str | Path,
    how: PrepareConfig | None = None,
    workers: int = 0,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Summary:
    """Cut every target of the recipe's sources into shards, or go on where a run ended.

    Args:
        config: the recipe's ``pairs``.
        data: folder that its sources are found in.
        output: folder of the shards; holds nothing else.
        how: crops and shards.
        workers: processes that cut; 0 cuts in this one.
        progress: called with the number of targets done and of all.

    Raises:
        SiamkdError: bad data, an ``output`` of another recipe or of other data, a full disk.
    """
    data, output, how = Path(data), Path(output), how or PrepareConfig()
    if is_shard_folder(data):
        raise DataError(f"{data} is a folder of shards; --data is where the images are")
    output.mkdir(parents=True, exist_ok=True)
    parts = _parts(config, data, how)
    _claim(output, _plan(config, parts, data, how))
    if (output / INDEX).is_file():
        return _summary(read_index(output), 0)
    for stale in output.glob("*.part"):
        stale.unlink()
    ranges = _ranges(parts, how.shard_size)
    shards = [output / _shard_name(*one) for one in ranges]
    left = [number for number, shard in enumerate(shards) if not is_finished(shard)]
    total = sum(stop - start for _, start, stop in ranges)
    finished = total - sum(ranges[n][2] - ranges[n][1] for n in left)
    whole = settings(config)
    template = Job(output, 0, [], whole["reach"], config.min_side, config.max_share, how.quality)
    jobs = (
        replace(template, shard=shards[n], number=n, targets=_targets(ranges[n], data))
        for n in left
    )
    progress(finished, total)
    _run(jobs, workers, lambda done: progress(finished + done, total))
    return _finish(output, parts, shards, left, whole, how, data)


def _parts(config: PairsConfig, data: Path, how: PrepareConfig) -> list[_Part]:
    """Every source twice: what is trained on, and what is held out (perhaps nothing)."""
    parts = []
    for held_out in (False, True):
        found = {id(s.config): s.items for s in find_sources(data, config, held_out)}
        for number, source in enumerate(config.sources):
            items = tuple(i for i in found.get(id(source), ()) if isinstance(i, Sequence | Still))
            frames: list[NDArray[np.integer]] = [
                np.arange(how.random_boxes)
                if source.random_boxes
                else np.flatnonzero(usable(item.boxes, config.min_side))
                for item in items
            ]
            parts.append(_Part(number, held_out, source, items, frames))
    return parts


def _plan(
    config: PairsConfig, parts: list[_Part], data: Path, how: PrepareConfig
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


def _claim(output: Path, plan: dict[str, Any]) -> None:
    """Write the plan into an empty folder; refuse one with another plan or with other files."""
    path = output / PLAN
    if path.is_file():
        before = json.loads(path.read_text(encoding="utf-8"))
        changed = sorted(k for k in {*plan, *before} if plan.get(k) != before.get(k))
        if changed:
            raise DataError(
                f"{output} holds shards of another plan (changed: {', '.join(changed)}); "
                "choose another --output, or delete the folder"
            )
        return
    if any(output.iterdir()):
        raise DataError(f"{output} is not empty and holds no shards; choose another --output")
    write_atomically(path, json.dumps(plan, indent=1).encode())


def _ranges(parts: list[_Part], size: int) -> list[tuple[_Part, int, int]]:
    """(part, first row, end) of every shard, in the order of the table."""
    ranges = []
    for part in parts:
        count = sum(map(len, part.frames))
        ranges += [(part, start, min(start + size, count)) for start in range(0, count, size)]
    return ranges


def _shard_name(part: _Part, start: int, stop: int) -> str:
    return f"{_prefix(part)}_{start:08d}.tar"


def _prefix(part: _Part) -> str:
    return f"{part.source:02d}_{'held' if part.held_out else 'train'}"


def _targets(one: tuple[_Part, int, int], data: Path) -> list[Target]:
    part, start, stop = one
    prefix = _prefix(part)
    ends = np.cumsum([len(frames) for frames in part.frames])
    targets = []
    for row in range(start, stop):
        which = int(np.searchsorted(ends, row, side="right"))
        item = part.items[which]
        frame = int(part.frames[which][row - (ends[which] - len(part.frames[which]))])
        path = _path(item, frame)
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


def _path(item: Sequence | Still, frame: int) -> Path:
    return item.path if isinstance(item, Still) else item.frames[frame]


def _run(jobs: Iterator[Job], workers: int, progress: Callable[[int], None]) -> None:
    """Do all jobs, here or in ``workers`` processes; ``progress`` gets the targets done so far."""
    done = 0
    if not workers:

        def advance(count: int) -> None:
            nonlocal done
            done += count
            progress(done)

        for job in jobs:
            write_shard(job, advance)
        return
    # not forked from this process, which has threads; the server imports once, for all workers
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["siamkd_core.cut", "webdataset"])
    counter = context.Value("q", 0)
    with ProcessPoolExecutor(workers, context, _begin, (counter,)) as pool:
        # two jobs a worker: the list of a hundred million targets never lies in memory
        running: set[Future[None]] = {pool.submit(_work, job) for job in islice(jobs, 2 * workers)}
        try:
            while running:
                ready, running = wait(running, 0.5, FIRST_COMPLETED)
                for future in ready:
                    future.result()
                running |= {pool.submit(_work, job) for job in islice(jobs, len(ready))}
                progress(counter.value)
        except BrokenProcessPool as error:
            raise DataError(
                "a worker was killed (out of memory?); the finished shards are kept: "
                "run again with fewer --workers to go on"
            ) from error
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


_counter: Any = None


def _begin(counter: Any) -> None:
    """Set up a worker: one thread, and an end when its parent is killed."""
    global _counter
    _counter = counter
    cv2.setNumThreads(1)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    parent = multiprocessing.parent_process()
    if parent is not None:

        def follow() -> None:
            parent.join()
            os._exit(1)

        threading.Thread(target=follow, daemon=True).start()


def _work(job: Job) -> None:
    def advance(count: int) -> None:
        with _counter.get_lock():
            _counter.value += count

    write_shard(job, advance)


def _finish(
    output: Path,
    parts: list[_Part],
    shards: list[Path],
    new: list[int],
    whole: dict[str, Any],
    how: PrepareConfig,
    data: Path,
) -> Summary:
    """Join the tables of the shards, write the index, and list the images that were not read."""
    tables = [np.load(rows_file(shard)) for shard in shards]
    rows = np.concatenate([np.zeros(0, ROW), *tables])
    described, first, broken = [], 0, []
    for part in parts:
        counts = [len(frames) for frames in part.frames]
        here = rows[first : first + sum(counts)]
        owner = np.repeat(np.arange(len(counts)), counts)
        for row in np.flatnonzero(here["status"] == NOT_READ):
            broken.append(str(_path(part.items[owner[row]], int(here["frame"][row]))))
        described.append(
            {
                "source": part.source,
                "held_out": part.held_out,
                "first_row": first,
                "names": [i.path.name if isinstance(i, Still) else i.name for i in part.items],
                "is_still": [int(isinstance(item, Still)) for item in part.items],
                "rows": counts,
            }
        )
        first += sum(counts)
    broken = sorted(os.path.relpath(path, data) for path in set(broken))
    stored = [int((table["status"] == STORED).sum()) for table in tables]
    index = {
        "__kind__": "wids-shard-index-v1",
        "wids_version": 1,
        "name": "siamkd",
        "shardlist": [
            {"url": shard.name, "nsamples": count, "filesize": shard.stat().st_size}
            for shard, count in zip(shards, stored, strict=True)
        ],
        "siamkd": {
            "format": FORMAT,
            "settings": whole,
            "quality": how.quality,
            "random_boxes": how.random_boxes,
            "random_boxes_seed": SEED,
            "targets": len(rows),
            "crops": sum(stored),
            "unreadable_images": len(broken),
            "too_large": int(len(rows) - sum(stored) - (rows["status"] == NOT_READ).sum()),
            "parts": described,
        },
    }
    try:
        save_array(rows, output / TABLE)
        if broken:
            write_atomically(output / UNREADABLE, ("\n".join(broken) + "\n").encode())
        write_atomically(output / INDEX, json.dumps(index).encode())
    except OSError as error:
        raise DataError(f"cannot write the index in {output}: {error.strerror}") from error
    for shard in shards:
        rows_file(shard).unlink()
    return _summary(index, sum(stored[number] for number in new))


def _summary(index: dict[str, Any], written: int) -> Summary:
    facts = index["siamkd"]
    return Summary(
        facts["crops"],
        written,
        facts["too_large"],
        facts["unreadable_images"],
        len(index["shardlist"]),
        sum(shard["filesize"] for shard in index["shardlist"]),
    )
