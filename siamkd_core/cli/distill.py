"""``siamkd distill CONFIG --data DIR --output DIR``

With several GPUs: ``torchrun --nproc-per-node 4 -m siamkd_core distill CONFIG ...``
"""

from __future__ import annotations

import argparse

from siamkd_core.cli.run_options import add_run_arguments, run_recipe

HELP = "train small networks to track as a large one does; run again to resume"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_run_arguments(parser, "config/distill/dstfc.yaml")


def run(args: argparse.Namespace) -> int:
    from siamkd_core.config import load_yaml
    from siamkd_core.distill import DistillTask, with_teacher
    from siamkd_core.distill_config import DistillConfig

    return run_recipe(args, DistillTask, with_teacher(load_yaml(DistillConfig, args.config)))
