"""What a family of networks brings to training; everything else there serves any family."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn

from siamkd_core.errors import ConfigError
from siamkd_core.recipe import RecipeConfig
from siamkd_core.siamrpn import HeadConfig
from siamkd_core.task import Batch


class Answer(NamedTuple):
    """What a network says of a batch of N pairs.

    Attributes:
        exemplar: features (N, C, h, w) of the exemplars.
        search: features (N, C, H, W) of the search regions.
        logits: (N, K, R, R) float32, where the target is.
        deltas: (N, 4, K, R, R) float32, boxes relative to anchors, see
            :func:`siamkd_core.anchors.decode`; None in a family without regression.
    """

    exemplar: Tensor
    search: Tensor
    logits: Tensor
    deltas: Tensor | None = None


class Family(Protocol):
    """Losses are per sample, (N,): none depends on what else is in the batch."""

    def answer(self, network: nn.Module, batch: Batch) -> Answer:
        """Run a network on a batch of pairs."""
        ...

    def label_loss(self, answer: Answer, batch: Batch) -> Tensor:
        """(N,) loss against the labels."""
        ...

    def label_parts(self, answer: Answer, batch: Batch) -> dict[str, Tensor]:
        """The (N,) parts of :meth:`label_loss`, which sum to it, by name."""
        ...

    def strange_loss(self, network: nn.Module, answer: Answer, batch: Batch) -> Tensor:
        """(), this process's part of the mean loss of each search region against the exemplar of
        the pair before it, where that is another target's."""
        ...

    def positive_cells(self, batch: Batch) -> Tensor:
        """(N, R, R) bool, the cells of the response that the labels hold for the target's."""
        ...

    def hits(self, answer: Answer, batch: Batch) -> Tensor:
        """(N,) 1 where the highest logit lies on the target, else 0."""
        ...

    def channels(self, network: nn.Module) -> int:
        """C of the features in a network's :class:`Answer`."""
        ...

    def hard_loss(self, answer: Answer, batch: Batch) -> Tensor:
        """(N,) loss against the truth by which student and teacher are compared: of a family that
        regresses boxes the regression's, else the label's."""
        ...

    def soft_loss(
        self,
        student: Answer,
        teacher: Answer,
        batch: Batch,
        temperature: float,
        by_teacher: bool = False,
    ) -> Tensor:
        """(N,) divergence of a student's predictions from the teacher's. P are the cells that the
        labels hold for the target's, or with ``by_teacher`` those of a teacher's logit above 0
        where the labels have a target at all; P makes up half of it, and the boxes of P count."""
        ...

    def sharing_loss(
        self, receiver: Answer, provider: Answer, batch: Batch, temperature: float, detach: bool
    ) -> Tensor:
        """(N,) divergence of a student's predictions from another's, who feels it unless
        ``detach``."""
        ...


def images(batch: Batch) -> tuple[Tensor, Tensor]:
    """Exemplars and search regions as the networks take them, float; crops travel as uint8, a
    quarter of the bytes."""
    exemplar, search = (
        batch[key].float().contiguous(memory_format=torch.channels_last)
        for key in ("exemplar", "search")
    )
    return exemplar, search


def family_of(
    architecture: str, config: RecipeConfig, dtype: torch.dtype, head: HeadConfig | None = None
) -> Family:
    """The family that a model card's ``architecture`` names.

    Args:
        architecture: of the card.
        config: the recipe, for what labels and losses need.
        dtype: that the networks compute in.
        head: of a siamrpn, for its anchors.

    Raises:
        ConfigError: it cannot be trained, or not with this recipe.
    """
    from siamkd_core.siamfc_family import SiamFCFamily
    from siamkd_core.siamrpn_family import SiamRPNFamily

    if architecture == "siamfc":
        return SiamFCFamily(config.label_radius, dtype)
    if architecture == "siamrpn":
        shaped = head is not None and head.shaped
        return SiamRPNFamily(config.pairs.search_size, config.box_weight, dtype, shaped)
    raise ConfigError(
        f"the architecture {architecture!r} cannot be trained; known: siamfc, siamrpn"
    )
