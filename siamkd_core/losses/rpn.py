"""Losses of a region proposal head, per pair: scores and deltas of the anchors that were drawn."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from siamkd_core.losses.numbers import at_least_float32, masked_mean


def anchor_cross_entropy(logits: Tensor, positive: Tensor, negative: Tensor) -> Tensor:
    """Cross-entropy where a pair's positive and negative anchors weigh one half each.

    The two-class cross-entropy of SiamRPN, written with the difference of its two outputs. A pair
    without positives weighs its negatives one half all the same.

    Args:
        logits: (N, A, R, R) float, target minus background.
        positive, negative: (N, A, R, R) bool; what is in neither does not count.

    Returns:
        (N,) float32 (float64 for float64).
    """
    logits = at_least_float32(logits)
    missed = masked_mean(F.softplus(-logits), positive)
    return 0.5 * missed + 0.5 * masked_mean(F.softplus(logits), negative)


def box_smooth_l1(deltas: Tensor, truth: Tensor, positive: Tensor, beta: float) -> Tensor:
    """Smooth L1 of the positive anchors' deltas, summed over x, y, w, h (SiamRPN, eq. 6).

    ``x^2 / (2 beta)`` below ``beta``, ``|x| - beta / 2`` above: with ``beta = 1 / sigma^2`` the
    formula of Fast R-CNN, divided by its gradient far out, which is 1.

    Args:
        deltas, truth: (N, 4, A, R, R) float.
        positive: (N, A, R, R) bool.
        beta: where it turns from square to linear, above 0.

    Returns:
        (N,) float32 (float64 for float64), 0 for a pair without positives.
    """
    deltas = at_least_float32(deltas)
    cell = F.smooth_l1_loss(deltas, truth.to(deltas.dtype), beta=beta, reduction="none").sum(1)
    return masked_mean(cell, positive)
