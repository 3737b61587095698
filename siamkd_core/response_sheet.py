"""A sheet of what networks make of the same pairs: the maps that the target-response loss compares.

A row a network, the teacher first; in a row the exemplar, the search region and four maps: F(z) and
F(Wx) as the loss has them, of length 1; W of length 1 too, with its sign; the response as the
probability that the teacher-soft loss compares. A kind of map has one colour scale for all networks
of a pair, which its caption names: how far it goes is the strongest cell's, of the response always
0 to 1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from matplotlib import colormaps
from numpy.typing import NDArray

from siamkd_core.box import Box
from siamkd_core.draw import DARK, FONT, TRUTH, WHITE, draw_track
from siamkd_core.errors import ConfigError
from siamkd_core.image import Image
from siamkd_core.losses.target_response import (
    attention,
    target_response,
    target_weighted,
    target_weights,
    unit,
)
from siamkd_core.losses.teacher_soft import bernoulli_cells
from siamkd_core.network import SiameseNetwork, stride_of
from siamkd_core.pair_sheet import pair_caption, scaled, short, zoomed
from siamkd_core.pairs import Pair, PairDataset, PairDetail
from siamkd_core.siamfc import EXEMPLAR_SIZE, STRIDE

TILE = 176
"""Pixels of a crop or map in the picture: 8 for each of the 22 cells of a 255 px search region."""
GAP = 4
BAR = 20
"""Height of a pair's captions."""
NAMES = 176
"""Width of the column with the networks' names."""
MAPS = ("F(z)", "W", "F(Wx)", "response")


@dataclass(frozen=True)
class Responses:
    """What a network makes of a pair.

    Attributes:
        maps: by the names of MAPS, (cells, cells) float64.
        stride: pixels between two cells of all but the response.
        target_response: its loss against the teacher.
        divergence: of its response from the teacher's, the mean of the cells.
    """

    maps: Mapping[str, NDArray[np.float64]]
    stride: int
    target_response: float
    divergence: float


@torch.inference_mode()
def responses(pair: Pair, networks: Sequence[SiameseNetwork]) -> list[Responses]:
    """The maps of each network, and its losses against the first one, the teacher.

    Raises:
        ConfigError: networks whose features have other strides.
        ValueError: networks of another geometry.
    """
    strides = {stride_of(network) for network in networks}
    if len(strides) > 1:
        raise ConfigError(
            "the maps of networks can be compared only where their features have one stride, not "
            f"{' and '.join(map(str, sorted(strides)))} pixels: choose networks with such backbones"
        )
    found = []
    embedded = [
        [network.embed(pair[key][None].float()) for key in ("exemplar", "search")]  # type: ignore[literal-required]
        for network in networks
    ]
    answers = [
        network.logits(network.respond(network.kernels(z), x))
        for network, (z, x) in zip(networks, embedded, strict=True)
    ]
    for network, (z, x), answer in zip(networks, embedded, answers, strict=True):
        maps = (
            unit(attention(z)),
            unit(target_weights(z, x)),
            unit(attention(target_weighted(z, x))),
            answer.amax(1).sigmoid(),  # of a siamrpn the surest anchor's
        )
        cells = (values.squeeze().double().numpy() for values in maps)
        found.append(
            Responses(
                dict(zip(MAPS, cells, strict=True)),
                stride_of(network),
                float(target_response(z, x, *embedded[0])),
                float(bernoulli_cells(answer, answers[0], 1.0).mean()),
            )
        )
    return found


def response_sheet(
    pairs: PairDataset, count: int, networks: Sequence[SiameseNetwork], names: Sequence[str]
) -> Image:
    """The first ``count`` pairs, a block each.

    Args:
        pairs: held-out ones.
        count: at least 1.
        networks: in eval mode, on the CPU; the first is the teacher.
        names: that are written beside them.

    Returns:
        (H, W, 3) uint8 BGR, ``H = count * (BAR + len(networks) * (TILE + GAP)) + GAP``.
    """
    blocks = []
    for number in range(count):
        detail = pairs.detail(number)
        blocks.append(_block(detail, responses(detail.pair, networks), names))
    sheet = np.concatenate(blocks)
    return np.concatenate([sheet, np.full((GAP, sheet.shape[1], 3), DARK, np.uint8)])


