"""Pairs per second of a training: its input alone, its model alone, and both.

    python tools/measure_training.py RECIPE [RECIPE ...] --data DIR [DIR ...]
        [--workers 0 1 2] [--processes 1 2] [--precision auto float32] [--device auto]

Every combination is measured in processes of its own, in several rounds that take turns, so that
all of them see the same machine; the table has the medians and their ratio to the first row.
Recipes that read something else than the first --data are given their own, in the same order.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parent.parent
PARTS = ("input", "model", "both")


class Case(NamedTuple):
    """A row of the table."""

    recipe: str
    data: str
    workers: int
    processes: int
    precision: str


def main() -> int:
    parser = argparse.ArgumentParser(description="Pairs per second of a training.")
    parser.add_argument("recipes", nargs="+", help="YAML recipes, the plain one first")
    parser.add_argument("--data", nargs="+", required=True, help="one folder, or one per recipe")
    parser.add_argument("--workers", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--processes", nargs="+", type=int, default=[1])
    parser.add_argument("--precision", nargs="+", default=["auto"])
    parser.add_argument("--device", default="auto")
    parser.add_argument("--threads", type=int, default=0, help="CPU threads a process; 0: all")
    parser.add_argument("--seconds", type=float, default=10.0, help="for each figure and round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if len(args.data) not in (1, len(args.recipes)):
        parser.error("--data needs one folder, or one for each recipe")
    folders = args.data * len(args.recipes) if len(args.data) == 1 else args.data
    cases = [
        Case(recipe, folder, *rest)
        for recipe, folder in zip(args.recipes, folders, strict=True)
        for rest in itertools.product(args.workers, args.processes, args.precision)
    ]
    if args.child:
        measure(cases[0], args)
        return 0
    results: dict[Case, list[dict[str, Any]]] = {case: [] for case in cases}
    for number, case in itertools.product(range(args.rounds), cases):
        print(f"round {number + 1}/{args.rounds}: {case}", file=sys.stderr)
        results[case].append(start(case, args))
    print(markdown(results))
    return 0


def start(case: Case, args: argparse.Namespace) -> dict[str, Any]:
    """Measure a case once in processes of its own."""
    command = [sys.executable]
    if case.processes > 1:
        command += ["-m", "torch.distributed.run", "--standalone"]
        command += ["--nproc-per-node", str(case.processes)]
    command += [__file__, case.recipe, "--data", case.data, "--child"]
    command += ["--workers", str(case.workers), "--precision", case.precision]
    command += ["--device", args.device, "--seconds", str(args.seconds)]
    # torchrun gives each process one thread unless it is told otherwise
    threads = args.threads or max(1, (os.cpu_count() or 1) // case.processes)
    command += ["--threads", str(threads)]
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        command, env={**os.environ, "PYTHONPATH": path}, stdout=subprocess.PIPE, text=True
    )
    if done.returncode:
        raise SystemExit(f"failed: {' '.join(command)}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def measure(case: Case, args: argparse.Namespace) -> None:
    """Print the pairs per second of all processes together, as JSON, in the first process."""
    import torch

    from siamkd_core.batches import load_batches
    from siamkd_core.config import load_yaml
    from siamkd_core.device import resolve_precision
    from siamkd_core.distributed import joined, rank, size, total
    from siamkd_core.learner import Learner
    from siamkd_core.runfolder import environment
    from siamkd_core.train import TrainConfig, TrainTask

    if args.threads:
        torch.set_num_threads(args.threads)
    config = load_yaml(TrainConfig, case.recipe)
    # enough steps that no measurement reaches the end; no validation
    config = replace(
        config, workers=case.workers, epochs=1000, validation_pairs=0, tracking_every=0
    )
    with ExitStack() as stack:
        device = stack.enter_context(joined(args.device))
        dtype = resolve_precision(case.precision, device)
        task = TrainTask(config, case.data, device, dtype, "unknown")
        learner = Learner(config, task, device, dtype)
        learner.start_epoch(0)
        batches = stack.enter_context(closing(load_batches(config, task, device, 0)))
        fixed = next(batches)
        steps: Iterator[int] = itertools.count()

        def rate(step: Callable[[], object], warm_up: int = 3) -> float:
            for _ in range(warm_up):
                step()
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            began, count = time.perf_counter(), 0
            # a sum, so that all processes take equally many steps
            while total(torch.tensor(time.perf_counter() - began, device=device)) < (
                args.seconds * size()
            ):
                step()
                count += 1
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            return count * config.batch_size / (time.perf_counter() - began)

        found: dict[str, Any] = {
            "model": rate(lambda: learner.step(fixed, next(steps), config.lr)),
            "both": rate(lambda: learner.step(next(batches), next(steps), config.lr)),
            # its warm-up takes what the workers made ahead while the model was slow
            "input": rate(lambda: next(batches), 3 + 4 * config.workers),
        }
        name = torch.cuda.get_device_name(device) if device.type == "cuda" else processor()
        found |= {"device": name, "dtype": str(dtype).removeprefix("torch."), **environment()}
        if rank() == 0:
            print(json.dumps(found))


def processor() -> str:
    """The CPU's name and how many cores this machine has."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else platform.processor()}, {os.cpu_count()} cores"


def markdown(results: dict[Case, list[dict[str, Any]]]) -> str:
    """A table of medians, with the ratio of `both` to that of the first row."""
    first = next(iter(results.values()))[0]
    lines = [
        f"{first['device']}; PyTorch {first['torch']}, OpenCV {first['opencv']}, Python "
        f"{first['python']}. Pairs per second over all processes, medians of "
        f"{len(next(iter(results.values())))} rounds.",
        "",
        "| recipe | workers | processes | precision | input | model | both | ratio |",
        "|---|---:|---:|---|---:|---:|---:|---:|",
    ]
    reference = 0.0
    for case, rounds in results.items():
        medians = {part: statistics.median(one[part] for one in rounds) for part in PARTS}
        reference = reference or medians["both"]
        figures = " | ".join(f"{medians[part]:.1f}" for part in PARTS)
        lines.append(
            f"| {Path(case.recipe).stem} | {case.workers} | {case.processes} | "
            f"{rounds[0]['dtype']} | {figures} | {medians['both'] / reference:.2f} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
