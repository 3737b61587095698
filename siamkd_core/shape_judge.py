"""What a proposed student is worth: a little distillation, then what the recipe holds out."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch

from siamkd_core.device import resolve_device, resolve_precision
from siamkd_core.distill import DistillTask
from siamkd_core.distill_config import DistillConfig, StudentConfig
from siamkd_core.errors import ConfigError
from siamkd_core.family import family_of
from siamkd_core.held_out import HeldOut
from siamkd_core.modelfile import ModelCard, build_network, load_model, new_card
from siamkd_core.network import SiameseNetwork
from siamkd_core.run import run
from siamkd_core.schedule import ScheduleConfig
from siamkd_core.siamfc import count_parameters

FOLDER = "child"


class ShapeJudge:
    """A :class:`siamkd_core.shape_search.Judge` by a recipe.

    The accuracy is the mean IoU of tracking the held-out sequences where the recipe has
    ``tracking_every``, else the share of held-out pairs whose response peaks on the target.

    Args:
        recipe: with the teacher's hash.
        full: the student at its full widths.
        data: folder of its sources.
        folder: of the search; the student that is being judged is in its :data:`FOLDER`.
        pairs: that a student learns from; 0: none.
        device, precision: see :mod:`siamkd_core.device`.
        commit: of the code.
        stop: asked after each step of a distillation; once true, KeyboardInterrupt.

    Attributes:
        teacher: parameters and accuracy.

    Raises:
        ConfigError: the recipe holds nothing out, has fewer pairs than a batch, or its student
            cannot start at its full widths.
        ModelFileError, DataError: as :class:`siamkd_core.distill.DistillTask`.
    """

    def __init__(
        self,
        recipe: DistillConfig,
        full: StudentConfig,
        data: str | Path,
        folder: Path,
        pairs: int = 0,
        device: str = "auto",
        precision: str = "auto",
        commit: str = "unknown",
        stop: Callable[[], bool] = lambda: False,
    ) -> None:
        if not recipe.validation_pairs and not recipe.tracking_every:
            raise ConfigError(
                "a search judges students by what the recipe holds out: give it validation_pairs "
                "or tracking_every"
            )
        self._short = shortened(recipe, pairs)
        self._data, self._folder, self._pairs = Path(data), folder / FOLDER, pairs
        self._where, self._commit, self._stop = (device, precision), commit, stop
        self._device = resolve_device(device)
        self._dtype = resolve_precision(precision, self._device)
        self._held_out = HeldOut(self._short, data, self._device, self._dtype)
        # what is wrong with the recipe, not with a shape, shows here
        self._start(full)
        network, card = load_model(recipe.teacher)
        self._family = card.architecture
        self.teacher = count_parameters(network), self._accuracy(network, card)

    def parameters(self, student: StudentConfig) -> int:
        card = new_card(student.name, self._family, student.widths, student.backbone, student.head)
        return count_parameters(build_network(card))

    def accuracy(self, student: StudentConfig) -> float:
        if not self._pairs:
            return self._accuracy(*self._start(student))
        recipe = replace(self._short, students=(student,))
        (path,) = run(
            DistillTask, recipe, self._data, self._folder, *self._where, self._commit, self._stop
        )
        worth = self._accuracy(*load_model(path))
        shutil.rmtree(self._folder)
        return worth

    def _start(self, student: StudentConfig) -> tuple[SiameseNetwork, ModelCard]:
        recipe = replace(self._short, students=(student,))
        task = DistillTask(recipe, self._data, self._device, self._dtype, self._commit)
        network = task.networks[student.name]
        assert isinstance(network, SiameseNetwork)
        return network, task.cards[student.name]

    @torch.no_grad()
    def _accuracy(self, network: SiameseNetwork, card: ModelCard) -> float:
        family = family_of(card.architecture, self._short, self._dtype, card.head)
        network.to(self._device).eval()
        found = self._held_out.validate({card.name: network}, {card.name: card}, family, 0)
        kind = "iou" if self._short.tracking_every else "hits"
        return found.metrics[f"{kind}/held_out"]


def shortened(recipe: DistillConfig, pairs: int) -> DistillConfig:
    """The recipe with one epoch of so many pairs, and with nothing that needs more.

    Raises:
        ConfigError: fewer pairs than a batch, but for 0.
    """
    if 0 < pairs < recipe.batch_size:
        raise ConfigError(f"pairs: at least a batch of {recipe.batch_size}, or 0, got {pairs}")
    return replace(
        recipe,
        epochs=1,
        pairs_per_epoch=pairs or recipe.batch_size,
        schedule=ScheduleConfig(),
        freeze=tuple(replace(phase, until_epoch=1) for phase in recipe.freeze),
    )
