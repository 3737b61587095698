"""``siamkd inspect CONFIG --data DIR --output SHEET.png``"""

from __future__ import annotations

import argparse

HELP = "draw the first training pairs of a recipe with their labels"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("config", help="YAML recipe, such as config/train/siamfc.yaml")
    parser.add_argument("--data", required=True, help="folder of the recipe's sources or of shards")
    parser.add_argument("--output", required=True, help="picture to write: .png or .jpg")
    parser.add_argument("--pairs", type=int, default=12, help="how many (12)")


def run(args: argparse.Namespace) -> int:
    import torch

    from siamkd_core.cli.run_options import load_recipe
    from siamkd_core.distill_config import DistillConfig
    from siamkd_core.errors import ConfigError
    from siamkd_core.family import family_of
    from siamkd_core.modelfile import ModelCard, find_model, read_card
    from siamkd_core.pair_sheet import pair_sheet
    from siamkd_core.pairs import PairDataset, find_sources
    from siamkd_core.picture import picture_path, write_picture
    from siamkd_core.train import TrainConfig

    if args.pairs < 1:
        raise ConfigError(f"--pairs must be at least 1, got {args.pairs}")
    output = picture_path(args.output)
    config = load_recipe(args.config)
    of: TrainConfig | ModelCard
    if isinstance(config, DistillConfig):
        of = read_card(find_model(config.teacher))
    else:
        assert isinstance(config, TrainConfig)
        of = config
    family = family_of(of.architecture, config, torch.float32, of.head)
    sources = find_sources(args.data, config.pairs)
    pairs = PairDataset(sources, config.pairs, args.pairs, config.seed)
    write_picture(output, pair_sheet(pairs, args.pairs, family))
    print(
        f"{args.output}: pairs 0 to {args.pairs - 1} as training gets them; green cells are "
        "positive, the white frame is the response map"
    )
    return 0
