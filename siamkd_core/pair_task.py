"""A task that learns from pairs: its data, its validation, its model files; not yet its losses."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn

from siamkd_core.config import to_mapping
from siamkd_core.device import short
from siamkd_core.efficientnet import PRUNED, EfficientNet
from siamkd_core.errors import ConfigError, SiamkdError
from siamkd_core.family import family_of
from siamkd_core.held_out import HeldOut
from siamkd_core.modelfile import (
    ModelCard,
    build_network,
    load_model,
    network_with,
    new_card,
    save_model,
)
from siamkd_core.network import SiameseNetwork
from siamkd_core.pairs import PairDataset, find_sources
from siamkd_core.pretrained import load_pretrained
from siamkd_core.prune import prune
from siamkd_core.recipe import RecipeConfig
from siamkd_core.siamfc import SiamFC, count_parameters
from siamkd_core.siamrpn import HeadConfig
from siamkd_core.task import Validation

FITTED_ON = 128
"""Search regions that a slim backbone is fitted on."""


class Pupil(NamedTuple):
    """A network to train, what describes it, and what its card shall say of its origin."""

    network: nn.Module
    card: ModelCard
    origin: Mapping[str, Any]


def no_images() -> Tensor:
    """Where there is no data to take them from."""
    raise ConfigError("a slim backbone is fitted on images: start it in a training")


def search_regions(config: RecipeConfig, data: str | Path) -> Tensor:
    """Those of the first pairs of another seed than the training's, (N, 3, S, S) float, BGR 0..255.

    Raises:
        DataError: no usable data.
    """
    sources = find_sources(data, config.pairs)
    pairs = PairDataset(sources, config.pairs, FITTED_ON, config.seed + 1)
    return torch.stack([pairs[number]["search"] for number in range(len(pairs))]).float()


def fresh(
    name: str,
    architecture: str,
    widths: tuple[int, ...],
    seed: int,
    start_from: str = "",
    backbone: str = "alexnet",
    pretrained: bool = False,
    head: HeadConfig | None = None,
    images: Callable[[], Tensor] = no_images,
) -> Pupil:
    """A network with random weights; or with those of the model ``start_from``, its backbone's
    alone where it is of another architecture, or what is left of them in a slim backbone; or
    (``pretrained``) with those of an image classifier in the backbone.

    The weights depend on these arguments alone, not on what else a run trains. ``images`` makes
    those that a slim backbone is fitted on, see :func:`siamkd_core.prune.prune`.

    Raises:
        ConfigError: no such architecture; ``start_from`` has another backbone (but for a slim one's
            full one), other widths or, within the architecture, another head; no pretrained
            weights fit or their package is missing.
        ModelFileError: no such model, or a backbone, widths or head that do not exist.
    """
    card = new_card(name, architecture, widths, backbone, head)
    torch.manual_seed(seed)
    network = build_network(card)
    card = replace(card, parameters=count_parameters(network))
    if pretrained:
        return Pupil(network, card, {"pretrained": load_pretrained(network, images)})
    if not start_from:
        return Pupil(network, card, {})
    source, base = load_model(start_from)
    origin = {"name": base.name, "sha256": base.sha256, "training": base.training}
    if card.backbone == f"{base.backbone}{PRUNED}":
        _start_pruned(network, card, source, base, images())
        return Pupil(network, card, {"started_from": {**origin, "part": "backbone, pruned"}})
    same = base.architecture == card.architecture
    if (base.backbone, base.widths) != (card.backbone, card.widths) or (
        same and base.head != card.head
    ):
        raise ConfigError(
            f"{start_from} has {_words(base)}, the recipe {_words(card)}; they must be the same to "
            "start from it"
        )
    if same:
        return Pupil(source, card, {"started_from": origin})
    ours, theirs = (cast(nn.Module, cast(Any, one).backbone) for one in (network, source))
    try:
        ours.load_state_dict(theirs.state_dict())
    except RuntimeError as error:
        # AlexNets of two families differ: one has groups
        raise ConfigError(
            f"the backbone of {start_from}, a {base.architecture}, does not fit a "
            f"{card.architecture}: {error}"
        ) from error
    return Pupil(network, card, {"started_from": {**origin, "part": "backbone"}})


def _start_pruned(
    network: SiameseNetwork,
    card: ModelCard,
    source: SiameseNetwork,
    base: ModelCard,
    images: Tensor,
) -> None:
    full, slim = (cast(EfficientNet, one.backbone) for one in (source, network))
    try:
        prune(full, slim, images)
    except ValueError as error:
        raise ConfigError(
            f"the backbone {card.backbone} with the widths {card.widths} is not what is left of "
            f"{base.name}, which has {_words(base)}: {error}"
        ) from error
    if isinstance(network, SiamFC) and isinstance(source, SiamFC):
        network.adjust.load_state_dict(source.adjust.state_dict())


def check_backbone_takes(card: ModelCard, size: int) -> None:
    """Raise ConfigError unless the network takes search regions of this many pixels."""
    if card.backbone.startswith("efficientnet") and size % 8 != 7:
        raise ConfigError(
            f"{card.name} has the backbone {card.backbone}, which takes search regions of 8k + 7 "
            f"pixels only: set pairs.search_size to {size // 8 * 8 + 7}, not {size}"
        )


def _words(card: ModelCard) -> str:
    head = f" and a {card.head.kind} head of {card.head.width}" if card.head else ""
    return f"the backbone {card.backbone} with the widths {card.widths}{head}"


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
        self.family = family_of(pupils[0].card.architecture, config, dtype)
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
