"""A task that learns from pairs: its data, its validation, its model files; not yet its losses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from siamkd_core.config import to_mapping
from siamkd_core.device import short
from siamkd_core.errors import SiamkdError
from siamkd_core.family import family_of
from siamkd_core.held_out import HeldOut
from siamkd_core.modelfile import check_backbone_takes, load_model, network_with, save_model
from siamkd_core.pairs import PairDataset, find_sources
from siamkd_core.pupil import Pupil
from siamkd_core.recipe import RecipeConfig
from siamkd_core.task import Validation


class PairTask:
    """The part of a :class:`siamkd_core.task.Task` that does not depend on the losses.

    Args:
        config: the recipe.
        data: folder of its sources.
        device, dtype: where and in which precision the networks run.
        commit: of the code, for the cards.
        pupils: what is trained, all of one architecture.
    """

    def __init__(
        self,
        config: RecipeConfig,
        data: str | Path,
        device: torch.device,
        dtype: torch.dtype,
        commit: str,
        pupils: list[Pupil],
    ) -> None:
        for one in pupils:
            check_backbone_takes(one.card, config.pairs.search_size)
        self.recipe, self.dtype, self.commit = config, dtype, commit
        self.networks = nn.ModuleDict({one.card.name: one.network for one in pupils})
        self.cards = {one.card.name: one.card for one in pupils}
        self.origins = {one.card.name: one.origin for one in pupils}
        self.starts: Mapping[str, str] = {
            one.card.name: one.origin["started_from"]["sha256"]
            for one in pupils
            if "started_from" in one.origin
        }
        card = pupils[0].card
        self.family = family_of(card.architecture, config, dtype, card.head)
        self.samples = PairDataset(
            find_sources(data, config.pairs),
            config.pairs,
            config.steps * config.batch_size,
            config.seed,
            int(config.cache_gib * 2**30),
        )
        self.held_out = HeldOut(config, data, device, dtype)

    def start_epoch(self, epoch: int) -> None:
        """Nothing here depends on it."""

    def validate(self, networks: nn.ModuleDict, epoch: int) -> Validation:
        judged = {name: networks[name] for name in self.cards}
        return self.held_out.validate(judged, self.cards, self.family, epoch)

    def saved(self, name: str, folder: Path) -> Path | None:
        path = folder / f"{name}.safetensors"
        try:
            load_model(path)
        except SiamkdError:
            return None
        return path

    def save(
        self, name: str, weights: Mapping[str, Tensor], facts: Mapping[str, Any], folder: Path
    ) -> Path:
        network = network_with(self.cards[name], weights)
        training = {
            "data": self.recipe.data,
            "recipe": to_mapping(self.recipe),
            "pairs": self.recipe.steps * self.recipe.batch_size,
            "precision": short(self.dtype),
            "commit": self.commit,
            "torch": torch.__version__,
            **facts,
            **self.origins[name],
        }
        return save_model(network, replace(self.cards[name], training=training), folder)
