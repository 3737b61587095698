"""``siamkd calibrate MODEL FOLDER``"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from siamkd_core.cli.tracker_options import add_tracker_arguments, load
from siamkd_core.engine_config import check_seed
from siamkd_core.errors import ConfigError

if TYPE_CHECKING:
    from rich.table import Table

    from siamkd_core.calibrate import Calibration

HELP = "fit the score of a model, so that it means: the target is there; writes the model's card"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", help="path of a .safetensors, or a shipped name")
    parser.add_argument("folder", help="of sequence folders that were not trained on")
    parser.add_argument("--sequences", nargs="+", metavar="NAME", help="only these")
    parser.add_argument("--draws", type=int, default=300, help="looks of each kind, at most")
    parser.add_argument("--seed", type=int, default=0)
    add_tracker_arguments(parser)


def run(args: argparse.Namespace) -> int:
    from rich.console import Console
    from rich.progress import Progress

    from siamkd_core.calibrate import calibrate
    from siamkd_core.evaluate import choose_sequences
    from siamkd_core.modelfile import check_card_writable, find_model, read_card, write_card
    from siamkd_core.sequences import read_sequences

    if args.draws < 10:
        raise ConfigError("a calibration needs at least 10 --draws")
    check_seed(args.seed)
    sequences = choose_sequences(read_sequences(args.folder), args.sequences)
    path = find_model(args.model)
    check_card_writable(path)
    tracker = load(args, path)
    result: Calibration | None = None
    with Progress() as progress:
        bar = progress.add_task("calibrate", total=args.draws)
        for done, found in calibrate(tracker, sequences, args.draws, args.seed):
            progress.update(bar, completed=done)
            result = found
    assert result is not None
    card = read_card(path)
    facts = {
        "roc_auc": round(result.roc_auc, 4),
        "roc_auc_gone": round(result.roc_auc_gone, 4) if result.gone.any() else None,
        "looks_present": int(result.present.sum()),
        "looks_absent": int((~result.present).sum()),
        "looks_gone": int(result.gone.sum()),
        "sequences": [s.name for s in sequences],
        "draws": args.draws,
        "seed": args.seed,
    }
    write_card(
        replace(card, score=result.score, measured={**card.measured, "calibration": facts}), path
    )
    picture = path.with_name(f"{path.stem}_score.png")
    draw(result, picture)
    Console().print(table(result))
    gone = ""
    if result.gone.any():
        gone = f"; {result.roc_auc_gone:.3f} against the {facts['looks_gone']} of those at a scene "
        gone += "that the target had gone from"
    print(
        f"ROC AUC {result.roc_auc:.3f}: {facts['looks_present']} looks that found the target "
        f"against {facts['looks_absent']} that did not{gone}; "
        f"card {path.with_suffix('.json')}, picture {picture}"
    )
    return 0


def table(result: Calibration) -> Table:
    """What each threshold on the score would do."""
    from rich.table import Table

    from siamkd_core.calibrate import operating_points

    made = Table("threshold", "present below", "absent at or above", title="thresholds")
    for point in operating_points(result.scores, result.present):
        made.add_row(f"{point.threshold:.2f}", f"{point.missed:.1%}", f"{point.false_alarms:.1%}")
    return made


def draw(result: Calibration, path: Path) -> None:
    """Histograms of the scores of targets that were found, had gone and never were there."""
    import numpy as np
    from matplotlib.figure import Figure

    scores = result.scores
    figure = Figure(figsize=(6, 3.5), layout="constrained")
    axes = figure.add_subplot()
    bins = np.linspace(0, 1, 21).tolist()
    never = ~(result.present | result.gone)
    kinds = ("target found", result.present), ("target gone", result.gone), ("elsewhere", never)
    for label, shown in kinds:
        if shown.any():
            axes.hist(scores[shown], bins=bins, alpha=0.5, density=True, label=label)
    axes.set(xlabel="score", ylabel="density", title=f"ROC AUC {result.roc_auc:.3f}")
    axes.legend()
    figure.savefig(path, dpi=120)
