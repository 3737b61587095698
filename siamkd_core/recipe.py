"""What every recipe says that learns from pairs, whatever learns and from whom."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import nn

from siamkd_core.engine_config import EngineConfig, check_seed
from siamkd_core.errors import ConfigError
from siamkd_core.pairs import PairsConfig


@dataclass(frozen=True)
class RecipeConfig(EngineConfig):
    """Data, labels and validation.

    The model is the network of the best epoch, by a rule fixed in advance: the highest mean IoU of
    the tracking validation, the earliest epoch of equal ones; without tracking validation, the
    last epoch. The card records it.

    Attributes:
        data: what the data is and its licence, in words, for the card.
        pairs: data and crops.
        label_radius: of a siamfc: pixels (L1) around the target that are positive.
        box_weight: of a siamrpn: weight of the boxes' loss against the scores', of the label's as
            of a teacher's (the paper's lambda).
        stranger_weight: weight of the loss of each search region against the exemplar of another
            target of its batch, where every label is negative; 0 leaves it out.
        validation_pairs: pairs from the held-out folders after each epoch, 0 for none.
        tracking_every: epochs between two validations by tracking the held-out sequences, with the
            default tracker parameters; the last epoch is always validated. 0: never.
        tracking_frames: of each held-out sequence, from its first.
        cache_gib: decoded images each worker may keep in memory, GiB.
        start_seed: of the first weights and of the pairs that they are fitted on, in place of
            ``seed``: runs with one ``start_seed`` and several seeds begin with the same weights, so
            that what they end with can be averaged. None: ``seed``.
    """

    data: str = ""
    pairs: PairsConfig = field(default_factory=PairsConfig)
    label_radius: float = 16.0
    box_weight: float = 1.2
    stranger_weight: float = 0.0
    validation_pairs: int = 0
    tracking_every: int = 0
    tracking_frames: int = 100
    cache_gib: float = 0.0
    start_seed: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in (
            "cache_gib",
            "stranger_weight",
            "validation_pairs",
            "box_weight",
            "label_radius",
        ):
            if getattr(self, name) < 0:
                raise ConfigError(f"{name} must not be negative, got {getattr(self, name)}")
        if self.validation_pairs and not self.pairs.holdout:
            raise ConfigError(
                "validation_pairs come from held-out folders: name some in pairs.holdout, or set "
                "validation_pairs: 0"
            )
        check_seed(self.begins_with)
        if self.tracking_every < 0 or self.tracking_frames < 2:
            raise ConfigError("tracking_every >= 0 and tracking_frames >= 2 are needed")

    @property
    def begins_with(self) -> int:
        """The seed of the first weights."""
        return self.seed if self.start_seed is None else self.start_seed

    def validates_tracking(self, epoch: int) -> bool:
        """Whether the epoch, counted from 0, ends with tracking."""
        every, last = self.tracking_every, epoch + 1 == self.epochs
        return every > 0 and (last or (epoch + 1) % every == 0)


def check_model_name(name: str) -> None:
    """Raise ConfigError unless a network and its model file can be called so."""
    if not name or any(sign in name for sign in "./\\"):
        raise ConfigError(f"name must be text without a dot or slash, got {name!r}")
    # environment.json is a run's own file; a module cannot be called as a method of its parent
    if name == "environment" or hasattr(nn.ModuleDict, name):
        raise ConfigError(f"{name!r} is taken, call the model otherwise, such as my_{name}")


def check_start(pretrained: bool, start_from: str) -> None:
    """Raise ConfigError if both give a network its first weights."""
    if pretrained and start_from:
        raise ConfigError("pretrained and start_from both give the first weights: choose one")
