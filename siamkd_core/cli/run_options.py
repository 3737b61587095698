"""What the verbs that run a recipe have in common: options, a dry run, the recipe itself."""

from __future__ import annotations

import argparse
import os
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from siamkd_core.errors import ConfigError

if TYPE_CHECKING:
    from siamkd_core.recipe import RecipeConfig
    from siamkd_core.run import C, TaskOf


def add_run_arguments(parser: argparse.ArgumentParser, example: str) -> None:
    """The options of ``train`` and ``distill``."""
    parser.add_argument("config", help=f"YAML recipe, such as {example}")
    parser.add_argument("--data", required=True, help="folder the recipe's sources are found in")
    parser.add_argument("--output", help="folder for checkpoints, curves and models")
    parser.add_argument("--seed", type=int, help="instead of the recipe's")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    parser.add_argument("--precision", default="auto", help="auto, float32, bfloat16 or float16")
    parser.add_argument("--threads", type=int, help="CPU threads for the network")
    parser.add_argument(
        "--dry-run", action="store_true", help="two steps of everything in a temporary folder"
    )


def run_recipe(args: argparse.Namespace, task_of: TaskOf[C], config: C) -> int:
    """Run it as the options say and print what came out and what comes next."""
    from siamkd_core.device import set_threads
    from siamkd_core.interrupt import stop_on_signals
    from siamkd_core.run import dry_run, run

    set_threads(args.threads)
    if args.seed is not None:
        config = replace(config, seed=args.seed)
    if args.dry_run:
        dry_run(task_of, config, args.data, args.device, args.precision)
        say("dry run: ok")
        return 0
    if not args.output:
        raise ConfigError("name the folder of the run with --output")
    with stop_on_signals() as stop:
        models = run(
            task_of,
            config,
            args.data,
            args.output,
            args.device,
            args.precision,
            source_commit(),
            stop,
        )
    for model in models:
        say(str(model))
    say(f"next: siamkd calibrate {models[0]} <sequences>, then siamkd evaluate")
    return 0


def load_recipe(path: str | Path) -> RecipeConfig:
    """A recipe of ``train`` or of ``distill``, which names a teacher."""
    import yaml

    from siamkd_core.config import load_yaml
    from siamkd_core.distill_config import DistillConfig
    from siamkd_core.train import TrainConfig

    try:
        values = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError):
        values = None  # the reader below says what is wrong
    distils = isinstance(values, dict) and "teacher" in values
    return load_yaml(DistillConfig if distils else TrainConfig, path)


def say(text: str) -> None:
    """Print it once, not in every process that torchrun started."""
    if os.environ.get("RANK", "0") == "0":
        print(text)


def source_commit() -> str:
    """Commit of the code that runs, with ``+changes`` if files differ; unknown outside git."""
    here = Path(__file__).resolve().parent
    try:
        found = subprocess.run(
            ["git", "describe", "--always", "--abbrev=12", "--dirty=+changes"],
            cwd=here,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return found.stdout.strip()
