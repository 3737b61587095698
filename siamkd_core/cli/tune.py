"""``siamkd tune MODEL FOLDER``"""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from siamkd_core.cli.evaluate import code_hash, identity
from siamkd_core.cli.tracker_options import add_tracker_arguments, load
from siamkd_core.engine_config import check_seed
from siamkd_core.errors import ConfigError

if TYPE_CHECKING:
    from siamkd_core.sequences import Sequence
    from siamkd_core.tracker_config import RpnTrackerConfig, TrackerConfig

HELP = "choose a calibrated model's tracker parameters; writes its card, resumes"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", help="path of a .safetensors, or a shipped name")
    parser.add_argument("folder", help="of sequence folders that were not trained on")
    parser.add_argument("--sequences", nargs="+", metavar="NAME", help="only these")
    parser.add_argument(
        "--anchors", type=int, default=50, help="a run starts every so many frames, see VOT 2020"
    )
    parser.add_argument("--frames", type=int, default=300, help="of each run, at most")
    parser.add_argument(
        "--trials",
        type=int,
        default=24,
        help="random parameter sets; the first is the card's, whose others all of them have",
    )
    parser.add_argument(
        "--candidate",
        action="append",
        default=[],
        metavar="NAME=VALUE,...",
        help="try this set (others at their defaults) instead of random ones; may be repeated",
    )
    parser.add_argument("--seed", type=int, default=0)
    add_tracker_arguments(parser)


def run(args: argparse.Namespace) -> int:
    from rich.console import Console
    from rich.progress import Progress

    from siamkd_core.config import from_mapping, to_mapping
    from siamkd_core.evaluate import choose_sequences
    from siamkd_core.modelfile import check_card_writable, find_model, read_card, write_card
    from siamkd_core.sequences import read_sequences
    from siamkd_core.tune import anchored, can_be_given, parse_candidate, propose, try_config

    if args.trials < 1 or args.anchors < 1 or args.frames < 2:
        raise ConfigError("tuning needs at least one of --trials and --anchors and two --frames")
    check_seed(args.seed)
    chosen = choose_sequences(read_sequences(args.folder), args.sequences)
    path = find_model(args.model)
    check_card_writable(path)
    tracker = load(args, path)
    kind = type(tracker.config)
    configs = [parse_candidate(text, kind) for text in args.candidate] or [
        propose(tracker.config, trial, args.seed) for trial in range(args.trials)
    ]
    every = [anchored(one, args.anchors, args.frames, can_be_given) for one in chosen]
    sequences = [runs for runs in every if runs]
    names = [run.name for runs in sequences for run in runs]
    if not names:
        raise ConfigError(
            f"no sequence in {args.folder} has a target in two of its images, in one of them inside"
        )
    # Trials already made, by what decides them: an interrupted search goes on.
    log = path.with_name(f"{path.stem}_tuning.jsonl")
    # the tracker's own parameters are what is tried
    setting = {
        **identity(tracker),
        "measures": code_hash(("metrics", "tune")),
        "parameters": to_mapping(tracker.card)["score"],
        "runs": digest(run for runs in sequences for run in runs),
    }
    done = _read_log(log, setting)
    whole = not log.is_file() or log.read_bytes()[-1:] in (b"", b"\n")
    newline = "" if whole else "\n"
    console = Console()
    with Progress(console=console) as progress:
        frames = sum(len(run.frames) for runs in sequences for run in runs)
        bar = progress.add_task("tune", total=len(configs) * frames)
        results: list[tuple[float, TrackerConfig | RpnTrackerConfig]] = []
        for trial, config in enumerate(configs):
            key = json.dumps(to_mapping(config))
            if key not in done:
                done[key] = try_config(tracker, config, sequences, lambda: progress.advance(bar))
                line = json.dumps({"setting": setting, "tracker": key, "mean_iou": done[key]})
                with open(log, "a", encoding="utf-8") as file:
                    # on a line of its own, whatever a search that was killed left of one
                    file.write(f"{newline}{line}\n")
                newline = ""
                console.print(f"trial {trial}: mean IoU {done[key]:.4f}  {key}", highlight=False)
            progress.update(bar, completed=(trial + 1) * frames)
            results.append((done[key], from_mapping(kind, json.loads(key), str(log))))
    best, config = max(results, key=lambda r: r[0])
    card = read_card(path)
    facts = {
        "mean_iou": round(best, 4),
        "mean_iou_of_the_first": round(results[0][0], 4),
        "tried": args.candidate or f"{args.trials} random sets, the first: the card's",
        "frames": args.frames,
        "anchors": args.anchors,
        "runs": len(names),
        "seed": args.seed,
        "sequences": [one.name for one, runs in zip(chosen, every, strict=True) if runs],
    }
    write_card(replace(card, tracker=config, measured={**card.measured, "tuning": facts}), path)
    print(f"mean IoU {best:.4f} (the first set: {results[0][0]:.4f}); card written")
    return 0


def digest(runs: Iterable[Sequence]) -> str:
    """Hash of which images runs consist of, and of where the target is in them."""
    found = hashlib.sha256()
    for run in runs:
        found.update(
            "\0".join([run.name, *(str(frame.resolve()) for frame in run.frames)]).encode()
        )
        found.update(run.boxes.tobytes())
    return found.hexdigest()[:12]


def _read_log(log: Path, setting: dict[str, Any]) -> dict[str, float]:
    if not log.is_file():
        return {}
    done = {}
    for line in log.read_text(encoding="utf-8").splitlines():
        try:
            record = json.loads(line)
        except ValueError:
            continue  # the line an interrupted search was writing
        if record.get("setting") == setting:
            done[record["tracker"]] = float(record["mean_iou"])
    return done
