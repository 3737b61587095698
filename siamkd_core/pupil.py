"""How a network begins that is to learn: at random, from a classifier, from a model, from what is
left of one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.utils.data import default_collate

from siamkd_core.alexnet import AlexNet
from siamkd_core.ban_head import BanHead
from siamkd_core.efficientnet import PRUNED, EfficientNet
from siamkd_core.errors import ConfigError
from siamkd_core.family import images
from siamkd_core.mobilenet import MobileNetV3
from siamkd_core.mobilenet_pyramid import MobileNetPyramid, without_neck
from siamkd_core.modelfile import (
    ModelCard,
    build_network,
    check_backbone_takes,
    load_model,
    new_card,
)
from siamkd_core.network import SiameseNetwork
from siamkd_core.pairs import PairDataset, find_sources
from siamkd_core.pixelwise_head import PixelwiseHead
from siamkd_core.pretrained import load_pretrained
from siamkd_core.prune import CHUNK, prune
from siamkd_core.prune_ban import prune_ban_head
from siamkd_core.prune_head import narrow_pixelwise_head, prune_head
from siamkd_core.prune_mobilenet import prune_mobilenet
from siamkd_core.recipe import RecipeConfig
from siamkd_core.siamfc import SiamFC, count_parameters
from siamkd_core.siamrpn import DepthwiseHead, HeadConfig, SiamRPN
from siamkd_core.start_necks import start_necks

FITTED_ON = 128
"""Search regions that a slim backbone is fitted on."""


class Pupil(NamedTuple):
    """A network to train, what describes it, and what its card shall say of its origin."""

    network: nn.Module
    card: ModelCard
    origin: Mapping[str, Any]


class Sample(NamedTuple):
    """Crops that a slim network is fitted on: (N, 3, 127, 127) and (N, 3, S, S) float, BGR 0..255,
    of N pairs."""

    exemplars: Tensor
    search: Tensor


def no_sample() -> Sample:
    """Where there is no data to take it from."""
    raise ConfigError("a slim backbone is fitted on images: start it in a training")


def sample(config: RecipeConfig, data: str | Path) -> Sample:
    """The first pairs of the seed behind the first weights' own.

    Raises:
        DataError: no usable data.
    """
    sources = find_sources(data, config.pairs)
    pairs = PairDataset(sources, config.pairs, FITTED_ON, config.begins_with + 1)
    batch = default_collate([pairs[number] for number in range(len(pairs))])
    return Sample(*images(batch))


def fresh(
    name: str,
    architecture: str,
    widths: tuple[int, ...],
    seed: int,
    start_from: str = "",
    backbone: str = "alexnet",
    pretrained: bool = False,
    head: HeadConfig | None = None,
    fitted_on: Callable[[], Sample] = no_sample,
) -> Pupil:
    """A network with random weights; or with those of the model ``start_from``, its backbone's
    alone where it is of another architecture (and necks that fit a MobileNetV3's, which a siamrpn
    has none of), or what is left of them in a slim backbone and a narrower depth-wise or ban head,
    or a pixel-wise one of the same width; or (``pretrained``) with those of an image classifier in
    the backbone.

    The weights depend on these arguments alone, not on what else a run trains. ``fitted_on`` makes
    what a slim network is fitted on, see :func:`siamkd_core.prune.prune`.

    Raises:
        ConfigError: no such architecture; ``start_from`` has another backbone (but for a slim
            one's full one), other widths (but for a wider slim one's) or,
            within the architecture, another head (in a slim network a pixel-wise one keeps its
            width: start from a siamfc for a new one); no pretrained weights fit or their package is
            missing.
        ModelFileError: no such model, or a backbone, widths or head that do not exist.
    """
    card = new_card(name, architecture, widths, backbone, head)
    torch.manual_seed(seed)
    network = build_network(card)
    card = replace(card, parameters=count_parameters(network))

    def pairs() -> Sample:
        made = fitted_on()
        check_backbone_takes(card, made.search.shape[-1])
        return made

    if pretrained:
        return Pupil(
            network, card, {"pretrained": load_pretrained(network, lambda: pairs().search)}
        )
    if not start_from:
        return Pupil(network, card, {})
    source, base = load_model(start_from)
    origin = {"name": base.name, "sha256": base.sha256, "training": base.training}
    same = base.architecture == card.architecture
    narrower = _trunk(base) != _trunk(card) or (same and base.widths != card.widths)
    slim = narrower and base.backbone == card.backbone and card.backbone.endswith(PRUNED)
    if slim or card.backbone == f"{base.backbone}{PRUNED}":
        part = _start_pruned(network, card, source, base, pairs())
        return Pupil(network, card, {"started_from": {**origin, "part": part}})
    if base.backbone != card.backbone or narrower or (same and base.head != card.head):
        raise ConfigError(
            f"{start_from} has {_words(base)}, the recipe {_words(card)}; they must be the same to "
            "start from it"
        )
    if same:
        return Pupil(source, card, {"started_from": origin})
    ours, theirs = (cast(nn.Module, cast(Any, one).backbone) for one in (network, source))
    try:
        if isinstance(ours, AlexNet) and isinstance(theirs, AlexNet):
            ours.take(theirs)
        elif isinstance(ours, MobileNetV3) and isinstance(theirs, MobileNetV3):
            ours.stem.load_state_dict(theirs.stem.state_dict())
            ours.blocks.load_state_dict(theirs.blocks.state_dict())
            if isinstance(ours, MobileNetPyramid):
                start_necks(ours, pairs().search)
        else:
            ours.load_state_dict(theirs.state_dict())
    except (RuntimeError, ValueError) as error:
        # a SiamFC's AlexNet has groups; there may be no necks that fit
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
    fitted_on: Sample,
) -> str:
    """What of the source it starts from."""
    full, slim = source.backbone, network.backbone
    try:
        if isinstance(full, MobileNetV3) and isinstance(slim, MobileNetV3):
            prune_mobilenet(full, slim, fitted_on)
            if isinstance(network, SiamFC) and isinstance(slim, MobileNetPyramid):
                whole = full if isinstance(full, MobileNetPyramid) else None
                start_necks(slim, fitted_on.search, whole)
                if not isinstance(source, SiamFC):
                    return "backbone, pruned"
                network.adjust.load_state_dict(source.adjust.state_dict())
                return "pruned"
            wide, narrow = (getattr(one, "head", None) for one in (source, network))
            if not isinstance(wide, BanHead) or not isinstance(narrow, BanHead):
                return "backbone, pruned"
            prune_ban_head(wide, narrow, *_features(source, fitted_on))
            return "pruned"
        assert isinstance(full, EfficientNet) and isinstance(slim, EfficientNet)
        bases = prune(full, slim, fitted_on.search)
        if isinstance(network, SiamFC) and isinstance(source, SiamFC):
            network.adjust.load_state_dict(source.adjust.state_dict())
            return "pruned"
        if isinstance(network, SiamRPN) and isinstance(source, SiamRPN):
            wide, narrow = source.head, network.head
            if isinstance(wide, DepthwiseHead) and isinstance(narrow, DepthwiseHead):
                prune_head(wide, narrow, bases, *_features(source, fitted_on))
                return "pruned"
            if isinstance(wide, PixelwiseHead) and isinstance(narrow, PixelwiseHead):
                narrow_pixelwise_head(wide, narrow, bases)
                return "pruned"
    except ValueError as error:
        raise ConfigError(
            f"a {card.architecture} of {_words(card)} is not what is left of {base.name}, a "
            f"{base.architecture} of {_words(base)}: {error}"
        ) from error
    return "backbone, pruned"


@torch.no_grad()
def _features(source: SiameseNetwork, sample: Sample) -> tuple[Tensor, Tensor]:
    """(N, C, h, h) and (N, C, H, H) float, of the exemplars and search regions."""
    source.eval()
    exemplars, search = (
        torch.cat([source.embed(chunk) for chunk in crops.split(CHUNK)]) for crops in sample
    )
    return exemplars, search


def _trunk(card: ModelCard) -> tuple[int, ...]:
    """The widths of its backbone that one of another architecture has as well."""
    if card.architecture == "siamfc" and card.backbone.startswith("mobilenet_v3"):
        return without_neck(card.widths)
    return card.widths


def _words(card: ModelCard) -> str:
    head = f" and a {card.head.kind} head of {card.head.width}" if card.head else ""
    return f"the backbone {card.backbone} with the widths {card.widths}{head}"
