"""What a proposed student is worth: a little distillation, then what the recipe holds out."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from siamkd_core.device import resolve_device, resolve_precision
from siamkd_core.distill import DistillTask
from siamkd_core.distill_config import DistillConfig, StudentConfig
from siamkd_core.errors import ConfigError, DivergedError, ModelFileError, ShapeError
from siamkd_core.family import family_of
from siamkd_core.freeze import check_layers
from siamkd_core.held_out import HeldOut
from siamkd_core.modelfile import ModelCard, build_network, load_model, new_card
from siamkd_core.run import run
from siamkd_core.schedule import ScheduleConfig
from siamkd_core.siamfc import count_parameters

FOLDER = "child"
"""Of the student that learns, beginning of the name."""


class ShapeJudge:
    """A :class:`siamkd_core.shape_search.Judge` by a recipe.

    The accuracy is the mean IoU of tracking the held-out sequences where the recipe has
    ``tracking_every``, else the share of held-out pairs whose response peaks on the target.

    Args:
        recipe: with the teacher's hash.
        full: the student at its full widths.
        data: folder of the recipe's sources.
        folder: of the search.
        pairs: that a student learns from; 0: none.
        device, precision: see :mod:`siamkd_core.device`.
        commit: of the code.
        stop: asked before each student and after each step of its distillation; once true,
            KeyboardInterrupt.

    Attributes:
        teacher: parameters and accuracy.

    Raises:
        ConfigError: the recipe holds nothing out, or has fewer pairs than a batch; its student
            cannot start at its full widths; the teacher finds nothing.
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
        judged = shortened(recipe, pairs)
        # what is held out is judged here, once
        self._short = replace(judged, validation_pairs=0, tracking_every=0)
        self._kind = "iou" if recipe.tracking_every else "hits"
        self._data, self._folder, self._pairs = Path(data), folder, pairs
        self._where, self._commit, self._stop = (device, precision), commit, stop
        self._device = resolve_device(device)
        self._dtype = resolve_precision(precision, self._device)
        self._held_out = HeldOut(judged, data, self._device, self._dtype)
        # what is wrong with the recipe, and not with a shape, shows here
        network, _ = self._start(full)
        check_layers(nn.ModuleDict({full.name: network}), self._short.freeze)
        network, card = load_model(recipe.teacher)
        self._family = card.architecture
        self.teacher = count_parameters(network), self._accuracy(network, card)
        if not self.teacher[1]:
            raise ConfigError(
                f"the teacher {card.name} finds none of the targets that the recipe holds out, so "
                "no student can be held against it"
            )

    def parameters(self, student: StudentConfig) -> int:
        card = new_card(student.name, self._family, student.widths, student.backbone, student.head)
        try:
            return count_parameters(build_network(card))
        except ModelFileError as error:
            raise ShapeError(str(error)) from error

    def accuracy(self, student: StudentConfig) -> float:
        if self._stop():
            raise KeyboardInterrupt
        try:
            network, card = self._start(student)
        except (ConfigError, ModelFileError) as error:
            raise ShapeError(str(error)) from error
        if not self._pairs:
            return self._accuracy(network, card)
        folder = self._folder / f"{FOLDER}_{_key(student)}"
        try:
            (path,) = run(
                DistillTask,
                replace(self._short, students=(student,)),
                self._data,
                folder,
                *self._where,
                self._commit,
                self._stop,
            )
        except DivergedError as error:
            shutil.rmtree(folder)
            raise ShapeError(str(error)) from error
        worth = self._accuracy(*load_model(path))
        # gone at once: half a folder would be an earlier run's
        done = self._folder / f"{FOLDER}_done"
        shutil.rmtree(done, ignore_errors=True)
        shutil.rmtree(folder.rename(done))
        return worth

    def _start(self, student: StudentConfig) -> tuple[nn.Module, ModelCard]:
        recipe = replace(self._short, students=(student,))
        task = DistillTask(recipe, self._data, self._device, self._dtype, self._commit)
        return task.networks[student.name], task.cards[student.name]

    @torch.no_grad()
    def _accuracy(self, network: nn.Module, card: ModelCard) -> float:
        family = family_of(card.architecture, self._short, self._dtype, card.head)
        network.to(self._device).eval()
        found = self._held_out.validate({card.name: network}, {card.name: card}, family, 0)
        return found.metrics[f"{self._kind}/held_out"]


def _key(student: StudentConfig) -> str:
    return hashlib.sha256(f"{student.widths} {student.head}".encode()).hexdigest()[:12]


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
