"""Adaptive-hard loss: learn from the truth until the teacher is beaten."""

from __future__ import annotations

import torch
from torch import Tensor

from siamkd_core.losses.numbers import at_least_float32


def adaptive_hard(student: Tensor, teacher: Tensor, margin: float = 0.005) -> Tensor:
    """The student's hard losses, each as long as it does not beat the teacher's by the margin.

    ``L_AH = L_S  where  L_T - L_S < h,  else 0``; L_S, L_T: losses of one sample's predictions
    against the truth. A student that is worse, level or better by less than h learns from the
    truth; one that is better by h or more is left to the other terms for that sample.

    In the paper L is the regression loss against the true box (smooth L1), with h = 0.005; rule and
    value are known from a public re-implementation and remembered to be the paper's. So it is for
    SiamRPN: L is :func:`siamkd_core.losses.rpn.box_smooth_l1` of the positive anchors' raw deltas.
    A pair without its target has none, an L of 0 for both, and nothing to learn here.

    Our choice for SiamFC, which has no regression branch and whose only truth is the label: L is
    the balanced logistic loss of a response map
    (:func:`siamkd_core.losses.logistic.balanced_bce_per_map`), so AH is the label loss of the
    samples where the student has not overtaken the teacher. h is in units of that loss.

    Args:
        student: (N,) hard losses; the gradient reaches them only, and not through the gate.
        teacher: (N,) hard losses of the same samples, from the same label.
        margin: h.

    Returns:
        (N,) float32 (float64 for float64). A student's loss that is not finite passes the gate, so
        that it is seen.
    """
    student, teacher = at_least_float32(student), at_least_float32(teacher.detach())
    # asked the other way round, a nan would shut the gate and be hidden
    beaten = teacher - student.detach() >= margin
    return torch.where(beaten, torch.zeros_like(student), student)
