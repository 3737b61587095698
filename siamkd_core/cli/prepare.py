"""``siamkd prepare CONFIG --data DIR --output DIR``"""

from __future__ import annotations

import argparse
import os

HELP = "cut a recipe's crops once into shards to train from; run again to resume"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("config", help="YAML recipe, such as config/train/siamfc.yaml")
    parser.add_argument("--data", required=True, help="folder the recipe's sources are found in")
    parser.add_argument("--output", required=True, help="folder for the shards; train --data DIR")
    parser.add_argument(
        "--workers", type=int, default=os.cpu_count() or 1, help="processes (default: all cores)"
    )
    parser.add_argument("--quality", type=int, default=90, help="of the JPEG crops (90)")
    parser.add_argument(
        "--random-boxes", type=int, default=8, help="boxes in each photograph without boxes (8)"
    )
    parser.add_argument("--shard-size", type=int, default=10_000, help="crops in a shard (10000)")


def run(args: argparse.Namespace) -> int:
    import time

    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    from siamkd_core.cli.run_options import load_recipe
    from siamkd_core.errors import ConfigError
    from siamkd_core.prepare import prepare
    from siamkd_core.shard_plan import PrepareConfig
    from siamkd_core.shards import UNREADABLE

    if args.workers < 0:
        raise ConfigError(f"--workers must not be negative, got {args.workers}")
    config = load_recipe(args.config).pairs
    how = PrepareConfig(args.quality, args.random_boxes, args.shard_size)
    columns = (TextColumn("targets"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    started = time.perf_counter()
    with Progress(*columns, TimeRemainingColumn()) as bar:
        task = bar.add_task("", total=None)

        def progress(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total)

        summary = prepare(config, args.data, args.output, how, args.workers, progress)
    seconds = time.perf_counter() - started
    print(
        f"{summary.crops} crops in {summary.shards} shards, {summary.bytes} bytes, "
        f"{summary.bytes / max(summary.crops, 1):.0f} bytes per crop"
    )
    if summary.written:
        speed = summary.written / seconds
        print(
            f"{summary.written} of them cut now, in {seconds:.1f} s: {speed:.0f} crops per second"
        )
    if summary.too_large:
        print(f"{summary.too_large} boxes were left out: they cover more than max_share")
    if summary.unreadable:
        listed = f"{args.output}/{UNREADABLE}"
        print(f"{summary.unreadable} images cannot be read and were skipped, see {listed}")
    print(f"next: siamkd train or distill {args.config} --data {args.output} --output <runs/name>")
    return 0
