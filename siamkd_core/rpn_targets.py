"""Which anchors a pair teaches, and what: SiamRPN, section 4.3."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from siamkd_core.anchors import encode, overlap, resized

POSITIVE_IOU, NEGATIVE_IOU = 0.6, 0.3
MOST_POSITIVES, SAMPLED = 16, 64
"""Anchors drawn from a pair: positives at most, and all together."""


class RpnTargets(NamedTuple):
    """Attributes:
    positive, negative: (N, A, R, R) bool, the anchors drawn.
    deltas: (N, 4, A, R, R) float32, the target's box relative to each anchor; 0 without one.
    """

    positive: Tensor
    negative: Tensor
    deltas: Tensor


def rpn_targets(boxes: Tensor, numbers: Tensor, anchors: Tensor) -> RpnTargets:
    """Draw the anchors of each pair.

    Positive is an IoU above 0.6 with the target, at most 16 of them; negative one below 0.3, as
    many as make 64 together. Without a target all are negative. Which ones depends on the pair's
    number alone, not on its batch, process or device.

    Anchors of the exemplar's shape, (N, 4, 1, R, R), are judged by their places alone: their IoU is
    that of the target's box moved there. One a cell, they must learn whatever change of shape there
    is, not leave it to an anchor that has it.

    Args:
        boxes: (N, 4) float, x, y, w, h of the targets in the search crop; nan without one.
        numbers: (N,) int64 of the pairs.
        anchors: (4, A, R, R) float of :func:`siamkd_core.anchors.anchor_boxes`, or (N, 4, 1, R, R)
            of :func:`siamkd_core.anchors.exemplar_anchors`.
    """
    shaped = anchors.ndim == 5
    judged = resized(anchors, boxes[:, 2:, None, None, None]) if shaped else anchors
    iou = overlap(boxes, judged).nan_to_num(0.0)
    rank = random_ranks(numbers, iou[0].numel()).view_as(iou)
    positive = _first(iou > POSITIVE_IOU, rank, torch.full_like(numbers, MOST_POSITIVES))
    left = SAMPLED - positive.flatten(1).sum(1)
    negative = _first(iou < NEGATIVE_IOU, rank, left)
    return RpnTargets(positive, negative, encode(boxes, anchors).nan_to_num(0.0))


def random_ranks(numbers: Tensor, count: int) -> Tensor:
    """(N, count) int64: for each number a random permutation of 0..count-1, a function of the
    number alone (the mixing of SplitMix64, Steele et al. 2014, gives the keys)."""
    index = torch.arange(count, device=numbers.device)
    # integers wrap around; 64-bit constants above 2**63 are written as negative ones
    key = (numbers[:, None] * count + index + 1) * -0x61C8864680B583EB
    key = (key ^ _shift(key, 30)) * -0x40A7B892E31B1A47
    key = (key ^ _shift(key, 27)) * -0x6B2FB644ECCEEE15
    key = key ^ _shift(key, 31)
    return key.argsort(1).argsort(1)


def _shift(value: Tensor, bits: int) -> Tensor:
    """Right shift that fills with zeros."""
    return (value >> bits) & ((1 << (64 - bits)) - 1)


def _first(mask: Tensor, rank: Tensor, most: Tensor) -> Tensor:
    """Of each sample's cells in ``mask`` (N, ...) the ``most`` (N,) with the lowest ranks."""
    flat = rank.masked_fill(~mask, rank[0].numel()).flatten(1)
    place = flat.argsort(1).argsort(1)
    return (mask.flatten(1) & (place < most[:, None])).view_as(mask)
