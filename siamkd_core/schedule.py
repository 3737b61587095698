"""Learning rate of a step: decay by epochs as pure functions, and a linear warm-up before it."""

from __future__ import annotations

import math
from bisect import bisect_right
from dataclasses import dataclass

from siamkd_core.errors import ConfigError

KINDS = ("exponential", "cosine", "step")


@dataclass(frozen=True)
class ScheduleConfig:
    """How the learning rate goes from ``lr`` to ``lr_end``.

    Attributes:
        kind: ``exponential``, ``cosine`` or ``step``, each constant within an epoch.
        warmup_epochs: the rate first rises linearly, step by step, to ``lr``; the decay takes the
            epochs that are left.
        milestones: of ``step``: epochs, counted from 0, at which the rate falls by one and the
            same factor, which leads to ``lr_end`` at the last of them.
    """

    kind: str = "exponential"
    warmup_epochs: int = 0
    milestones: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ConfigError(f"schedule.kind must be one of {', '.join(KINDS)}, got {self.kind!r}")
        if self.warmup_epochs < 0:
            raise ConfigError("schedule.warmup_epochs must not be negative")
        if (self.kind == "step") != bool(self.milestones):
            raise ConfigError("schedule.milestones belong to the kind step, and it needs some")
        if list(self.milestones) != sorted(set(self.milestones)):
            raise ConfigError("schedule.milestones must rise")

    def check(self, epochs: int) -> None:
        """Raise ConfigError unless warm-up and milestones fit into this many epochs."""
        if self.warmup_epochs >= epochs:
            raise ConfigError(f"schedule.warmup_epochs must be below epochs ({epochs})")
        if self.milestones and not self.warmup_epochs < self.milestones[0]:
            raise ConfigError("schedule.milestones must come after the warm-up")
        if self.milestones and self.milestones[-1] >= epochs:
            raise ConfigError(f"schedule.milestones must be below epochs ({epochs})")


def learning_rate(
    config: ScheduleConfig, lr: float, lr_end: float, epochs: int, step: int, steps_per_epoch: int
) -> float:
    """The rate of a step, counted from 0 over the whole run."""
    epoch, warmup = step // steps_per_epoch, config.warmup_epochs
    if epoch < warmup:
        return lr * (step + 1) / (warmup * steps_per_epoch)
    if config.kind == "step":
        return staircase(lr, lr_end, bisect_right(config.milestones, epoch), len(config.milestones))
    last = epochs - 1 - warmup
    progress = (epoch - warmup) / last if last else 0.0
    return (cosine if config.kind == "cosine" else exponential)(lr, lr_end, progress)


def exponential(start: float, end: float, progress: float) -> float:
    """``start * (end / start) ** progress``, progress in 0..1."""
    return float(start * (end / start) ** progress)


def cosine(start: float, end: float, progress: float) -> float:
    """Half a cosine from ``start`` to ``end`` (Loshchilov and Hutter 2017, without restarts)."""
    return end + (start - end) * (1 + math.cos(math.pi * progress)) / 2


def staircase(start: float, end: float, passed: int, count: int) -> float:
    """Constant stages with one ratio between neighbours: ``end`` once all ``count`` are passed."""
    return exponential(start, end, passed / count)
