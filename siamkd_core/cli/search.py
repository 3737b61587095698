"""``siamkd search CONFIG --data DIR --output DIR``"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.table import Table

    from siamkd_core.shape_search import Step

HELP = "find a student's widths by reinforcement learning; run again to resume"
BEST, PICTURE = "best.yaml", "search.png"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("config", help="YAML of the search, such as config/search/dstfc.yaml")
    parser.add_argument("--data", required=True, help="folder the recipe's sources are found in")
    parser.add_argument("--output", required=True, help="folder for what is found")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    parser.add_argument("--precision", default="auto", help="auto, float32, bfloat16 or float16")
    parser.add_argument("--threads", type=int, help="CPU threads for the networks")


def run(args: argparse.Namespace) -> int:
    from dataclasses import replace

    import torch
    import yaml
    from rich.console import Console
    from rich.progress import Progress

    from siamkd_core.cli.run_options import source_commit
    from siamkd_core.config import load_yaml, to_mapping
    from siamkd_core.distill import with_teacher
    from siamkd_core.distill_config import DistillConfig
    from siamkd_core.errors import SiamkdError
    from siamkd_core.interrupt import stop_on_signals
    from siamkd_core.modelfile import write_atomically
    from siamkd_core.shape_judge import ShapeJudge
    from siamkd_core.shape_picture import plot
    from siamkd_core.shape_search import ShapeSearchConfig, search, the_student, with_shape

    if args.threads:
        torch.set_num_threads(args.threads)
    config = load_yaml(ShapeSearchConfig, args.config)
    recipe = with_teacher(load_yaml(DistillConfig, config.recipe))
    student, folder = the_student(config, recipe), Path(args.output)
    steps: list[Step] = []
    with stop_on_signals() as stop, Progress() as progress:
        bar = progress.add_task("the teacher", total=config.updates)
        judge = ShapeJudge(
            recipe,
            student,
            args.data,
            folder,
            config.pairs,
            args.device,
            args.precision,
            source_commit(),
            stop,
        )
        for step in search(config, recipe, judge.teacher, judge, folder):
            steps.append(step)
            progress.update(bar, completed=step.number, description=told(step))
            if stop():
                raise KeyboardInterrupt
    write_atomically(folder / PICTURE, plot(steps, judge.teacher, config.max_parameters))
    best = steps[-1].best
    if best is None:
        raise SiamkdError(
            f"no student kept to max_parameters: {config.max_parameters:,}; allow more, more "
            f"updates, or smaller ratios ({folder / PICTURE} shows what was tried)"
        )
    found = replace(recipe, students=(with_shape(student, best.shape),))
    text = yaml.safe_dump(to_mapping(found), sort_keys=False)
    write_atomically(folder / BEST, text.encode())
    Console().print(table(steps, judge.teacher, config.max_parameters))
    print(f"next: siamkd distill {folder / BEST} --data {args.data} --output ...")
    return 0


def told(step: Step) -> str:
    best = step.best
    worth = f"{best.parameters:,} parameters, {best.accuracy or 0:.3f}" if best else "none yet"
    return f"reward {max(step.rewards):.3f}, best: {worth}"


def table(steps: list[Step], teacher: tuple[int, float], limit: int, count: int = 5) -> Table:
    """The best students that keep to the limit, by their reward."""
    from rich.table import Table

    from siamkd_core.shape_search import reward

    children = {child.shape: child for step in steps for child in step.children}.values()
    kept = [
        (reward(child.parameters, child.accuracy, teacher), child.accuracy, child)
        for child in children
        if child.accuracy is not None and not 0 < limit < child.parameters
    ]
    out = Table("reward", "parameters", "accuracy", "widths", "head")
    out.add_row("teacher", f"{teacher[0]:,}", f"{teacher[1]:.3f}", "", "")
    for worth, accuracy, child in sorted(kept, key=lambda row: row[0], reverse=True)[:count]:
        widths = " ".join(map(str, child.shape.widths))
        head = str(child.shape.head or "")
        out.add_row(f"{worth:.3f}", f"{child.parameters:,}", f"{accuracy:.3f}", widths, head)
    return out
