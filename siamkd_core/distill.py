"""Distil students from a teacher: the task, made of the losses in :mod:`siamkd_core.losses`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cache, partial
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from siamkd_core.device import resolve_precision, short
from siamkd_core.distill_config import DistillConfig, StudentConfig, TermsConfig
from siamkd_core.errors import ConfigError
from siamkd_core.family import Answer, family_of
from siamkd_core.harder import harder
from siamkd_core.losses.adaptive_hard import adaptive_hard
from siamkd_core.losses.baselines import feature_matching
from siamkd_core.losses.sharing import decayed, sharing_gate
from siamkd_core.losses.target_response import target_response
from siamkd_core.modelfile import (
    ModelCard,
    check_backbone_takes,
    find_model,
    load_model,
    read_card,
)
from siamkd_core.network import stride_of
from siamkd_core.pair_task import PairTask
from siamkd_core.pupil import Pupil, fresh, sample
from siamkd_core.run import run
from siamkd_core.task import Batch

ADAPTER = "adapter"
"""Name of the convolution of ``feature_matching`` in a student that is trained."""


def distill(
    config: DistillConfig,
    data: str | Path,
    output: str | Path,
    device: str = "auto",
    precision: str = "auto",
    commit: str = "unknown",
    stop: Callable[[], bool] = lambda: False,
) -> list[Path]:
    """The paths of the students' model files that :func:`siamkd_core.run.run` leaves, in the order
    of the recipe."""
    config = with_teacher(config)
    return run(DistillTask, config, data, output, device, precision, commit, stop)


def with_teacher(config: DistillConfig) -> DistillConfig:
    """The recipe with the hash of its teacher's file.

    Raises:
        ModelFileError: no such model.
        ConfigError: the recipe has the hash of another.
    """
    found = read_card(find_model(config.teacher)).sha256
    if config.teacher_sha256 not in ("", found):
        raise ConfigError(
            f"the teacher {config.teacher} has the sha256 {found[:12]}..., the recipe was run with "
            f"{config.teacher_sha256[:12]}...: bring that file back, or remove teacher_sha256"
        )
    return replace(config, teacher_sha256=found)


def _check_anchors(teacher: ModelCard, students: Sequence[StudentConfig]) -> None:
    """Raise ConfigError unless the deltas of teacher and students are relative to the same."""
    for one in students:
        if one.head and teacher.head and one.head.shaped != teacher.head.shaped:
            raise ConfigError(
                f"{one.name} has a {one.head.kind} head and its teacher {teacher.name} a "
                f"{teacher.head.kind} one, whose anchors are others: both must be pixelwise or "
                "ban, or neither"
            )


class DistillTask(PairTask):
    """A :class:`siamkd_core.task.Task`: students, and a teacher that runs once for all of them.

    The gradient of a student is that of its own losses: they share nothing but the pairs, unless
    the sharing is ``literal``.

    Args:
        config, data, commit: see :func:`siamkd_core.run.run`.
        device, dtype: where and in which precision the networks run.

    Raises:
        ModelFileError: no such teacher, students' widths that do not exist, a head that is missing
            or that a siamfc does not have.
        ConfigError: a model to start from that does not fit; a head with other anchors than the
            teacher's, or a teacher's head that cannot be reused; features of another stride, where
            they are to be compared.
    """

    def __init__(
        self,
        config: DistillConfig,
        data: str | Path,
        device: torch.device,
        dtype: torch.dtype,
        commit: str,
    ) -> None:
        teacher, card = load_model(config.teacher)
        check_backbone_takes(card, config.pairs.search_size)
        _check_anchors(card, config.students)
        told = config.teacher_precision
        precise = resolve_precision(told, device) if told else dtype
        facts = {key: getattr(card, key) for key in ("name", "sha256", "parameters")}
        # whose a teacher is that somebody else has trained
        facts |= {key: card.training[key] for key in ("imported",) if key in card.training}
        taught = {"teacher": {**facts, "precision": short(precise)}}
        pairs = cache(partial(sample, config, data))
        pupils = [
            fresh(
                one.name,
                card.architecture,
                one.widths,
                config.begins_with,
                one.start_from,
                one.backbone,
                one.pretrained,
                one.head,
                pairs,
            )
            for one in config.students
        ]
        pupils = [one._replace(origin={**taught, **one.origin}) for one in pupils]
        super().__init__(config, data, device, dtype, commit, pupils)
        self.teaching = family_of(card.architecture, config, precise, card.head)
        self.config = config
        self.students = {one.name: one for one in config.students}
        # not among the networks: nothing trains it, saves it or puts it into training mode
        self.teacher = teacher.requires_grad_(False).to(  # type: ignore[call-overload]
            device, memory_format=torch.channels_last
        )
        for one, student in zip(pupils, config.students, strict=True):
            _check_strides(one, teacher, config.terms(student))
            matching = config.terms(student).feature_matching
            networks = (one.network, teacher) if matching else ()
            channels = [self.family.channels(network) for network in networks]
            if student.reuse_head:
                _reuse_head(one, teacher, card)
                if len(set(channels)) > 1:
                    raise ConfigError(
                        f"{student.name} has features of {channels[0]} channels and its teacher of "
                        f"{channels[1]}: feature_matching needs as many where reuse_head is set"
                    )
                self.origins[one.card.name] = {**one.origin, "head_from": card.name}
            elif matching:
                torch.manual_seed(config.begins_with)
                one.network.add_module(ADAPTER, nn.Conv2d(channels[0], channels[1], 1))
        self.start_epoch(0)

    def start_epoch(self, epoch: int) -> None:
        self.strength = decayed(self.config.sharing.decay, epoch)

    def losses(self, networks: nn.ModuleDict, batch: Batch) -> dict[str, Tensor]:
        """``loss``, the sum over the students; ``<student>``, its weighted terms' sum; and
        ``<student>/<term>``, each term without its weight."""
        # before the teacher: on a GPU the angles wait for what was asked of it
        seen, alike = harder(batch, self.config.harder, self.config.seed)
        with torch.no_grad():
            teacher = self.teaching.answer(self.teacher, batch)
            truth = self.family.hard_loss(teacher, batch)
        answers = {name: self.family.answer(networks[name], seen) for name in self.cards}
        hard = {name: self.family.hard_loss(one, batch) for name, one in answers.items()}
        parts = {}
        for name, student in self.students.items():
            terms = self._terms(
                name, networks[name], answers[name], hard[name], teacher, truth, batch, alike
            )
            if self.config.providers(student):
                shared = self._shared(student, answers, hard, truth, batch)
                terms["sharing"] = (student.share, shared.mean())
            parts[name] = torch.stack([weight * value for weight, value in terms.values()]).sum()
            parts |= {f"{name}/{term}": value for term, (_, value) in terms.items()}
        loss = torch.stack([parts[name] for name in self.cards]).sum()
        return {"loss": loss, **parts}

    def _terms(
        self,
        name: str,
        network: nn.Module,
        student: Answer,
        hard: Tensor,
        teacher: Answer,
        truth: Tensor,
        batch: Batch,
        alike: Tensor,
    ) -> dict[str, tuple[float, Tensor]]:
        """Weight and mean of each term that is in use; ``hard`` and ``truth`` (N,) are the losses
        of student and teacher against the truth, ``alike`` (N,) is 1 where both see the same."""
        config = self.config.terms(self.students[name])
        ours, theirs = on_one_grid(student, teacher)
        made: dict[str, tuple[float, Callable[[], Tensor]]] = {
            "label": (config.label, lambda: self.family.label_loss(student, batch).mean()),
            "teacher_soft": (
                config.teacher_soft,
                lambda: self.family.soft_loss(
                    student, teacher, batch, config.temperature, config.positive == "teacher"
                ).mean(),
            ),
            "adaptive_hard": (
                config.adaptive_hard,
                lambda: adaptive_hard(hard, truth, config.margin).mean(),
            ),
            "target_response": (
                config.target_response,
                lambda: (
                    alike
                    * target_response(ours.exemplar, ours.search, theirs.exemplar, theirs.search)
                ).mean(),
            ),
            "feature_matching": (
                config.feature_matching,
                lambda: _match(self._adapter(name, network), ours, theirs, alike).mean(),
            ),
            "stranger": (
                self.config.stranger_weight,
                lambda: self.family.strange_loss(network, student, batch),
            ),
        }
        return {name: (weight, term()) for name, (weight, term) in made.items() if weight}

    def _adapter(self, name: str, network: nn.Module) -> nn.Module | None:
        return None if self.students[name].reuse_head else network.get_submodule(ADAPTER)

    def _shared(
        self,
        receiver: StudentConfig,
        answers: Mapping[str, Answer],
        hard: Mapping[str, Tensor],
        truth: Tensor,
        batch: Batch,
    ) -> Tensor:
        """(N,) what a student learns from its providers, the mean over them."""
        config = self.config.terms(receiver)
        directional = self.config.sharing.variant == "directional"
        found, name = [], receiver.name
        for provider in self.config.providers(receiver):
            judged = hard[provider if directional else name]
            gate = sharing_gate(judged, truth, config.margin, self.strength)
            found.append(
                gate
                * self.family.sharing_loss(
                    answers[name], answers[provider], batch, config.temperature, directional
                )
            )
        return torch.stack(found).mean(0)


def _check_strides(pupil: Pupil, teacher: nn.Module, terms: TermsConfig) -> None:
    """Raise ConfigError unless features that are compared lie on one grid."""
    ours, theirs = stride_of(pupil.network), stride_of(teacher)
    if ours != theirs and (terms.target_response or terms.feature_matching):
        raise ConfigError(
            f"the features of {pupil.card.name} have a stride of {ours} pixels, its teacher's of "
            f"{theirs}: set target_response and feature_matching to 0, or choose a backbone of the "
            "same stride"
        )


def _reuse_head(pupil: Pupil, teacher: nn.Module, card: ModelCard) -> None:
    """Give a student the teacher's head, unless it starts from the teacher or what is left of it.

    Raises:
        ConfigError: it has none, or another.
    """
    ours, theirs = (getattr(one, "head", None) for one in (pupil.network, teacher))
    started = pupil.origin.get("started_from")
    whole = started and started.get("part") not in ("backbone", "backbone, pruned")
    if started and whole and theirs is not None:
        if started["sha256"] == card.sha256:
            return
        raise ConfigError(
            f"{pupil.card.name} has the head of {started['name']}, which it starts from: leave "
            "reuse_head out, or start from the teacher, or from a model of another architecture or "
            "backbone"
        )
    reason = ""
    if ours is not None and theirs is not None:
        try:
            ours.load_state_dict(theirs.state_dict())
            return
        except RuntimeError as error:
            reason = f": {error}"
    raise ConfigError(
        f"{pupil.card.name} cannot reuse the head of its teacher {card.name}: head and channels of "
        f"the features must be the same, and the architecture must have a head{reason}"
    )


def on_one_grid(student: Answer, teacher: Answer) -> tuple[Answer, Answer]:
    """Answers whose features can be compared cell by cell.

    The cells of a ResNet lie half a stride beside those of the other backbones, one more in a row:
    7x7 of an exemplar and not 6x6. The mean of four neighbours brings them there (our choice).
    """
    more = student.search.shape[-1] - teacher.search.shape[-1]
    if more == 1:
        return _between(student), teacher
    return student, _between(teacher) if more == -1 else teacher


def _between(answer: Answer) -> Answer:
    """The features between the cells."""
    exemplar, search = (F.avg_pool2d(part, 2, 1) for part in (answer.exemplar, answer.search))
    return answer._replace(exemplar=exemplar, search=search)


def _match(adapter: nn.Module | None, student: Answer, teacher: Answer, alike: Tensor) -> Tensor:
    """(N,) distance of the features of exemplar and search region, the mean of both; an exemplar
    that the student sees otherwise has none (``alike`` (N,) is 0)."""
    ours = student.exemplar.float(), student.search.float()
    if adapter is not None:
        ours = adapter(ours[0]), adapter(ours[1])
    exemplar = alike * feature_matching(ours[0], teacher.exemplar)
    return (exemplar + feature_matching(ours[1], teacher.search)) / 2
