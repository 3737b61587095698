"""Teacher-soft loss and sharing of a region proposal head: its scores and its boxes."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from siamkd_core.losses.rpn import box_smooth_l1
from siamkd_core.losses.teacher_soft import balanced_divergence


class Predictions(NamedTuple):
    """Attributes:
    logits: (N, A, R, R), target minus background.
    deltas: (N, 4, A, R, R), boxes relative to their anchors.
    """

    logits: Tensor
    deltas: Tensor


def rpn_divergence(
    student: Predictions,
    target: Predictions,
    positive: Tensor,
    temperature: float,
    box_weight: float,
    beta: float,
    detach: bool = True,
) -> Tensor:
    """Divergence of a head's predictions from another's.

    ``L = tau^2 [1/2 mean_{u in P} KL_u + 1/2 mean_{u not in P} KL_u] + lambda * Reg`` and
    ``Reg = mean_{u in P} sum_{x, y, w, h} smooth_l1(r(u) - r_target(u))``: KL_u is the divergence
    at anchor u of :func:`siamkd_core.losses.teacher_soft.bernoulli_cells`, P are the positive
    anchors, r the deltas, see :func:`siamkd_core.losses.rpn.box_smooth_l1`. With a teacher's
    predictions for the target it is L_TS, with another student's L_KS.

    That the loss is a divergence of the classifications plus lambda times a regression loss is
    remembered to be the paper's. Our choices:

    - All anchors count, but the positive ones, about 1 in 100, weigh as much together as all the
      others. Of the plain mean they would be that hundredth part, so the loss would be small, say
      nearly nothing of the target, and not have the size of the label's loss, which is balanced in
      the same way (:func:`siamkd_core.losses.rpn.anchor_cross_entropy`). With one size for both,
      lambda can be the weight that the boxes have in the label's loss.
    - Regression on the positive anchors alone: elsewhere nobody taught the teacher's boxes.
    - Raw deltas, not decoded boxes: both networks start from the same anchors, so equal deltas are
      equal boxes, and a delta is relative to its anchor's size, as in the loss against the truth;
      pixels would make large and long anchors weigh more. 1 - IoU of the decoded boxes was
      measured, and made no difference (docs/siamrpn.md).

    Args:
        student: of the network that learns.
        target: what it is compared with, in the same shapes.
        positive: (N, A, R, R) bool, P; a pair without any has its scores' other half alone.
        temperature: tau, above 0.
        box_weight: lambda.
        beta: where smooth L1 turns from square to linear, above 0.
        detach: whether the target feels nothing of it, see
            :func:`siamkd_core.losses.sharing.knowledge_sharing`.

    Returns:
        (N,) float32 (float64 for float64); 0 where both agree everywhere.

    Raises:
        ValueError: shapes that differ, or a temperature that is not above 0.
    """
    if detach:
        target = Predictions(*(value.detach() for value in target))
    scores = balanced_divergence(student.logits, target.logits, positive, temperature)
    return scores + box_weight * box_smooth_l1(student.deltas, target.deltas, positive, beta)
