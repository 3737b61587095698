"""``siamkd evaluate FOLDER --model NAME --output DIR``"""

from __future__ import annotations

import argparse
import hashlib
import json
import shlex
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import siamkd_core
from siamkd_core import __version__
from siamkd_core.cli.tracker_options import add_tracker_arguments, load, words

if TYPE_CHECKING:
    from siamkd_core.evaluate import ResultFolder, SequenceRun
    from siamkd_core.report import Report
    from siamkd_core.sequences import Sequence
    from siamkd_core.tracker import Tracker

HELP = "run a model once through a folder of sequences and measure it; run again to resume"
DECIDING_MODULES = (
    *("box", "crop", "device_crop", "siamfc", "siamrpn", "anchors", "xcorr", "arrays", "likeness"),
    *("backend", "backends", "graph_backend", "onnx_export"),
    *("network", "alexnet", "efficientnet", "mobilenet", "mobilenet_pyramid", "pyramid", "resnet"),
    *("architectures", "modelfile"),
    *("pixelwise_head", "ban_head", "locate", "select_box", "search", "pose", "pipeline"),
    *("device_pipeline", "tracker", "image", "evaluate"),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", help="of sequence folders, each img/ + groundtruth.txt")
    parser.add_argument(
        "--dataset", default="folders", help="layout of the folder: otb, got10k, lasot, uav123 ..."
    )
    parser.add_argument("--split", default="", help="part of the dataset: val, test ...")
    parser.add_argument("--model", required=True, help="shipped name or path of a .safetensors")
    parser.add_argument("--output", required=True, help="folder for results, table and plot")
    parser.add_argument("--sequences", nargs="+", metavar="NAME", help="only these")
    parser.add_argument("--pictures", action="store_true", help="a contact sheet per sequence")
    parser.add_argument("--record", metavar="SET", help="write the mean to the model's card as SET")
    add_tracker_arguments(parser)


def run(args: argparse.Namespace) -> int:
    from rich.console import Console

    from siamkd_core.datasets import read_dataset_sequences
    from siamkd_core.evaluate import ResultFolder, choose_sequences
    from siamkd_core.modelfile import check_card_writable, find_model
    from siamkd_core.report import Report, judge, terminal_table, write_pictures, write_report

    sequences = choose_sequences(
        read_dataset_sequences(args.dataset, args.folder, args.split), args.sequences
    )
    tracker = load(args, args.model)
    name = tracker.card.name
    output = Path(args.output)
    facts = identity(tracker)
    if args.record:
        check_card_writable(find_model(args.model))
    results = ResultFolder(output / name, facts)
    runs = run_all(tracker, sequences, results)
    report = Report(
        name,
        tuple(judge(sequence, runs[sequence.name]) for sequence in sequences),
        {**facts, "command": f"`{command(args)}`"},
    )
    if args.pictures:
        for sequence in sequences:
            path = output / name / "pictures" / f"{sequence.name}.jpg"
            write_pictures(sequence, runs[sequence.name], path)
    paths = write_report(report, output / name)
    if args.record:
        record(report, args.model, args.record)
    console = Console()
    console.print(terminal_table(report))
    blind = sum(one.measures.frames < 2 for one in report.rows)
    if blind:  # GOT-10k's and TrackingNet's test splits
        console.print(f"{blind} sequences have only one true box: their figures say nothing")
    console.print(f"results in {output / name}, table and plot in {', '.join(map(str, paths))}")
    return 0


def record(report: Report, model: str, name: str) -> None:
    """Write the mean figures to the model's card, as ``measured[name]``."""
    from siamkd_core.modelfile import find_model, read_card, write_card

    path = find_model(model)
    card = read_card(path)
    mean = report.mean.measures
    facts = {
        "mean_iou": round(mean.mean_iou, 4),
        "auc": round(mean.auc, 4),
        "precision_20": round(mean.precision_at_20, 4),
        "norm_precision_auc": round(mean.norm_precision_auc, 4),
        "sequences": len(report.rows),
        "frames": mean.frames,
        "command": report.facts["command"].strip("`"),
    }
    write_card(replace(card, measured={**card.measured, name: facts}), path)


def run_all(
    tracker: Tracker, sequences: list[Sequence], results: ResultFolder
) -> dict[str, SequenceRun]:
    """Run what is not stored yet, with a progress bar; all runs by sequence name."""
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    from siamkd_core.evaluate import run_sequence

    runs = {one.name: run for one in sequences if (run := results.load(one)) is not None}
    if runs:
        print(f"{len(runs)} of {len(sequences)} sequences are in {results.folder} already")
    left = [one for one in sequences if one.name not in runs]
    if not left:
        return runs
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, TimeRemainingColumn()) as progress:
        task = progress.add_task("", total=sum(len(one.frames) for one in left))
        done = 0
        for one in left:
            progress.update(task, description=one.name)
            run = run_sequence(tracker, one, lambda: progress.advance(task))
            runs[one.name] = results.save(one, run)
            # frames before the first true box are passed over without a call
            done += len(one.frames)
            progress.update(task, completed=done)
    return runs


def identity(tracker: Tracker) -> dict[str, str]:
    """What ran: if any of it changes, stored results are stale."""
    from siamkd_core.config import to_mapping
    from siamkd_core.device import processor

    card = tracker.card
    settings = {key: to_mapping(card)[key] for key in ("tracker", "score")}
    return {
        "sha256": card.sha256,
        **tracker.backend.describe(),
        "processor": processor(),
        "code": f"siamkd {__version__}, {code_hash()}",
        "parameters": json.dumps(settings, sort_keys=True),
    }


def code_hash(modules: tuple[str, ...] = DECIDING_MODULES) -> str:
    """Hash of modules, as a rule of those that decide on a box: while they are edited, stored
    results are stale."""
    package = Path(siamkd_core.__file__).parent
    digest = hashlib.sha256()
    for module in modules:
        digest.update((package / f"{module}.py").read_bytes())
    return digest.hexdigest()[:12]


def command(args: argparse.Namespace) -> str:
    """The command line that makes this table again."""
    line = ["siamkd", "evaluate", args.folder, "--model", args.model, "--output", args.output]
    if args.dataset != "folders":
        line += ["--dataset", args.dataset]
    for option in ("split", "record"):
        if getattr(args, option):
            line += [f"--{option}", getattr(args, option)]
    line += words(args)
    if args.sequences:
        line += ["--sequences", *args.sequences]
    return shlex.join(line)
