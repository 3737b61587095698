"""``siamkd train CONFIG --data DIR --output DIR``

With several GPUs: ``torchrun --nproc-per-node 4 -m siamkd_core train CONFIG ...``
"""

from __future__ import annotations

import argparse
import os
import subprocess
from pathlib import Path

from siamkd_core.errors import ConfigError

HELP = "train a tracker's network from a YAML recipe; run again to resume"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("config", help="YAML recipe, such as config/train/siamfc.yaml")
    parser.add_argument("--data", required=True, help="folder the recipe's sources are found in")
    parser.add_argument("--output", help="folder for checkpoints, curves and model")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    parser.add_argument("--precision", default="auto", help="auto, float32, bfloat16 or float16")
    parser.add_argument("--threads", type=int, help="CPU threads for the network")
    parser.add_argument(
        "--dry-run", action="store_true", help="two steps of everything in a temporary folder"
    )


def run(args: argparse.Namespace) -> int:
    import torch

    from siamkd_core.config import load_yaml
    from siamkd_core.interrupt import stop_on_signals
    from siamkd_core.run import dry_run
    from siamkd_core.train import TrainConfig, TrainTask, train

    if args.threads:
        torch.set_num_threads(args.threads)
    config = load_yaml(TrainConfig, args.config)
    if args.dry_run:
        dry_run(TrainTask, config, args.data, args.device, args.precision)
        say("dry run: ok")
        return 0
    if not args.output:
        raise ConfigError("name the folder of the run with --output")
    with stop_on_signals() as stop:
        model = train(
            config, args.data, args.output, args.device, args.precision, source_commit(), stop
        )
    say(f"{model}\nnext: siamkd calibrate {model} {args.data}/<sequences>, then siamkd evaluate")
    return 0


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
