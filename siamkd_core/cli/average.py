"""``siamkd average MODEL MODEL ... --name NAME --output DIR``"""

from __future__ import annotations

import argparse
from pathlib import Path

HELP = "make one model of several that began alike: the mean of their weights"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "models", nargs="+", metavar="MODEL", help="two or more, of runs with one start_seed"
    )
    parser.add_argument("--name", required=True, help="of the new model")
    parser.add_argument("--output", required=True, help="folder for model and card")


def run(args: argparse.Namespace) -> int:
    from siamkd_core.average import average_models
    from siamkd_core.errors import ConfigError
    from siamkd_core.modelfile import find_model, save_model
    from siamkd_core.recipe import check_model_name

    check_model_name(args.name)
    path = Path(args.output) / f"{args.name}.safetensors"
    if path.resolve() in {find_model(model).resolve() for model in args.models}:
        raise ConfigError(f"{path} is one of the models: choose another --name or --output")
    network, card = average_models(args.models, args.name)
    path = save_model(network, card, args.output)
    print(
        f"{path}: the mean of {len(args.models)}\nnext: siamkd calibrate {path} <sequences>, then "
        "siamkd evaluate"
    )
    return 0
