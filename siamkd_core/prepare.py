"""Prepare a recipe's data: plan the shards, cut them in parallel, index them.

A shard is a function of the plan alone, so a run that was killed goes on with the shards that are
missing and ends with the same bytes.
"""

from __future__ import annotations

import importlib.util
import json
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from siamkd_core.cut import Job, is_finished, rows_file, save_array
from siamkd_core.cut_pool import run_jobs
from siamkd_core.errors import DataError, SiamkdError
from siamkd_core.modelfile import write_atomically
from siamkd_core.pairs import PairsConfig
from siamkd_core.sequences import Still
from siamkd_core.shard_plan import (
    SEED,
    Part,
    PrepareConfig,
    image_path,
    list_parts,
    list_targets,
    plan_of,
    shard_name,
    shard_ranges,
)
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


@dataclass(frozen=True)
class Summary:
    """What a folder of shards holds; ``written`` is the number of crops of this run."""

    crops: int
    written: int
    too_large: int
    unreadable: int
    shards: int
    bytes: int


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
    if importlib.util.find_spec("webdataset") is None:
        raise SiamkdError("siamkd prepare needs a library: pip install webdataset")
    output.mkdir(parents=True, exist_ok=True)
    parts = list_parts(config, data, how)
    _claim(output, plan_of(config, parts, data, how))
    if (output / INDEX).is_file():
        return _summary(read_index(output), 0)
    for stale in output.glob("*.part"):
        stale.unlink()
    ranges = shard_ranges(parts, how.shard_size)
    shards = [output / shard_name(part, start) for part, start, _ in ranges]
    left = [number for number, shard in enumerate(shards) if not is_finished(shard)]
    total = sum(stop - start for _, start, stop in ranges)
    finished = total - sum(ranges[n][2] - ranges[n][1] for n in left)
    whole = settings(config)
    template = Job(output, 0, [], whole["reach"], config.min_side, config.max_share, how.quality)
    jobs = (
        replace(template, shard=shards[n], number=n, targets=list_targets(ranges[n], data))
        for n in left
    )
    progress(finished, total)
    run_jobs(jobs, workers, lambda done: progress(finished + done, total))
    return _finish(output, parts, shards, left, whole, how, data)


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
    # a run may have been killed while it wrote the plan
    if any(file.name != PLAN + ".part" for file in output.iterdir()):
        raise DataError(f"{output} is not empty and holds no shards; choose another --output")
    write_atomically(path, json.dumps(plan, indent=1).encode())


def _finish(
    output: Path,
    parts: list[Part],
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
            broken.append(str(image_path(part.items[owner[row]], int(here["frame"][row]))))
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
