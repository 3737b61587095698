"""What the engine must be told of the thing it trains: one protocol, all of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor, nn
from torch.utils.data import Dataset

Batch = dict[str, Tensor]


@dataclass(frozen=True)
class Validation:
    """What a validation found, the same in every process.

    Attributes:
        metrics: for the curves, ``kind/name``; those of one kind share a panel.
        scores: by network, higher is better: they choose the best epoch.
    """

    metrics: dict[str, float] = field(default_factory=dict)
    scores: dict[str, float] = field(default_factory=dict)


class Task(Protocol):
    """Networks and the losses that train them: a tracker, or students beside a frozen teacher.

    Attributes:
        networks: what is trained, by the name of the model file each becomes. Nothing that is
            frozen for good belongs here.
        samples: sample k is a function of the seed and k alone; step s of a run takes the numbers
            ``s * batch_size .. (s + 1) * batch_size - 1``. Each is a dict of tensors.
        starts: by network, what tells apart the models they began as; of those that began as one.
            A run does not go on from a checkpoint with others.
    """

    networks: nn.ModuleDict
    starts: Mapping[str, str]

    @property
    def samples(self) -> Dataset[Any]: ...

    def start_epoch(self, epoch: int) -> None:
        """Called before the first step of an epoch, counted from 0, and where a run goes on within
        one. What the task knows of the time it knows from here, so that a resume is exact."""
        ...

    def losses(self, networks: nn.ModuleDict, batch: Batch) -> dict[str, Tensor]:
        """Scalars by name for this process's rows of a batch, on its device. ``loss`` is minimised,
        the others are its parts, for the curves. The mean over the processes is the loss of the
        global batch."""
        ...

    def validate(self, networks: nn.ModuleDict, epoch: int) -> Validation:
        """Judge the networks (their averages where those are kept) at the end of an epoch, counted
        from 0; called by every process, without gradients."""
        ...

    def saved(self, name: str, folder: Path) -> Path | None:
        """The path of a network's model file in ``folder``; None if it is not there and whole."""
        ...

    def save(
        self, name: str, weights: Mapping[str, Tensor], facts: Mapping[str, Any], folder: Path
    ) -> Path:
        """Write the model file of a network and return its path; ``facts`` go into its card."""
        ...
