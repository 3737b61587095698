"""SiamRPN in training: a logit and a box for each anchor, of which the labels take 64 a pair."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from siamkd_core.anchors import (
    SQUARE,
    anchor_boxes,
    decode,
    exemplar_anchors,
    overlap,
    rebased,
)
from siamkd_core.distributed import predecessors, share_of_mean
from siamkd_core.family import Answer, images
from siamkd_core.freeze import settled
from siamkd_core.losses.rpn import anchor_cross_entropy, box_smooth_l1
from siamkd_core.losses.rpn_soft import Predictions, rpn_divergence
from siamkd_core.rpn_targets import RpnTargets, rpn_targets
from siamkd_core.siamrpn import SiamRPN
from siamkd_core.task import Batch

BETA = 1 / 9
"""Of the boxes' smooth L1. The paper's sigma could not be read; sigma = 3 is that of Faster R-CNN's
proposal network, whose deltas these are."""


class SiamRPNFamily:
    """A :class:`siamkd_core.family.Family`; K is the number of anchors.

    Args:
        search_size: side of the search crops in pixels.
        box_weight: weight of the boxes' loss against the scores', whoever teaches them.
        dtype: that the features are computed in.
        shaped: whether the anchors have the exemplar's shape. The deltas of a network whose own
            are squares are brought to them, so that all answers can be compared.

    Raises:
        ConfigError: a search size that anchors do not fit.
    """

    def __init__(
        self,
        search_size: int,
        box_weight: float,
        dtype: torch.dtype,
        shaped: bool = False,
    ) -> None:
        self.anchors, self.shaped = anchor_boxes(search_size), shaped
        self.box_weight, self.dtype = box_weight, dtype

    def channels(self, network: nn.Module) -> int:
        return cast(SiamRPN, network).channels

    def answer(self, network: nn.Module, batch: Batch) -> Answer:
        siamrpn = cast(SiamRPN, network)
        exemplar, search = images(batch)
        with self._precision(exemplar):
            z, x = siamrpn.embed(exemplar), siamrpn.embed(search)
            response = siamrpn.respond(siamrpn.kernels(z), x)
        deltas = response[:, 1:]
        if siamrpn.head_config.square:
            anchors = self._anchors(batch)
            sides = deltas.new_full((1, 2), SQUARE)
            deltas = rebased(deltas, exemplar_anchors(sides, self.anchors), anchors)
        return Answer(z, x, response[:, 0], deltas)

    def label_loss(self, answer: Answer, batch: Batch) -> Tensor:
        parts = self.label_parts(answer, batch)
        return parts["score"] + parts["box"]

    def label_parts(self, answer: Answer, batch: Batch) -> dict[str, Tensor]:
        assert answer.deltas is not None
        drawn = self.targets(batch)
        score = anchor_cross_entropy(answer.logits, drawn.positive, drawn.negative)
        box = box_smooth_l1(answer.deltas, drawn.deltas, drawn.positive, BETA)
        return {"score": score, "box": self.box_weight * box}

    def hard_loss(self, answer: Answer, batch: Batch) -> Tensor:
        """The boxes', without their weight; 0 for a pair without positive anchors."""
        assert answer.deltas is not None
        drawn = self.targets(batch)
        return box_smooth_l1(answer.deltas, drawn.deltas, drawn.positive, BETA)

    def soft_loss(
        self,
        student: Answer,
        teacher: Answer,
        batch: Batch,
        temperature: float,
        by_teacher: bool = False,
    ) -> Tensor:
        if by_teacher:
            present = ~batch["box"].isnan().any(1)
            positive = (teacher.logits > 0) & present[:, None, None, None]
        else:
            positive = self.targets(batch).positive
        return self._divergence(student, teacher, positive, temperature, True)

    def sharing_loss(
        self, receiver: Answer, provider: Answer, batch: Batch, temperature: float, detach: bool
    ) -> Tensor:
        positive = self.targets(batch).positive
        return self._divergence(receiver, provider, positive, temperature, detach)

    def strange_loss(self, network: nn.Module, answer: Answer, batch: Batch) -> Tensor:
        """Of the anchors that are drawn from the pair: those on its target must say no as well.

        The head's norms take their running statistics for it and do not learn from it: two that do
        not belong together are less alike, and statistics of both kinds bias the answer to one.
        """
        siamrpn = cast(SiamRPN, network)
        with self._precision(answer.search), settled(siamrpn.head):
            kernels = siamrpn.kernels(predecessors(answer.exemplar))
            logits = siamrpn.respond(kernels, answer.search)[:, 0]
        drawn = self.targets(batch)
        loss = anchor_cross_entropy(
            logits, torch.zeros_like(drawn.positive), drawn.positive | drawn.negative
        )
        targets = batch["identity"][:, 0].contiguous()
        differ = (batch["identity"][:, 1] != predecessors(targets)).float()
        return share_of_mean(loss, differ)

    def hits(self, answer: Answer, batch: Batch) -> Tensor:
        """1 where the box of the highest logit overlaps the target's by half or more."""
        assert answer.deltas is not None
        iou = overlap(batch["box"], decode(answer.deltas, self._anchors(batch)))
        peak = answer.logits.flatten(1).argmax(1, keepdim=True)
        return (iou.flatten(1).gather(1, peak).squeeze(1) >= 0.5).float()

    def positive_cells(self, batch: Batch) -> Tensor:
        return self.targets(batch).positive.any(1)

    def targets(self, batch: Batch) -> RpnTargets:
        """The anchors that each pair of a batch is learnt from, the same whenever asked."""
        return rpn_targets(batch["box"], batch["number"], self._anchors(batch))

    def _divergence(
        self, learner: Answer, source: Answer, positive: Tensor, temperature: float, detach: bool
    ) -> Tensor:
        return rpn_divergence(
            _predictions(learner),
            _predictions(source),
            positive,
            temperature,
            self.box_weight,
            BETA,
            detach,
        )

    def _anchors(self, batch: Batch) -> Tensor:
        """(4, A, R, R) or (N, 4, 1, R, R)."""
        where = batch["box"].device
        if self.anchors.device != where:
            self.anchors = self.anchors.to(where)
        if self.shaped:
            return exemplar_anchors(batch["shape"], self.anchors)
        return self.anchors

    def _precision(self, where: Tensor) -> torch.autocast:
        return torch.autocast(where.device.type, self.dtype, enabled=self.dtype != torch.float32)


def _predictions(answer: Answer) -> Predictions:
    assert answer.deltas is not None
    return Predictions(answer.logits, answer.deltas)
