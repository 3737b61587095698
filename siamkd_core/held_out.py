"""Networks judged on what a recipe holds out: the loss of pairs, and tracking whole sequences."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader

from siamkd_core.box import present
from siamkd_core.device import short
from siamkd_core.distributed import rank, size, total
from siamkd_core.errors import ConfigError, SiamkdError
from siamkd_core.evaluate import run_sequence
from siamkd_core.family import Family
from siamkd_core.image import read_image
from siamkd_core.metrics import measure
from siamkd_core.modelfile import ModelCard, network_with
from siamkd_core.pairs import Pair, PairDataset, Source, find_sources
from siamkd_core.recipe import RecipeConfig
from siamkd_core.sequences import Sequence
from siamkd_core.task import Validation
from siamkd_core.tracker import make_tracker


class HeldOut:
    """The held-out pairs and sequences of a recipe; each process judges its share of them.

    Args:
        config: ``validation_pairs``, ``tracking_every`` and ``tracking_frames`` say how much.
        data: folder of the recipe's sources.
        device, dtype: where and in which precision the networks are judged.

    Raises:
        ConfigError: tracking is asked for, but no whole video is held out.
        ImageError: a frame of a held-out sequence cannot be read.
    """

    def __init__(
        self, config: RecipeConfig, data: str | Path, device: torch.device, dtype: torch.dtype
    ) -> None:
        self.config, self.device, self.dtype = config, device, dtype
        self.pairs: list[Pair] = []
        self.sequences: list[Sequence] = []
        if not config.validation_pairs and not config.tracking_every:
            return
        sources = find_sources(data, config.pairs, held_out=True)
        if config.validation_pairs:
            # every pair has a target to hit
            positive = replace(config.pairs, negative=0.0)
            fixed = PairDataset(sources, positive, config.validation_pairs, seed=1)
            self.pairs = [fixed[i] for i in range(rank(), len(fixed), size())]
        if config.tracking_every:
            self.sequences = trackable(sources, config.tracking_frames)
            if not self.sequences:
                raise ConfigError(
                    "tracking_every needs whole videos: a sequence folder among pairs.holdout "
                    "(shards hold crops, so train from the images), or tracking_every: 0"
                )
            for frame in (f for s in self.sequences[rank() :: size()] for f in s.frames):
                read_image(frame)  # one that is broken must not stop the run at night

    def validate(
        self,
        networks: Mapping[str, nn.Module],
        cards: Mapping[str, ModelCard],
        family: Family,
        epoch: int,
    ) -> Validation:
        """Judge each network at the end of an epoch, counted from 0.

        The metrics are ``loss/held_out``, ``hits/held_out`` and ``iou/held_out``, of several
        networks ``loss/<name>/held_out`` and so on; the IoU is the score.
        """
        metrics, scores = {}, {}
        for name, network in networks.items():
            prefix = "" if len(cards) == 1 else f"{name}/"
            if self.config.validation_pairs:
                for kind, value in self._judge_pairs(network, family).items():
                    metrics[f"{kind}/{prefix}held_out"] = value
            if self.config.validates_tracking(epoch):
                scores[name] = metrics[f"iou/{prefix}held_out"] = self._track(network, cards[name])
        return Validation(metrics, scores)

    def _judge_pairs(self, network: nn.Module, family: Family) -> dict[str, float]:
        """Mean loss, and the share of held-out pairs whose response peaks on the target."""
        sums = torch.zeros(3, device=self.device, dtype=torch.float64)
        loader: Any = DataLoader(self.pairs, batch_size=self.config.batch_size)  # type: ignore[arg-type]
        for rows in loader:
            batch = {name: value.to(self.device) for name, value in rows.items()}
            answer = family.answer(network, batch)
            loss, hits = family.label_loss(answer, batch), family.hits(answer, batch)
            sums += torch.stack([loss.sum(), hits.sum(), loss.new_tensor(float(len(loss)))]).to(
                sums
            )
        loss_sum, hit_sum, count = total(sums).tolist()
        return {"loss": loss_sum / count, "hits": hit_sum / count}

    def _track(self, network: nn.Module, card: ModelCard) -> float:
        """Mean over the held-out sequences of the mean IoU of one pass through each."""
        copy = network_with(card, network.state_dict())
        tracker = make_tracker(copy, card, str(self.device), short(self.dtype), "torch")
        values = np.zeros(len(self.sequences))
        for index in range(rank(), len(self.sequences), size()):
            sequence = self.sequences[index]
            try:
                boxes = run_sequence(tracker, sequence).boxes
            except SiamkdError as error:
                raise SiamkdError(f"validation by tracking: {error}") from error
            values[index] = measure(boxes, sequence.boxes).mean_iou
        return float(total(torch.from_numpy(values).to(self.device)).mean())


def trackable(sources: list[Source], frames: int) -> list[Sequence]:
    """The sequences among the sources, each once: so many frames from the first true box."""
    found = {}
    for item in (item for source in sources for item in source.items):
        if isinstance(item, Sequence) and present(item.boxes).any():
            start = int(present(item.boxes).argmax())
            part = slice(start, start + frames)
            found[item.name, item.frames[0]] = Sequence(
                item.name, item.frames[part], item.boxes[part]
            )
    return list(found.values())