def _block(detail: PairDetail, found: list[Responses], names: Sequence[str]) -> Image:
    width = NAMES + (2 + len(MAPS)) * (TILE + GAP)
    block: Image = np.full((BAR + len(names) * (TILE + GAP), width, 3), DARK, np.uint8)
    limits = {name: max(float(np.abs(r.maps[name]).max()) for r in found) for name in MAPS}
    limits["response"] = 1.0
    captions = [pair_caption(detail), "exemplar", "search region"]
    captions += [_scale(name, limits[name]) for name in MAPS]
    for place, caption in enumerate(captions):
        _write(block, caption, max(0, _left(place - 1)), 14, TILE if place else NAMES)
    exemplar_box, search_box = detail.boxes
    search_size = detail.pair["search"].shape[-1]
    for row, (name, one) in enumerate(zip(names, found, strict=True)):
        top = BAR + row * (TILE + GAP)
        facts = ["student" if row else "teacher", short(name)]
        if row:
            facts += [f"STR {one.target_response:.3f}", f"KL {one.divergence:.4f}"]
        for line, fact in enumerate(facts, 1):
            _write(block, fact, 0, top + 20 * line, NAMES)
        tiles = [
            _crop(detail.pair["exemplar"], exemplar_box, EXEMPLAR_SIZE),
            _crop(detail.pair["search"], search_box, search_size),
        ]
        for kind in MAPS:
            tile = coloured(one.maps[kind], limits[kind], kind == "W")
            # the target is larger than what the exemplar's few cells cover
            seen = None if kind == "F(z)" else search_box
            stride = STRIDE if kind == "response" else one.stride
            covered = len(one.maps[kind]) * stride
            tiles.append(_with_target(tile, seen, search_size, covered))
        for place, tile in enumerate(tiles):
            block[top : top + TILE, _left(place) : _left(place) + TILE] = tile
    return block


def coloured(values: NDArray[np.float64], limit: float, signed: bool) -> Image:
    """(cells, cells) -> (TILE, TILE, 3) uint8 BGR: dark to bright from 0 to ``limit``, or blue over
    white to red from ``-limit`` to ``limit``."""
    share = values / limit if limit > 0 else np.zeros_like(values)
    colours = colormaps["RdBu_r"](share / 2 + 0.5) if signed else colormaps["viridis"](share)
    cells = np.rint(255 * colours[..., 2::-1]).astype(np.uint8)
    return np.asarray(cv2.resize(cells, (TILE, TILE), interpolation=cv2.INTER_NEAREST), np.uint8)


def _crop(crop: torch.Tensor, box: Box, size: int) -> Image:
    return draw_track(zoomed(crop, TILE / size), scaled(box, TILE / size), colour=TRUTH)


def _with_target(tile: Image, box: Box | None, size: int, covered: int) -> Image:
    """The target's box on a map that covers so many pixels, in the middle of a crop of ``size``."""
    if box is None:
        return tile
    zoom = TILE / covered
    start = -zoom * (size - covered) / 2
    return draw_track(tile, scaled(box, zoom, start, start), colour=TRUTH)


def _scale(name: str, limit: float) -> str:
    return f"{name}  {f'-{limit:.3g}' if name == 'W' else '0'} to {limit:.3g}"


def _left(place: int) -> int:
    return NAMES + place * (TILE + GAP)


def _write(block: Image, text: str, left: int, bottom: int, room: int) -> None:
    (width, _), _ = cv2.getTextSize(text, FONT, 0.42, 1)
    scale = 0.42 * min(1.0, (room - 2 * GAP) / width)
    cv2.putText(block, text, (left + GAP, bottom), FONT, scale, WHITE, 1, cv2.LINE_AA)
