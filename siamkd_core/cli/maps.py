"""``siamkd maps --teacher MODEL --student MODEL ... --data DIR --output SHEET.png``"""

from __future__ import annotations

import argparse
from pathlib import Path

HELP = "draw where a teacher and its students look, on pairs that were not trained on"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    model = "shipped name or path of a .safetensors"
    parser.add_argument("--teacher", required=True, metavar="MODEL", help=model)
    parser.add_argument(
        "--student", required=True, nargs="+", metavar="MODEL", help=f"{model}; one or several"
    )
    parser.add_argument(
        "--data", required=True, help="folder of sequence folders that were not trained on"
    )
    parser.add_argument("--sequences", nargs="+", metavar="NAME", help="only these")
    parser.add_argument("--output", required=True, help="picture to write: .png or .jpg")
    parser.add_argument("--pairs", type=int, default=6, help="how many (6)")
    parser.add_argument("--seed", type=int, default=0, help="chooses the pairs (0)")


def run(args: argparse.Namespace) -> int:
    from siamkd_core.augment import AugmentConfig
    from siamkd_core.engine_config import check_seed
    from siamkd_core.errors import ConfigError
    from siamkd_core.evaluate import choose_sequences
    from siamkd_core.modelfile import load_model, tell_apart
    from siamkd_core.pairs import PairDataset, PairsConfig, Source, SourceConfig
    from siamkd_core.picture import picture_path, write_picture
    from siamkd_core.response_sheet import response_sheet
    from siamkd_core.sequences import read_sequences
    from siamkd_core.tracker_config import TrackerConfig

    if args.pairs < 1:
        raise ConfigError(f"--pairs must be at least 1, got {args.pairs}")
    output = picture_path(args.output)
    check_seed(args.seed)
    models = [args.teacher, *args.student]
    networks = [load_model(model)[0] for model in models]
    # a target off the middle tells a network that finds it from one that looks ahead
    config = PairsConfig(
        search_size=TrackerConfig().search_size,
        augment=AugmentConfig(stretch=0.0, shift=32.0),
    )
    sequences = choose_sequences(read_sequences(args.data), args.sequences)
    source = Source(SourceConfig((Path(args.data).name,)), sequences)
    pairs = PairDataset([source], config, args.pairs, args.seed)
    write_picture(output, response_sheet(pairs, args.pairs, networks, tell_apart(models)))
    print(
        f"{args.output}: {args.pairs} pairs; the green box is the target. F(z) and F(Wx): where "
        "the features are strong, as the target-response loss compares them. W: how much each "
        "place resembles the exemplar. The colours of a pair's map mean the same in all rows."
    )
    return 0
