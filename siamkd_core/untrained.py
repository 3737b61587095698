"""A network that only a recipe describes, as a model file: to count and time, not to track."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from siamkd_core.config import load_yaml
from siamkd_core.modelfile import build_network, new_card, save_model
from siamkd_core.siamfc import count_parameters
from siamkd_core.train import TrainConfig


def is_recipe(model: str) -> bool:
    """Whether the name is that of a YAML file and not of a model."""
    return Path(model).suffix in (".yaml", ".yml")


def untrained_model(recipe: str | Path, folder: str | Path) -> Path:
    """Write the network of a recipe of ``siamkd train`` with fresh weights and return its path.

    Its tracker has the family's default parameters.

    Raises:
        ConfigError: not such a recipe.
        ModelFileError: a backbone, widths or a head that do not exist.
    """
    config = load_yaml(TrainConfig, recipe)
    card = new_card(config.name, config.architecture, config.widths, config.backbone, config.head)
    network = build_network(card)
    return save_model(network, replace(card, parameters=count_parameters(network)), folder)
