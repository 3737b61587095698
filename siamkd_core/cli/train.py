"""``siamkd train CONFIG --data DIR --output DIR``

With several GPUs: ``torchrun --nproc-per-node 4 -m siamkd_core train CONFIG ...``
"""

from __future__ import annotations

import argparse

from siamkd_core.cli.run_options import add_run_arguments, run_recipe

HELP = "train a tracker's network from a YAML recipe; run again to resume"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_run_arguments(parser, "config/train/siamfc.yaml")


def run(args: argparse.Namespace) -> int:
    from siamkd_core.config import load_yaml
    from siamkd_core.train import TrainConfig, TrainTask

    return run_recipe(args, TrainTask, load_yaml(TrainConfig, args.config))
