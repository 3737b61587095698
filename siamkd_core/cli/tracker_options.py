"""What the verbs that run a tracker have in common: where and by what it is run."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from siamkd_core.tracker import Tracker


def add_tracker_arguments(parser: argparse.ArgumentParser, several: bool = False) -> None:
    """Device, precision, backend (``several``: any number of them) and threads."""
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    parser.add_argument("--precision", default="auto", help="auto, float32, bfloat16 or float16")
    parser.add_argument(
        "--backend",
        action="append" if several else "store",
        default=None if several else "auto",
        help="what runs the network: torch, onnxruntime, openvino; auto is onnxruntime on a CPU "
        "where it is installed, else torch" + ("; give it again for another" if several else ""),
    )
    parser.add_argument("--threads", type=int, help="CPU threads for the network")


def load(args: argparse.Namespace, model: str | Path) -> Tracker:
    """A tracker as the options say, of one backend.

    Raises:
        ModelFileError, ConfigError: see :func:`siamkd_core.tracker.load_tracker`.
    """
    from siamkd_core.tracker import load_tracker

    return load_tracker(model, args.device, args.precision, args.threads, args.backend)


def words(args: argparse.Namespace) -> list[str]:
    """The options that differ from their defaults, as a command line has them."""
    backends = [args.backend] if isinstance(args.backend, str) else args.backend or []
    values = {"device": [args.device], "precision": [args.precision], "backend": backends}
    given = [
        word
        for option, chosen in values.items()
        for one in chosen
        if chosen != ["auto"]
        for word in (f"--{option}", one)
    ]
    return given + (["--threads", str(args.threads)] if args.threads else [])
