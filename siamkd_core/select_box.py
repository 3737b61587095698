"""From a region proposal head's answer to one box: the tracker's arithmetic, without a network.

Source: Li et al. 2018, section 4.4, with the order of steps of the public DaSiamRPN and pysot.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from siamkd_core.anchors import anchor_boxes, decode
from siamkd_core.crop import CONTEXT
from siamkd_core.tracker_config import RpnTrackerConfig


class Selection(NamedTuple):
    """The chosen box, in pixels of the search crop.

    Attributes:
        dx, dy: displacement from the centre of the crop.
        w, h: the target's new size.
        value: logit of the chosen anchor.
        peak: highest logit of all.
    """

    dx: float
    dy: float
    w: float
    h: float
    value: float
    peak: float


def select_box(
    answer: NDArray[np.float32], size: tuple[float, float], config: RpnTrackerConfig
) -> Selection:
    """Choose an anchor, decode it, and move the target's size towards it.

    With the score ``s`` of an anchor's decoded box (w, h) and the target's size before (W, H)::

        side(w, h) = sqrt((w + p) (h + p)),  p = (w + h) / 2
        change(r) = max(r, 1 / r)
        penalty = exp(-penalty_k * (change(side(w, h) / side(W, H)) * change((w H) / (h W)) - 1))

    the anchor with the highest ``(1 - window) * penalty * s + window * hann`` is chosen, and the
    new size is ``(1 - q) (W, H) + q (w, h)`` with ``q = size_rate * penalty * s``.

    Args:
        answer: (5, A, R, R) float32: logit and four deltas, see
            :class:`siamkd_core.siamrpn.SiamRPN`.
        size: width and height of the target, pixels of the search crop, above 0.
        config: the tracker's parameters.
    """
    anchors = anchor_boxes(config.search_size)
    boxes = decode(torch.from_numpy(answer[None, 1:]), anchors)[0].numpy().astype(float)
    x, y, w, h = boxes
    logits = answer[0].astype(float)
    score = 1 / (1 + np.exp(-np.clip(logits, -60, 60)))
    before = np.array(size, float)
    scale = _change(_side(w, h) / _side(*before))
    ratio = _change((w / h) / (before[0] / before[1]))
    score *= np.exp(-config.penalty_k * (scale * ratio - 1))
    ranked = (1 - config.window) * score + config.window * _hann(logits.shape[-1])
    chosen = np.unravel_index(int(ranked.argmax()), ranked.shape)
    rate = config.size_rate * score[chosen]
    after = (1 - rate) * before + rate * np.array([w[chosen], h[chosen]])
    middle = config.search_size / 2
    return Selection(
        dx=float(x[chosen] + w[chosen] / 2 - middle),
        dy=float(y[chosen] + h[chosen] / 2 - middle),
        w=float(after[0]),
        h=float(after[1]),
        value=float(logits[chosen]),
        peak=float(logits.max()),
    )


def _side(w: NDArray[np.float64], h: NDArray[np.float64]) -> NDArray[np.float64]:
    pad = CONTEXT * (w + h)
    return np.asarray(np.sqrt((w + pad) * (h + pad)), float)


def _change(ratio: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.maximum(ratio, 1 / ratio)


@lru_cache(maxsize=4)
def _hann(size: int) -> NDArray[np.float64]:
    return np.outer(np.hanning(size), np.hanning(size))
