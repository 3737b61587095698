"""From a region proposal head's answer to one box: the tracker's arithmetic, without a network.

Source: Li et al. 2018, section 4.4, with the order of steps of the public DaSiamRPN and pysot; the
vote is that of Gidaris and Komodakis, "Object detection via a multi-region and semantic
segmentation-aware CNN model", 2015, over neighbouring cells.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from siamkd_core.anchors import anchor_boxes, decode, exemplar_anchors
from siamkd_core.arrays import Array, Scalar, constant, cosine_window, device_of, library
from siamkd_core.crop import CONTEXT
from siamkd_core.tracker_config import RpnTrackerConfig


class Selection(NamedTuple):
    """The chosen box, in pixels of the search crop: scalars of the answer's library.

    Attributes:
        dx, dy: displacement from the centre of the crop.
        w, h: the target's new size.
        value: logit of the chosen anchor.
        peak: highest logit of all.
        seen_w, seen_h: size of the chosen box, of which only a share is taken over.
    """

    dx: Scalar
    dy: Scalar
    w: Scalar
    h: Scalar
    value: Scalar
    peak: Scalar
    seen_w: Scalar
    seen_h: Scalar


def select_box(
    answer: Array,
    size: tuple[float, float],
    config: RpnTrackerConfig,
    shape: tuple[float, float] | None = None,
    correction: tuple[float, float] = (1.0, 1.0),
) -> Selection:
    """Choose an anchor, decode it, and move the target's size towards it.

    With the score ``s`` of an anchor's decoded box (w, h) and the target's size before (W, H)::

        side(w, h) = sqrt((w + p) (h + p)),  p = (w + h) / 2
        change(r) = max(r, 1 / r)
        penalty = exp(-penalty_k * (change(side(w, h) / side(W, H)) * change((w H) / (h W)) - 1))

    the anchor with the highest ``(1 - window) * penalty * s + window * hann`` is chosen, and the
    new size is ``(1 - q) (W, H) + q (w, h)`` with ``q = size_rate * penalty * s``. With ``vote`` v
    above 0 its box is the mean of the boxes of all anchors at most v rows and v columns away,
    weighted with ``(penalty * s)^2``: neighbours see the same target, and their errors differ.

    Args:
        answer: (5, A, R, R) float32: logit and four deltas, see
            :class:`siamkd_core.siamrpn.SiamRPN`. An array, or a tensor, whose device does it all.
        size: width and height of the target, pixels of the search crop, above 0.
        config: the tracker's parameters.
        shape: width and height of the one anchor a cell, pixels, such as those of the target in
            the exemplar's crop; None: the published anchors.
        correction: factors on the boxes' widths and heights, about their centres, before anything
            else is made of them.
    """
    xp, device = library(answer), device_of(answer)
    boxes = _boxes(torch.as_tensor(answer[1:]), config.search_size, shape).double()
    x, y, w, h = boxes.numpy() if device is None else boxes
    wide, high = w * correction[0], h * correction[1]
    x, y, w, h = x + (w - wide) / 2, y + (h - high) / 2, wide, high
    logits = answer[0].astype(float) if device is None else answer[0].double()
    score = 1 / (1 + xp.exp(-logits.clip(-60, 60)))
    before_w, before_h = size
    scale = _change(_side(w, h) / _side(before_w, before_h))
    ratio = _change((w / h) / (before_w / before_h))
    score = score * xp.exp(-config.penalty_k * (scale * ratio - 1))
    hann = cosine_window(logits.shape[-1], None, device)
    ranked = (1 - config.window) * score + config.window * hann
    chosen = ranked.argmax()
    box = [part.take(chosen) for part in (x, y, w, h)]
    if config.vote:
        weight = (score + 1e-30) ** 2 * _around(chosen, logits.shape[-1], config.vote, device)
        box = [(weight * part).sum() / weight.sum() for part in (x, y, w, h)]
    (x, y, w, h), value = box, logits.take(chosen)
    rate = config.size_rate * score.take(chosen)
    middle = config.search_size / 2
    return Selection(
        dx=x + w / 2 - middle,
        dy=y + h / 2 - middle,
        w=(1 - rate) * before_w + rate * w,
        h=(1 - rate) * before_h + rate * h,
        value=value,
        peak=logits.max(),
        seen_w=w,
        seen_h=h,
    )


def _boxes(deltas: Tensor, search_size: int, shape: tuple[float, float] | None) -> Tensor:
    """(4, A, R, R) float32 deltas -> boxes."""
    return decode(deltas[None], _anchors(search_size, shape, deltas.device))[0]


def _around(chosen: Array, cells: int, vote: int, device: torch.device | None) -> Array:
    """(R, R) bool: the cells at most ``vote`` rows and columns from that of an anchor's number."""
    index = _index(cells, device)
    row, column = chosen // cells % cells, chosen % cells
    rows, columns = abs(index - row) <= vote, abs(index - column) <= vote
    return rows[:, None] & columns[None]


@lru_cache(maxsize=8)
def _index(cells: int, device: torch.device | None) -> Array:
    return constant(np.arange(float(cells)), device)


# a target has one shape as long as it is followed
@lru_cache(maxsize=8)
def _anchors(search_size: int, shape: tuple[float, float] | None, device: torch.device) -> Tensor:
    # training shares the anchors, so they must not be inference tensors
    with torch.inference_mode(False):
        anchors = anchor_boxes(search_size)
        if shape is not None:
            anchors = exemplar_anchors(torch.tensor([shape]), anchors)[0]
        return anchors.to(device)


def _side(w: Array, h: Array) -> Array:
    pad = CONTEXT * (w + h)
    return ((w + pad) * (h + pad)) ** 0.5


def _change(ratio: Array) -> Array:
    return library(ratio).maximum(ratio, 1 / ratio)
