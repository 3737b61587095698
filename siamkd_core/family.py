"""What a family of networks brings to training; everything else there serves any family."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn

from siamkd_core.errors import ConfigError
from siamkd_core.task import Batch


class Answer(NamedTuple):
    """What a network says of a batch of N pairs.

    Attributes:
        exemplar: features (N, C, h, w) of the exemplars.
        search: features (N, C, H, W) of the search regions.
        logits: (N, K, R, R) float32, where the target is.
    """

    exemplar: Tensor
    search: Tensor
    logits: Tensor


class Family(Protocol):
    """Losses are per sample, (N,): none depends on what else is in the batch."""

    def channels(self, network: nn.Module) -> int:
        """C of the features in a network's :class:`Answer`."""
        ...

    def answer(self, network: nn.Module, batch: Batch) -> Answer:
        """Run a network on a batch of pairs."""
        ...

    def label_loss(self, answer: Answer, batch: Batch) -> Tensor:
        """(N,) loss against the labels."""
        ...

    def hard_loss(self, answer: Answer, batch: Batch) -> Tensor:
        """(N,) loss against the truth by which student and teacher are compared: of a family that
        regresses boxes the regression's, else the label's."""
        ...

    def soft_loss(self, student: Answer, teacher: Answer, temperature: float) -> Tensor:
        """(N,) divergence of a student's predictions from the teacher's."""
        ...

    def sharing_loss(
        self, receiver: Answer, provider: Answer, temperature: float, detach: bool
    ) -> Tensor:
        """(N,) divergence of a student's predictions from another's, who feels it unless
        ``detach``."""
        ...

    def strange_loss(self, network: nn.Module, answer: Answer, batch: Batch) -> Tensor:
        """(), this process's part of the mean loss of each search region against the exemplar of
        the pair before it, where that is another target's."""
        ...

    def hits(self, answer: Answer, batch: Batch) -> Tensor:
        """(N,) 1 where the highest logit lies on the target, else 0."""
        ...


def family_of(architecture: str, label_radius: float, dtype: torch.dtype) -> Family:
    """The family that a model card's ``architecture`` names.

    Args:
        architecture: of the card.
        label_radius: see :class:`siamkd_core.recipe.RecipeConfig`.
        dtype: that the networks compute in.

    Raises:
        ConfigError: it cannot be trained.
    """
    from siamkd_core.siamfc_family import SiamFCFamily

    if architecture != "siamfc":
        raise ConfigError(f"the architecture {architecture!r} cannot be trained; known: siamfc")
    return SiamFCFamily(label_radius, dtype)
