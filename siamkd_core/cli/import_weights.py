"""``siamkd import-weights FILE --family LAYOUT --output DIR``"""

from __future__ import annotations

import argparse
from pathlib import Path

HELP = "make a model of a public checkpoint: siamfc-pytorch, DaSiamRPN, pysot, NanoTrack"
LAYOUTS = ("siamfc-pytorch", "dasiamrpn", "pysot", "nanotrack")
TRACKERS = ("vot", "otb", "big", "pysot", "pysot-r50", "nanotrack")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", help="what torch.save wrote (.pth, .model, .pt), or .safetensors")
    parser.add_argument(
        "--family", required=True, choices=LAYOUTS, help="project the checkpoint comes from"
    )
    parser.add_argument("--output", required=True, help="folder for model and card")
    parser.add_argument("--name", help="of the model; the file's, if left out")
    parser.add_argument(
        "--tracker",
        choices=TRACKERS,
        default="",
        help="tracker parameters published with it; otherwise our defaults",
    )


def run(args: argparse.Namespace) -> int:
    from siamkd_core.import_weights import import_weights
    from siamkd_core.modelfile import read_card

    name = args.name or Path(args.file).stem.replace(".", "_")
    path = import_weights(args.file, args.family, name, args.output, args.tracker)
    card = read_card(path)
    print(
        f"{path}: {card.architecture}, widths {', '.join(map(str, card.widths))}, "
        f"{card.parameters:,} parameters\nnext: siamkd calibrate {path} <sequences>, then "
        "siamkd evaluate"
    )
    return 0
