"""The loss against the label: logistic, balanced between target and background."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from siamkd_core.losses.numbers import at_least_float32


def balanced_bce_per_map(logits: Tensor, labels: Tensor) -> Tensor:
    """Logistic loss where positives and negatives of a response map weigh one half each.

    ``L_n = 1/2 mean_{y=1} l(v, 1) + 1/2 mean_{y=0} l(v, 0)``,
    ``l(v, y) = log(1 + exp(-(2y - 1) v))`` (SiamFC, eq. 2 with the balance of section 2.2). A map
    without positives (a negative pair) weighs its negatives one half all the same.

    Args:
        logits: (N, 1, R, R) float.
        labels: (N, 1, R, R) float of 0 and 1.

    Returns:
        (N,) float32 (float64 for float64).
    """
    logits = at_least_float32(logits)
    cell = F.binary_cross_entropy_with_logits(logits, labels, reduction="none")
    positive = labels.flatten(1)
    negative = 1 - positive
    cell = cell.flatten(1)
    per_map = 0.5 * (cell * positive).sum(1) / positive.sum(1).clamp(min=1)
    return per_map + 0.5 * (cell * negative).sum(1) / negative.sum(1).clamp(min=1)
