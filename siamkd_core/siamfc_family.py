"""SiamFC in training: one logit a cell, and the balanced logistic loss of it."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from siamkd_core.distributed import predecessors, share_of_mean
from siamkd_core.family import Answer, images
from siamkd_core.labels import response_labels
from siamkd_core.losses.logistic import balanced_bce_per_map
from siamkd_core.losses.sharing import knowledge_sharing
from siamkd_core.losses.teacher_soft import teacher_soft
from siamkd_core.siamfc import EXEMPLAR_SIZE, STRIDE, SiamFC, response_size
from siamkd_core.task import Batch


class SiamFCFamily:
    """A :class:`siamkd_core.family.Family`; K is 1.

    Args:
        label_radius: pixels (L1) around the target that are positive.
        dtype: that the features are computed in.
    """

    def __init__(self, label_radius: float, dtype: torch.dtype) -> None:
        self.label_radius, self.dtype = label_radius, dtype

    def channels(self, network: nn.Module) -> int:
        training = network.training
        network.eval()  # a look must not change the statistics
        with torch.no_grad():
            siamfc, parameter = cast(SiamFC, network), next(network.parameters())
            features = siamfc.embed(parameter.new_zeros(1, 3, EXEMPLAR_SIZE, EXEMPLAR_SIZE))
        network.train(training)
        return features.shape[1]

    def answer(self, network: nn.Module, batch: Batch) -> Answer:
        siamfc = cast(SiamFC, network)
        exemplar, search = images(batch)
        lower = self.dtype != torch.float32
        with torch.autocast(exemplar.device.type, self.dtype, enabled=lower):
            z, x = siamfc.embed(exemplar), siamfc.embed(search)
        return Answer(z, x, siamfc.respond(z, x))

    def label_loss(self, answer: Answer, batch: Batch) -> Tensor:
        return balanced_bce_per_map(answer.logits, self._labels(answer, batch))

    def label_parts(self, answer: Answer, batch: Batch) -> dict[str, Tensor]:
        return {"response": self.label_loss(answer, batch)}

    def hard_loss(self, answer: Answer, batch: Batch) -> Tensor:
        return self.label_loss(answer, batch)

    def soft_loss(
        self,
        student: Answer,
        teacher: Answer,
        batch: Batch,
        temperature: float,
        by_teacher: bool = False,
    ) -> Tensor:
        positive = self._positive(student, batch)
        if by_teacher:
            positive = (teacher.logits > 0) & positive.flatten(1).any(1)[:, None, None, None]
        return teacher_soft(student.logits, teacher.logits, positive, temperature)

    def sharing_loss(
        self, receiver: Answer, provider: Answer, batch: Batch, temperature: float, detach: bool
    ) -> Tensor:
        return knowledge_sharing(
            receiver.logits, provider.logits, self._positive(receiver, batch), temperature, detach
        )

    def strange_loss(self, network: nn.Module, answer: Answer, batch: Batch) -> Tensor:
        response = cast(SiamFC, network).respond(predecessors(answer.exemplar), answer.search)
        targets = batch["identity"][:, 0].contiguous()
        differ = (batch["identity"][:, 1] != predecessors(targets)).float()
        return share_of_mean(balanced_bce_per_map(response, torch.zeros_like(response)), differ)

    def positive_cells(self, batch: Batch) -> Tensor:
        size = response_size(batch["search"].shape[-1])
        labels = response_labels(size, STRIDE, self.label_radius, batch["offset"])
        return labels.squeeze(1) > 0

    def hits(self, answer: Answer, batch: Batch) -> Tensor:
        peak = answer.logits.flatten(1).argmax(1, keepdim=True)
        return self._labels(answer, batch).flatten(1).gather(1, peak).squeeze(1)

    def _positive(self, answer: Answer, batch: Batch) -> Tensor:
        return self._labels(answer, batch) > 0

    def _labels(self, answer: Answer, batch: Batch) -> Tensor:
        size = answer.logits.shape[-1]
        return response_labels(size, STRIDE, self.label_radius, batch["offset"])
