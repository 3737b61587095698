"""Teacher-soft loss: answer every position as the teacher does."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from siamkd_core.losses.numbers import at_least_float32, masked_mean


def teacher_soft(
    student: Tensor, teacher: Tensor, positive: Tensor, temperature: float = 1.0
) -> Tensor:
    """Divergence of the student's responses from the teacher's.

    ``L_TS = 1/2 mean_{u in P} D_u + 1/2 mean_{u not in P} D_u``, ``D_u = tau^2 KL(p_T(u) ||
    p_S(u))``, see :func:`balanced_divergence`; P are the positions of the target.

    The form, a KL divergence of softened classifications, is remembered to be the paper's, as is
    tau = 1 with less certainty; the paper adds a regression term, and SiamFC has no regression: for
    SiamRPN see :func:`siamkd_core.losses.rpn_soft.rpn_divergence`. The balance is our choice, see
    :func:`balanced_divergence`.

    Args:
        student: (N, 1, R, R) logits; the gradient reaches them only.
        teacher: (N, 1, R, R) logits.
        positive: (N, 1, R, R) bool, P.
        temperature: tau, above 0.

    Returns:
        (N,) float32 (float64 for float64); 0 where both agree everywhere.

    Raises:
        ValueError: shapes that differ, or a temperature that is not above 0.
    """
    return balanced_divergence(student, teacher.detach(), positive, temperature)


def balanced_divergence(
    student: Tensor, target: Tensor, positive: Tensor, temperature: float
) -> Tensor:
    """``1/2 mean_{u in P} D_u + 1/2 mean_{u not in P} D_u`` of the D of :func:`bernoulli_cells`.

    P, the positions that the label calls the target, weighs as much as all the others together, as
    it does in the loss against the label. In the plain mean it would be 13 cells of the 121 of a
    207 px search region: how the background is answered would decide.

    Args:
        student: (N, K, R, R) logits of q.
        target: (N, K, R, R) logits of p.
        positive: (N, K, R, R) bool, P; a pair without any has its other half alone.
        temperature: tau, above 0.

    Returns:
        (N,) float32 (float64 for float64).

    Raises:
        ValueError: shapes that differ, or a temperature that is not above 0.
    """
    cells = bernoulli_cells(student, target, temperature)
    if positive.shape != cells.shape:
        raise ValueError(
            "the positions of the target have the response's size, got "
            f"{tuple(positive.shape)} and {tuple(cells.shape)}"
        )
    return 0.5 * masked_mean(cells, positive) + 0.5 * masked_mean(cells, ~positive)


def bernoulli_cells(student: Tensor, target: Tensor, temperature: float) -> Tensor:
    """``tau^2 KL(p(u) || q(u))`` of the two-class distributions at each position of two maps.

    There is one logit v a position (of a siamrpn, an anchor: the difference of its two outputs), so
    ``p = (sigmoid(v / tau), sigmoid(-v / tau))``: the softmax of (v, 0), the natural reading of a
    classification loss here (our choice). The factor tau^2 keeps the size of the gradients as tau
    grows (Hinton, Vinyals and Dean 2015, section 2). Nothing is detached.

    Args:
        student: (N, K, R, R) logits of q.
        target: (N, K, R, R) logits of p.
        temperature: tau, above 0.

    Returns:
        (N, K, R, R) float32 (float64 for float64).

    Raises:
        ValueError: shapes that differ, or a temperature that is not above 0.
    """
    if student.shape != target.shape:
        raise ValueError(
            f"responses of one size are compared, got {tuple(student.shape)} and "
            f"{tuple(target.shape)}"
        )
    if not temperature > 0:
        raise ValueError(f"the temperature must be above 0, got {temperature}")
    # log-probabilities, because 1 - sigmoid(v) is 0 in float32 from v = 17 on
    q, p = (_log_probabilities(v, temperature) for v in (student, target))
    return temperature**2 * F.kl_div(q, p, reduction="none", log_target=True).sum(0)


def _log_probabilities(logits: Tensor, temperature: float) -> Tensor:
    """(2, ...) of target and background."""
    softened = at_least_float32(logits) / temperature
    return torch.stack([F.logsigmoid(softened), F.logsigmoid(-softened)])
