"""One network of several that began alike: the mean of their weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from siamkd_core.errors import ConfigError
from siamkd_core.modelfile import ModelCard, load_model, new_card
from siamkd_core.network import SiameseNetwork

SAME = ("architecture", "backbone", "widths", "head", "preprocessing")


def average_models(models: Sequence[str | Path], name: str) -> tuple[SiameseNetwork, ModelCard]:
    """The mean of the weights of networks that began alike and learnt otherwise: of other pairs, in
    another order, at another rate.

        theta = 1/K sum_k theta_k

    As fast as one of them, and often better than the best: they lie about one minimum, each at
    another side ("uniform soup", Wortsman et al., "Model soups: averaging weights of multiple
    fine-tuned models improves accuracy without increasing inference time", 2022). The statistics of
    a BatchNorm are averaged as weights are, which is exact only where the runs kept them.

    Args:
        models: shipped names or paths, at least two, of the same training but for its seed and
            other settings, with one ``start_seed``.
        name: of the new one.

    Returns:
        A network in evaluation mode, float32, and a card with default tracker parameters, not
        calibrated, whose ``training`` holds that of each.

    Raises:
        ConfigError: fewer than two, the same file twice, or networks that did not begin alike.
        ModelFileError: no such model, or a broken one.
    """
    loaded = [load_model(model) for model in models]
    cards = [card for _, card in loaded]
    if len({card.sha256 for card in cards}) < max(len(cards), 2):
        raise ConfigError("an average is of two models or more, each another file")
    first = cards[0]
    for model, card in zip(models, cards, strict=True):
        for key in SAME:
            if getattr(card, key) != getattr(first, key):
                raise ConfigError(
                    f"{model} has another {key} than {models[0]}: only like networks have a mean"
                )
        if _beginning(card, model) != _beginning(first, models[0]):
            raise ConfigError(
                f"{model} did not begin with the weights of {models[0]}, so that their mean is no "
                "network that learnt anything: train both from one start, with one start_seed"
            )
    network = loaded[0][0]
    states = [one.state_dict() for one, _ in loaded]
    network.load_state_dict(
        {
            key: torch.stack([state[key].double() for state in states]).mean(0).to(value.dtype)
            for key, value in states[0].items()
        }
    )
    made = [{"name": card.name, "sha256": card.sha256, "training": card.training} for card in cards]
    card = replace(
        new_card(name, first.architecture, first.widths, first.backbone, first.head),
        parameters=first.parameters,
        preprocessing=first.preprocessing,
        training={"averaged": made},
    )
    return network.eval(), card


def _beginning(card: ModelCard, model: str | Path) -> dict[str, Any]:
    """What says which weights a training began with."""
    training = card.training
    recipe = training.get("recipe")
    if not isinstance(recipe, dict) or "seed" not in recipe:
        raise ConfigError(
            f"{model} has no recipe in its card that says which weights it began with: an average "
            "is of models that siamkd trained"
        )
    started = training.get("started_from", {})
    begun = {
        "started_from": {key: started.get(key) for key in ("sha256", "part")},
        "pretrained": training.get("pretrained"),
        "head_from": training.get("head_from"),
    }
    if started and "part" not in started:
        return begun
    # the rest is random, or fitted on the first pairs
    own = recipe.get("start_seed")
    return {**begun, "seed": recipe["seed"] if own is None else own, "pairs": recipe.get("pairs")}
