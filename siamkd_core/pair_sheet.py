"""A sheet of training pairs as the network gets them, with the labels it learns from."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import default_collate

from siamkd_core.box import Box
from siamkd_core.draw import (
    DARK,
    FONT,
    LOST,
    PREDICTION,
    TRUTH,
    WHITE,
    Colour,
    contact_sheet,
    draw_track,
)
from siamkd_core.family import Family
from siamkd_core.image import Image
from siamkd_core.pairs import Drawn, PairDataset, PairDetail
from siamkd_core.siamfc import STRIDE

ZOOM = 2
"""Pixels of the picture per pixel of a crop."""
GAP = 2 * ZOOM
NAME_LENGTH = 22


def pair_sheet(pairs: PairDataset, count: int, family: Family, columns: int = 3) -> Image:
    """The first ``count`` pairs: exemplar, search region, boxes, and the cells that are positive.

    Args:
        pairs: of training.
        count: at least 1.
        family: whose labels are drawn.
        columns: pairs in a row.

    Returns:
        (H, W, 3) uint8 BGR.
    """
    details = [pairs.detail(number) for number in range(count)]
    tiles = [_tile(detail, family) for detail in details]
    width = tiles[0].shape[1]
    captions = [pair_caption(detail) for detail in details]
    return contact_sheet(tiles, captions, columns=columns, tiles=count, tile_width=width)


def _tile(detail: PairDetail, family: Family) -> Image:
    pair = detail.pair
    negative = bool(pair["offset"].isnan().any())
    exemplar, search = zoomed(pair["exemplar"], ZOOM), zoomed(pair["search"], ZOOM)
    size = pair["search"].shape[-1]
    (positive,) = family.positive_cells(default_collate([pair]))
    _draw_labels(search, positive.numpy(), size)
    tile: Image = np.full((len(search), exemplar.shape[1] + GAP + len(search), 3), DARK, np.uint8)
    tile[: len(exemplar), : len(exemplar)] = exemplar
    tile[:, -len(search) :] = search
    _write(tile, _facts(detail, negative), len(exemplar))
    tile = draw_track(tile, scaled(detail.boxes[0], ZOOM), colour=PREDICTION)
    box = scaled(detail.boxes[1], ZOOM, len(exemplar) + GAP)
    return draw_track(tile, box, colour=LOST if negative else PREDICTION)


def _facts(detail: PairDetail, negative: bool) -> list[tuple[str, Colour]]:
    x, y = detail.pair["offset"].tolist()
    return [
        ("exemplar " + _place(detail.exemplar, 0), WHITE),
        ("search " + _place(detail.search, 1), WHITE),
        ("NEGATIVE", LOST) if negative else (f"offset {x:+.1f} {y:+.1f}", TRUTH),
    ]


def _place(drawn: Drawn, which: int) -> str:
    return f"{'box' if drawn.is_still else 'frame'} {drawn.frames[which]}"


def pair_caption(detail: PairDetail) -> str:
    """Where a pair is from, in ASCII."""
    names = [detail.exemplar.name]
    if detail.search.identity != detail.exemplar.identity:
        names.append(detail.search.name)
    return f"{short(', '.join(detail.exemplar.source.folders))} | {' -> '.join(map(short, names))}"


def short(text: str) -> str:
    """At most NAME_LENGTH letters of ASCII."""
    # the letters of OpenCV are ASCII
    text = text.encode("ascii", "replace").decode()
    return text if len(text) <= NAME_LENGTH else text[: NAME_LENGTH - 2] + ".."


def _draw_labels(search: Image, positive: NDArray[np.bool_], size: int) -> None:
    """Tint the positive cells and mark the area of the response map."""
    half = STRIDE / 2
    first = size / 2 - (len(positive) - 1) / 2 * STRIDE - half
    for row, column in np.argwhere(positive):
        left, top = (round((first + STRIDE * i) * ZOOM) for i in (column, row))
        cell = search[top : top + STRIDE * ZOOM, left : left + STRIDE * ZOOM]
        cell[:] = np.rint(0.55 * cell + 0.45 * np.array(TRUTH))
        cv2.rectangle(cell, (0, 0), (cell.shape[1] - 1, cell.shape[0] - 1), TRUTH, 1)
    start, end = round(first * ZOOM), round((size - first) * ZOOM) - 1
    cv2.rectangle(search, (start, start), (end, end), WHITE, 1)


def _write(tile: Image, lines: list[tuple[str, Colour]], top: int) -> None:
    for number, (line, colour) in enumerate(lines, 1):
        place = (4 * ZOOM, top + 15 * ZOOM * number)
        cv2.putText(tile, line, place, FONT, 0.36 * ZOOM, colour, 1, cv2.LINE_AA)


def zoomed(crop: Tensor, zoom: float) -> Image:
    """(3, S, S) uint8 -> (zoom S, zoom S, 3) uint8."""
    image = np.ascontiguousarray(crop.numpy().transpose(1, 2, 0))
    size = (round(image.shape[1] * zoom), round(image.shape[0] * zoom))
    method = cv2.INTER_AREA if zoom < 1 else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(image, size, interpolation=method), np.uint8)


def scaled(box: Box, zoom: float, left: float = 0, top: float = 0) -> Box:
    """The box in a picture that was zoomed and then moved to (left, top)."""
    x, y, w, h = (zoom * value for value in box)
    return Box(x + left, y + top, w, h)
