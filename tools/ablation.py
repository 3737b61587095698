"""What each part of a distillation is worth: train variants of a recipe, evaluate, tabulate.

    python tools/ablation.py RECIPE --data DIR --sequences-in DIR --output DIR [--seeds 0 1 2]
        [--variants TS TS+AH ...] [--set epochs=4 ...] [--tracker window=0.3,...]
        [--grid losses.temperature=0.5,2 students.1.share=0,1 ...]

Without --grid the designed variants: label only, the method's terms one by one, with sharing,
Hinton's distillation and FitNets. With --grid the recipe as it is and with one value changed at a
time. --set changes the recipe for all of them. What differs only in its students is trained side by
side, on the same pairs, and the teacher answers once for all. Called again with the same variants,
finished runs are skipped and a broken one goes on; other variants are a run of their own, in a
folder of its own. The table so far is written after each student: ablation.csv, .md and .png. All
students and the teacher are tracked with the same tracker parameters, the defaults or those of
--tracker: tuning each would mix two questions.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from ablation_plan import Run, changed, grid_of, plan, variants_of
from ablation_table import Result, comma_separated, markdown, plot

from siamkd_core.architectures import architecture
from siamkd_core.cli.evaluate import code_hash, identity, run_all
from siamkd_core.cli.run_options import source_commit
from siamkd_core.config import load_yaml, to_mapping
from siamkd_core.datasets import read_dataset_sequences
from siamkd_core.distill import distill, with_teacher
from siamkd_core.distill_config import DistillConfig
from siamkd_core.engine_config import NEUTRAL
from siamkd_core.errors import SiamkdError
from siamkd_core.evaluate import ResultFolder, choose_sequences
from siamkd_core.interrupt import stop_on_signals
from siamkd_core.metrics import macro_mean
from siamkd_core.modelfile import read_card, write_atomically
from siamkd_core.report import judge
from siamkd_core.sequences import Sequence
from siamkd_core.tracker import Tracker, load_tracker
from siamkd_core.tracker_config import RpnTrackerConfig, TrackerConfig
from siamkd_core.tune import parse_candidate


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="What each part of a distillation is worth.")
    parser.add_argument("recipe", help="YAML recipe of siamkd distill, with the whole method")
    parser.add_argument("--data", required=True, help="folder the recipe's sources are found in")
    parser.add_argument("--sequences-in", required=True, help="folder of sequences to evaluate on")
    parser.add_argument("--dataset", default="folders", help="their layout, see siamkd evaluate")
    parser.add_argument("--sequences", nargs="+", metavar="NAME", help="only these")
    parser.add_argument("--output", required=True, help="folder of the runs and the table")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--variants", nargs="+", default=[], metavar="NAME", help="only these")
    parser.add_argument("--set", nargs="+", default=[], metavar="KEY=VALUE", dest="changes")
    parser.add_argument("--grid", nargs="+", default=[], metavar="KEY=V1,V2")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    parser.add_argument("--precision", default="auto", help="auto, float32, bfloat16 or float16")
    parser.add_argument("--tracking-precision", help="of the evaluation, where it is to be another")
    parser.add_argument(
        "--tracker", default="", metavar="NAME=VALUE,...", help="its parameters; rest: defaults"
    )
    parser.add_argument("--threads", type=int, help="CPU threads for the network")
    args = parser.parse_args(argv)
    try:
        ablate(args)
    except SiamkdError as error:
        print(f"ablation: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt as stopped:
        print(f"ablation: {stopped or 'interrupted; the same command goes on'}", file=sys.stderr)
        return 130
    return 0


def ablate(args: argparse.Namespace) -> None:
    """Make what is missing, and write the table after each run."""
    base = with_teacher(changed(load_yaml(DistillConfig, args.recipe), args.changes))
    configs = grid_of(base, args.grid) if args.grid else variants_of(base)
    runs = plan(configs, args.seeds, args.variants)
    every = read_dataset_sequences(args.dataset, args.sequences_in, "")
    sequences = choose_sequences(every, args.sequences)
    output = Path(args.output)
    teacher = evaluate(args, "teacher", 0, base.teacher, output / "teacher", sequences)
    results: list[Result] = []
    for number, run in enumerate(runs, 1):
        print(f"run {number} of {len(runs)}: {run.folder}, {len(run.judged)} variants", flush=True)
        for result in make(args, run, output / run.folder, sequences):
            results.append(result)
            write(results, teacher, output, notes(args, base, sequences))
    print((output / "ablation.md").read_text(encoding="utf-8"))


def make(
    args: argparse.Namespace, run: Run, folder: Path, sequences: list[Sequence]
) -> Iterator[Result]:
    """The stored results of a run; where one is missing, the run is begun or gone on with, and its
    students are evaluated."""
    decides = deciding(run.config, sequences, args.tracker)
    trained = False
    for variant, student in run.judged.items():
        model, place = folder / f"{student}.safetensors", folder / f"{student}.result.json"
        result = read_result(place, decides, model)
        if result is None:
            if not trained:
                with stop_on_signals() as stop:
                    distill(
                        run.config,
                        args.data,
                        folder,
                        args.device,
                        args.precision,
                        source_commit(),
                        stop,
                    )
                trained = True
            result = evaluate(
                args, variant, run.seed, model, folder / "evaluation" / student, sequences
            )
            text = json.dumps({"of": decides, "result": result._asdict()}, indent=2)
            write_atomically(place, text.encode())
        yield result


def deciding(config: DistillConfig, sequences: list[Sequence], tracker: str) -> dict[str, Any]:
    """What a stored result depends on, as JSON keeps it."""
    recipe = {key: value for key, value in to_mapping(config).items() if key not in NEUTRAL}
    evaluated = {one.name: len(one.frames) for one in sequences}
    return {"recipe": recipe, "evaluated": evaluated, "tracker": tracker, "code": code_hash()}


def read_result(path: Path, decides: dict[str, Any], model: Path) -> Result | None:
    """A stored result; None if there is none, or it is of something else."""
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        result = Result(**stored["result"])
        current = stored["of"] == decides and read_card(model).sha256 == result.sha256
    except (OSError, ValueError, KeyError, TypeError, SiamkdError):
        return None
    return result if current else None


def evaluate(
    args: argparse.Namespace,
    variant: str,
    seed: int,
    model: str | Path,
    folder: Path,
    sequences: list[Sequence],
) -> Result:
    """One pass through the sequences with the same tracker parameters for all; resumes."""
    precision = args.tracking_precision or args.precision
    loaded = load_tracker(model, args.device, precision, args.threads)
    parameters = tracker_parameters(args, loaded.card.architecture)
    tracker = Tracker(loaded.backend, replace(loaded.card, tracker=parameters))
    runs = run_all(tracker, sequences, ResultFolder(folder, identity(tracker)))
    rows = [judge(sequence, runs[sequence.name]) for sequence in sequences]
    mean = macro_mean([row.measures for row in rows])
    card = loaded.card
    return Result(
        variant, seed, card.parameters, mean.auc, mean.mean_iou, mean.precision_at_20, card.sha256
    )


def tracker_parameters(args: argparse.Namespace, family: str) -> TrackerConfig | RpnTrackerConfig:
    kind = architecture(family).tracker
    return parse_candidate(args.tracker, kind, "--tracker") if args.tracker else kind()


def notes(args: argparse.Namespace, base: DistillConfig, sequences: list[Sequence]) -> list[str]:
    """What the table must say of itself."""
    student = base.students[0]
    return [
        f"student {student.name}, widths {'-'.join(map(str, student.widths))}; teacher "
        f"{base.teacher} (sha256 {base.teacher_sha256[:12]})",
        f"{base.steps * base.batch_size} pairs a run, {len(sequences)} sequences, "
        f"tracker parameters {args.tracker or 'by default'}",
        f"commit {source_commit()}; `{shlex.join(['python', *sys.argv])}`",
    ]


def write(results: list[Result], teacher: Result, output: Path, facts: list[str]) -> None:
    """Table and plot."""
    write_atomically(output / "ablation.csv", comma_separated([*results, teacher]).encode())
    write_atomically(output / "ablation.md", markdown(results, teacher, facts).encode())
    write_atomically(output / "ablation.png", plot(results, teacher))


if __name__ == "__main__":
    sys.exit(main())
