"""Anchors: the boxes a region proposal head starts from, and boxes relative to them.

All boxes are x, y, w, h in pixels of the search crop, edge convention of :mod:`siamkd_core.box`.
"""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from torch import Tensor

from siamkd_core.errors import ConfigError
from siamkd_core.siamfc import EXEMPLAR_SIZE, STRIDE, response_size

RATIOS = (0.33, 0.5, 1.0, 2.0, 3.0)
"""Height to width of the anchors."""
SCALE = 8
"""Side of the square anchor in strides."""
ANCHORS = len(RATIOS)
SQUARE = STRIDE * SCALE
"""Side of the square anchor in pixels, about a target's in the exemplar of 127 px."""
MAX_LOG = 4.0
"""Largest change of a side's logarithm that is decoded, so that no weights can overflow."""


def check_search_size(size: int) -> None:
    """Raise ConfigError unless a response cell lies on the centre of a crop of ``size`` pixels.

    For an even number of cells the published origin, ``-(cells // 2) * stride``, would put every
    anchor half a stride beside its cell.
    """
    if size <= EXEMPLAR_SIZE or (size - EXEMPLAR_SIZE) % (2 * STRIDE):
        raise ConfigError(
            f"search_size must be {EXEMPLAR_SIZE} plus a multiple of {2 * STRIDE}, so that anchors "
            f"lie on their cells (255, 271, 287 ...), got {size}"
        )


def anchor_sides() -> list[tuple[int, int]]:
    """Width and height of each anchor, pixels, rounded down as in the public implementations."""
    sides = []
    for ratio in RATIOS:
        width = int(math.sqrt(STRIDE * STRIDE / ratio))
        sides.append((width * SCALE, int(width * ratio) * SCALE))
    return sides


@lru_cache(maxsize=8)
def anchor_boxes(search_size: int) -> Tensor:
    """(4, A, R, R) float32: x, y, w, h of the anchors at each cell (row, column) of the response.

    Raises:
        ConfigError: see :func:`check_search_size`.
    """
    check_search_size(search_size)
    cells = response_size(search_size)
    centre = search_size / 2 + (torch.arange(cells) - cells // 2) * float(STRIDE)
    w, h = torch.tensor(anchor_sides(), dtype=torch.float32).T[:, :, None, None].unbind()
    cx, cy = centre[None, None, :], centre[None, :, None]
    boxes = torch.broadcast_tensors(cx - w / 2, cy - h / 2, w, h)
    return torch.stack(boxes)


def exemplar_anchors(shapes: Tensor, anchors: Tensor) -> Tensor:
    """One anchor a cell, with the shape of the exemplar's target (our own choice).

    A delta of 0 then says "as it was given" of whatever box a target was given with. Relative to
    :func:`anchor_boxes` a network has to know the ratio of that box, which a square crop does not
    show.

    Args:
        shapes: (N, 2) float, width and height of the exemplars' targets in pixels of their crops,
            above 0.
        anchors: of :func:`anchor_boxes`, for their centres.

    Returns:
        (N, 4, 1, R, R) float32.
    """
    each = anchors[:, :1].expand(len(shapes), -1, -1, -1, -1)
    return resized(each, shapes[:, :, None, None, None])


def resized(boxes: Tensor, sides: Tensor) -> Tensor:
    """Boxes (..., 4, A, R, R) of other ``sides``, (..., 2, A, 1, 1), about the same centres."""
    x, y, w, h = boxes.unbind(-4)
    wide, high = sides.unbind(-4)
    return torch.stack(
        torch.broadcast_tensors(x + (w - wide) / 2, y + (h - high) / 2, wide, high), -4
    )


def encode(boxes: Tensor, anchors: Tensor) -> Tensor:
    """Boxes relative to anchors: ``(cx - ax) / aw, (cy - ay) / ah, log(w / aw), log(h / ah)``
    (SiamRPN, eq. 5).

    Args:
        boxes: (N, 4) float.
        anchors: (4, A, R, R) or (N, 4, A, R, R) float.

    Returns:
        (N, 4, A, R, R) float.
    """
    x, y, w, h = boxes.T[:, :, None, None, None]
    ax, ay, aw, ah = anchors.unbind(-4)
    return torch.stack(
        [
            (x + w / 2 - ax - aw / 2) / aw,
            (y + h / 2 - ay - ah / 2) / ah,
            torch.log(w / aw),
            torch.log(h / ah),
        ],
        1,
    )


def decode(deltas: Tensor, anchors: Tensor) -> Tensor:
    """Inverse of :func:`encode` (SiamRPN, eq. 12), a side changed by exp(MAX_LOG) at most.

    Args:
        deltas: (N, 4, A, R, R) float.
        anchors: (4, A, R, R) or (N, 4, A, R, R) float.

    Returns:
        (N, 4, A, R, R) float, x, y, w, h.
    """
    dx, dy, dw, dh = deltas.unbind(1)
    ax, ay, aw, ah = anchors.unbind(-4)
    w = aw * dw.clamp(-MAX_LOG, MAX_LOG).exp()
    h = ah * dh.clamp(-MAX_LOG, MAX_LOG).exp()
    return torch.stack([ax + aw / 2 + dx * aw - w / 2, ay + ah / 2 + dy * ah - h / 2, w, h], 1)


def rebased(deltas: Tensor, given: Tensor, wanted: Tensor) -> Tensor:
    """The deltas, relative to other anchors, of the same boxes.

    Args:
        deltas: (N, 4, A, R, R) float.
        given: (4, A, R, R) or (N, 4, A, R, R) float, the anchors that they are relative to.
        wanted: in one of those shapes, the anchors that they shall be relative to.

    Returns:
        (N, 4, A, R, R) float.
    """
    dx, dy, dw, dh = deltas.unbind(1)
    gx, gy, gw, gh = given.unbind(-4)
    ax, ay, aw, ah = wanted.unbind(-4)
    return torch.stack(
        [
            (gx + gw / 2 + dx * gw - ax - aw / 2) / aw,
            (gy + gh / 2 + dy * gh - ay - ah / 2) / ah,
            dw + torch.log(gw / aw),
            dh + torch.log(gh / ah),
        ],
        1,
    )


def overlap(boxes: Tensor, others: Tensor) -> Tensor:
    """Intersection over union of each box with boxes on a grid.

    Args:
        boxes: (N, 4) float.
        others: (4, A, R, R) or (N, 4, A, R, R) float.

    Returns:
        (N, A, R, R) float in [0, 1], nan where a box is.
    """
    x, y, w, h = boxes.T[:, :, None, None, None]
    ox, oy, ow, oh = others.unbind(-4)
    across = torch.minimum(x + w, ox + ow) - torch.maximum(x, ox)
    down = torch.minimum(y + h, oy + oh) - torch.maximum(y, oy)
    common = across.clamp(min=0) * down.clamp(min=0)
    share: Tensor = common / (w * h + ow * oh - common)
    return share
