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

    from siamkd_core.cli.run_options import source_commit
    from siamkd_core.config import load_yaml, to_mapping
    from siamkd_core.device import processor, resolve_device, resolve_precision, set_threads, short
    from siamkd_core.distill import with_teacher
    from siamkd_core.distill_config import DistillConfig
    from siamkd_core.errors import SiamkdError
    from siamkd_core.interrupt import stop_on_signals
    from siamkd_core.modelfile import find_model, read_card, write_atomically
    from siamkd_core.shape_judge import ShapeJudge
    from siamkd_core.shape_picture import plot
    from siamkd_core.shape_search import (
        ShapeSearchConfig,
        search,
        the_student,
        unwritable,
        with_shape,
    )

    set_threads(args.threads)
    config = load_yaml(ShapeSearchConfig, args.config)
    recipe = with_teacher(load_yaml(DistillConfig, config.recipe))
    student, folder = the_student(config, recipe), Path(args.output)
    steps: list[Step] = []
    device = resolve_device(args.device)
    facts = {
        "data": str(Path(args.data).resolve()),
        "device": processor() if device.type == "cpu" else torch.cuda.get_device_name(device),
        "precision": short(resolve_precision(args.precision, device)),
    }
    if student.start_from:
        facts["start"] = read_card(find_model(student.start_from)).sha256
    console = Console()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise unwritable(folder, error) from error
    # a line an update and no bar: a student that learns has one of its own
    with stop_on_signals() as stop:
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
        for step in search(config, recipe, judge.teacher, judge, folder, facts):
            steps.append(step)
            line = f"update {step.number}/{config.updates}: {told(step)}"
            console.print(line, highlight=False, soft_wrap=True)
    best = steps[-1].best
    files = {PICTURE: plot(steps, judge.teacher, config.max_parameters)}
    if best is not None:
        found = replace(recipe, students=(with_shape(student, best.shape),))
        files[BEST] = yaml.safe_dump(to_mapping(found), sort_keys=False).encode()
    try:
        for name, data in files.items():
            write_atomically(folder / name, data)
    except OSError as error:
        raise unwritable(folder, error) from error
    if best is None:
        raise SiamkdError(nothing_found(steps, config.max_parameters))
    console.print(table(steps, judge.teacher, config.max_parameters))
    print(f"next: siamkd distill {folder / BEST} --data {args.data} --output ...")
    return 0


def nothing_found(steps: list[Step], limit: int) -> str:
    """Why there is no best student, and what to do."""
    reasons = [child.reason for step in steps for child in step.children if child.reason]
    if limit and any(child.parameters > limit for step in steps for child in step.children):
        return (
            f"no student kept to max_parameters: {limit:,}; allow more, more updates, or smaller "
            f"ratios ({PICTURE} shows what was tried)"
        )
    return f"no student could be: {reasons[-1] if reasons else 'none was judged'}"


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
