"""What the training engine is told, whatever is trained."""

from __future__ import annotations

from dataclasses import dataclass, field

from siamkd_core.errors import ConfigError
from siamkd_core.freeze import FreezeConfig
from siamkd_core.schedule import ScheduleConfig

OPTIMIZERS = ("sgd", "adamw")
NEUTRAL = frozenset({"workers", "cache_gib", "checkpoint_every"})
"""Keys that may change between an interruption and the resume: no weight depends on them."""


def check_seed(seed: int) -> None:
    """Raise ConfigError unless random numbers can start from it."""
    if seed < 0:
        raise ConfigError(f"a seed must not be negative, got {seed}")


@dataclass(frozen=True)
class EngineConfig:
    """Optimisation, order of the data and checkpoints; a recipe adds its own keys.

    Attributes:
        epochs: number of epochs.
        pairs_per_epoch: rounded down to whole batches.
        batch_size: pairs a step, over all processes together.
        lr, lr_end: first (after the warm-up) and last learning rate.
        schedule: how the rate goes from one to the other.
        optimizer: ``sgd``, or ``adamw`` (Loshchilov and Hutter, 2019), for layers that begin at
            random beside layers that do not.
        momentum: of SGD; AdamW has its usual 0.9 and 0.999.
        weight_decay: of either, each in its own sense.
        clip_norm: each network's gradient is scaled down to this L2 norm; 0 leaves it.
        freeze: layers that do not learn in the first epochs.
        ema: decay a step of the exponential moving average of the weights; the average is what is
            validated and becomes the model. 0: the weights themselves.
        compile: run the losses through ``torch.compile``: faster steps after a slow first one.
        checkpoint_every: steps between checkpoints within an epoch; one is always written at its
            end. 0: only there.
        workers: processes that make pairs, for each training process; 0 makes them in it.
        seed: of weights, pairs and everything else random.
    """

    epochs: int = 50
    pairs_per_epoch: int = 9335
    batch_size: int = 8
    lr: float = 1e-2
    lr_end: float = 1e-5
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    optimizer: str = "sgd"
    momentum: float = 0.9
    weight_decay: float = 5e-4
    clip_norm: float = 0.0
    freeze: tuple[FreezeConfig, ...] = ()
    ema: float = 0.0
    compile: bool = False
    checkpoint_every: int = 500
    workers: int = 2
    seed: int = 0

    def __post_init__(self) -> None:
        if self.epochs < 1 or self.batch_size < 2 or self.pairs_per_epoch < self.batch_size:
            raise ConfigError("epochs >= 1, batch_size >= 2 and pairs_per_epoch >= batch_size")
        if self.optimizer not in OPTIMIZERS:
            raise ConfigError(
                f"optimizer is one of {', '.join(OPTIMIZERS)}, got {self.optimizer!r}"
            )
        if not 0 < self.lr_end <= self.lr:
            raise ConfigError("lr and lr_end must fulfil 0 < lr_end <= lr")
        if not 0 <= self.ema < 1:
            raise ConfigError(f"ema must lie in 0..1 (below 1), got {self.ema}")
        if min(self.workers, self.checkpoint_every, self.clip_norm) < 0:
            raise ConfigError("workers, checkpoint_every and clip_norm must not be negative")
        check_seed(self.seed)
        if not 0 <= self.momentum < 1 or self.weight_decay < 0:
            raise ConfigError(
                "momentum must lie in 0..1 (below 1) and weight_decay must not be negative, got "
                f"{self.momentum} and {self.weight_decay}"
            )
        self.schedule.check(self.epochs)

    @property
    def steps_per_epoch(self) -> int:
        return self.pairs_per_epoch // self.batch_size

    @property
    def steps(self) -> int:
        return self.epochs * self.steps_per_epoch
