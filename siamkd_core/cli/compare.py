"""``siamkd compare MODEL MODEL ...``"""

from __future__ import annotations

import argparse
import os
import platform
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from siamkd_core.cli.tracker_options import add_tracker_arguments, words

if TYPE_CHECKING:
    from siamkd_core.accuracy import Accuracy
    from siamkd_core.modelfile import ModelCard
    from siamkd_core.tracker import Tracker

HELP = "measure models side by side: size, multiply-adds, memory, time per frame; and accuracy"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "models",
        nargs="+",
        metavar="MODEL",
        help="shipped name, path of a .safetensors, or a YAML recipe of `siamkd train`, whose "
        "network gets fresh weights; ratios refer to the first",
    )
    parser.add_argument("--output", metavar="FILE.md", help="write the table as Markdown too")
    parser.add_argument("--plot", metavar="FILE.png", help="plot accuracy against time and size")
    accuracy = parser.add_mutually_exclusive_group()
    accuracy.add_argument("--record", metavar="SET", help="accuracy that `evaluate --record` wrote")
    accuracy.add_argument("--results", metavar="DIR", help="accuracy in `evaluate --output DIR`")
    parser.add_argument("--rounds", type=int, default=30, help="turns of each model (30)")
    parser.add_argument("--frames", type=int, default=10, help="timed frames of a turn (10)")
    add_tracker_arguments(parser, several=True)


def run(args: argparse.Namespace) -> int:
    import tempfile

    from siamkd_core.errors import ConfigError
    from siamkd_core.untrained import is_recipe

    if min(args.rounds, args.frames) < 1:
        raise ConfigError("--rounds and --frames must be at least 1")
    with tempfile.TemporaryDirectory() as folder:
        fresh = {one: build(one, Path(folder)) for one in args.models if is_recipe(one)}
        paths = [fresh.get(one, one) for one in args.models]
        return compare(args, paths, frozenset(fresh.values()))


def build(recipe: str, folder: Path) -> str:
    """The path of the fresh network of a recipe; another recipe's is in another place."""
    import hashlib

    from siamkd_core.cli.run_options import load_recipe
    from siamkd_core.errors import ConfigError
    from siamkd_core.train import TrainConfig
    from siamkd_core.untrained import untrained_model

    if not isinstance(load_recipe(recipe), TrainConfig):
        raise ConfigError(
            f"{recipe} is a recipe of siamkd distill; a recipe of siamkd train is needed, with one "
            "network"
        )
    path = Path(recipe).resolve()
    apart = hashlib.sha256(str(path).encode()).hexdigest()[:6]
    return str(untrained_model(recipe, folder / apart / path.stem / "untrained"))


def compare(args: argparse.Namespace, paths: list[str], untrained: frozenset[str]) -> int:
    """Measure the models, print and write what was asked for."""
    from rich.console import Console
    from rich.progress import Progress

    from siamkd_core.benchmark import measure, uncalibrated
    from siamkd_core.comparison import Cost, markdown, terminal_table
    from siamkd_core.comparison_plot import plot
    from siamkd_core.complexity import complexity
    from siamkd_core.errors import ConfigError
    from siamkd_core.footprint import peak_memory
    from siamkd_core.modelfile import tell_apart
    from siamkd_core.tracker import load_tracker

    backends = args.backend or ["auto"]
    found = dict(zip(tell_apart(paths), paths, strict=True))
    if len(found) < len(paths) or len(set(backends)) < len(backends):
        raise ConfigError("a model or a backend is named twice; each can be compared once")
    options = (args.device, args.precision, args.threads)
    models, trackers, by = {}, {}, {}
    for short, model in found.items():
        for backend in backends:
            name = short if len(backends) == 1 else f"{short}, {backend}"
            models[name], by[name] = model, backend
            trackers[name] = uncalibrated(load_tracker(model, *options, backend))
    known = {
        name: None if models[name] in untrained else accuracy(args, one.card)
        for name, one in trackers.items()
    }
    if (args.plot or args.record or args.results) and not any(known.values()):
        raise ConfigError(no_accuracy([one.card for one in trackers.values()]))
    fixed = {name: complexity(model) for name, model in models.items()}
    memory = {name: peak_memory(model, *options, by[name]) for name, model in models.items()}
    with Progress() as progress:
        bar = progress.add_task("time per frame", total=args.rounds)
        timings = measure(trackers, args.rounds, args.frames, lambda: progress.advance(bar))
    costs = [
        Cost(name, family(one.card), fixed[name], timings[name], memory[name], known[name])
        for name, one in trackers.items()
    ]
    facts = environment(trackers) | {"command": f"`{command(args)}`"}
    console = Console()
    console.print(terminal_table(costs))
    for key, value in facts.items():
        console.print(f"{key}: {value}", highlight=False, markup=False, soft_wrap=True)
    if args.output:
        write(Path(args.output), markdown(costs, facts).encode(), "table")
    if args.plot:
        write(Path(args.plot), plot(costs), "plot")
    return 0


def accuracy(args: argparse.Namespace, card: ModelCard) -> Accuracy | None:
    """That of a model, if it was asked for and is known."""
    from siamkd_core.accuracy import recorded, reported

    if args.results:
        return reported(Path(args.results), card)
    return recorded(card, args.record) if args.record else None


def no_accuracy(cards: list[ModelCard]) -> str:
    """What to do where no model's accuracy is known."""
    sets = sorted({name for card in cards for name in card.measured})
    have = f"their cards have the sets {', '.join(sets)}" if sets else "their cards have no set"
    return (
        "the accuracy of none of the models is known: record one with siamkd evaluate --record "
        f"SET and name it with --record SET ({have}), or name the folder of its evaluation with "
        "--results"
    )


def family(card: ModelCard) -> str:
    """Architecture, backbone and head in words."""
    head = f", {card.head.kind}" if card.head else ""
    return f"{card.architecture}, {card.backbone}{head}"


def write(path: Path, data: bytes, what: str) -> None:
    """Write a file, whole or not, and say so."""
    from siamkd_core.errors import SiamkdError
    from siamkd_core.modelfile import write_atomically

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, data)
    except OSError as error:
        raise SiamkdError(f"cannot write {path}: {error.strerror or error}") from error
    print(f"{what} in {path}")


def environment(trackers: dict[str, Tracker]) -> dict[str, str]:
    """Where and how the figures came about."""
    import cv2

    from siamkd_core import __version__
    from siamkd_core.benchmark import picture
    from siamkd_core.device import processor
    from siamkd_core.search import search_of

    height, width = picture().shape[:2]
    configs = {name: tracker.card.tracker for name, tracker in trackers.items()}
    backends = [", ".join(tracker.backend.describe().values()) for tracker in trackers.values()]
    return {
        "backend": "; ".join(dict.fromkeys(backends)),
        "processor": f"{processor()}, {os.cpu_count()} logical CPUs",
        "code": f"siamkd {__version__}, Python {platform.python_version()}, "
        f"OpenCV {cv2.__version__}, {platform.system()}",
        "image": f"{width}x{height}",
        "search": "; ".join(
            f"{n}: {len(search_of(c).factors())} x {c.search_size} px" for n, c in configs.items()
        ),
    }


def command(args: argparse.Namespace) -> str:
    """The command line that makes this table again."""
    line = ["siamkd", "compare", *args.models]
    line += ["--rounds", str(args.rounds), "--frames", str(args.frames), *words(args)]
    for option in ("record", "results", "output", "plot"):
        if getattr(args, option):
            line += [f"--{option}", str(getattr(args, option))]
    return shlex.join(line)
