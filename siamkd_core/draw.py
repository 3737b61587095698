"""Pictures for people: a track drawn onto its frame, and contact sheets of many frames.

Colours are BGR. Every line has a dark rim and every text a dark plate, so that both can be read on
any background; widths and letters grow with the picture.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import cv2
import numpy as np

from siamkd_core.box import Box
from siamkd_core.image import Image

Colour = tuple[int, int, int]

PREDICTION: Colour = (60, 220, 255)  # amber: told from green also by colour-blind eyes
TRUTH: Colour = (90, 230, 90)
LOST: Colour = (90, 90, 255)
DARK: Colour = (20, 20, 20)
WHITE: Colour = (245, 245, 245)
FONT = cv2.FONT_HERSHEY_SIMPLEX
# A box that has run away is drawn from here at most: OpenCV's integers overflow beyond.
FAR = 1 << 14


def draw_track(
    image: Image,
    box: Box | None,
    score: float | None = None,
    label: str = "",
    *,
    truth: Box | None = None,
    colour: Colour = PREDICTION,
    corner: str = "",
) -> Image:
    """A copy of the image with the box, its label and score.

    Args:
        image: (H, W, 3) uint8 BGR; not changed.
        box: pixels, 0-based; None or nan draws no box, and the text goes to the lower corner.
        score: "the target is there", 0..1; shown with two decimals.
        label: short text before the score.
        truth: the annotated box, drawn thinner, in green, under the prediction.
        colour: BGR of box and plate, for instance LOST.
        corner: text for the upper left corner of the picture (frame number, rate).
    """
    canvas = np.ascontiguousarray(image).copy()
    unit = _unit(canvas)
    if truth is not None and _drawable(truth):
        _rectangle(canvas, truth, TRUTH, max(1, round(1.2 * unit)))
    words = [label] if label else []
    if score is not None and math.isfinite(score):
        words.append(f"{score:.2f}")
    text = " ".join(words)
    height, width = canvas.shape[:2]
    if box is not None and _drawable(box):
        _rectangle(canvas, box, colour, max(1, round(2.0 * unit)))
        if text:
            _plate(canvas, text, _inside(box.x, width), _inside(box.y, height), colour, unit)
    elif text:
        _plate(canvas, text, 0, height, colour, unit)
    if corner:
        _plate(canvas, corner, 0, 0, WHITE, unit)
    return canvas


def contact_sheet(
    frames: Sequence[Image],
    captions: Sequence[str] | None = None,
    *,
    columns: int = 4,
    tiles: int = 12,
    tile_width: int = 320,
) -> Image:
    """One picture of at most `tiles` frames, evenly chosen, the first and the last among them.

    Args:
        frames: each (H, W, 3) uint8 BGR; sizes may differ.
        captions: one per frame, written below its tile.
        columns: tiles in a row.
        tiles: the most tiles shown.
        tile_width: pixels; heights follow the first frame's shape, others are fitted with borders.

    Returns:
        (H, W, 3) uint8 BGR.

    Raises:
        ValueError: no frames, captions of another number, or a count below 1.
    """
    if not frames:
        raise ValueError("a contact sheet needs at least one frame")
    if captions is not None and len(captions) != len(frames):
        raise ValueError(f"{len(captions)} captions for {len(frames)} frames")
    if min(columns, tiles, tile_width) < 1:
        raise ValueError("columns, tiles and tile_width must be at least 1")
    chosen = evenly(len(frames), tiles)
    columns = min(columns, len(chosen))
    rows = math.ceil(len(chosen) / columns)
    gap = max(2, tile_width // 80)
    bar = max(14, tile_width // 14) if captions is not None else 0
    first = frames[chosen[0]]
    tile_height = max(1, round(tile_width * first.shape[0] / first.shape[1]))
    cell_w, cell_h = tile_width + gap, tile_height + bar + gap
    sheet: Image = np.full((rows * cell_h + gap, columns * cell_w + gap, 3), DARK, dtype=np.uint8)
    for place, index in enumerate(chosen):
        left = gap + (place % columns) * cell_w
        top = gap + (place // columns) * cell_h
        sheet[top : top + tile_height, left : left + tile_width] = fit(
            frames[index], tile_width, tile_height
        )
        if captions is not None:
            _caption(sheet, captions[index], left, top + tile_height, tile_width, bar)
    return sheet


class EvenSample:
    """Keeps evenly spaced frames of a run whose length is not known, in bounded memory.

    `add` every frame; `frames` and `captions` then hold about `limit` to twice as many (all of a
    shorter run), the first and the last frame among them, ready for `contact_sheet`.

    Args:
        limit: how many to keep at least.
        width: frames are shrunk to this many pixels on keeping.
    """

    def __init__(self, limit: int = 12, width: int = 320) -> None:
        self._limit = limit
        self._width = width
        self._stride = 1
        self._seen = 0
        self._kept: list[tuple[int, Image, str]] = []
        self._last: tuple[Image, str] | None = None

    def add(self, frame: Image, caption: str = "") -> None:
        """Offer one frame; a shrunk copy is kept for as long as it is needed."""
        self._last = (self._shrink(frame), caption)
        if self._seen % self._stride == 0:
            self._kept.append((self._seen, *self._last))
        if len(self._kept) > 2 * self._limit:
            self._kept = self._kept[::2]
            self._stride *= 2
        self._seen += 1

    @property
    def frames(self) -> list[Image]:
        return [frame for frame, _ in self._all()]

    @property
    def captions(self) -> list[str]:
        return [caption for _, caption in self._all()]

    def _all(self) -> list[tuple[Image, str]]:
        kept = [(frame, caption) for _, frame, caption in self._kept]
        if self._last is None or self._kept[-1][0] == self._seen - 1:
            return kept
        return [*kept, self._last]

    def _shrink(self, frame: Image) -> Image:
        height = max(1, round(self._width * frame.shape[0] / frame.shape[1]))
        return fit(frame, self._width, height) if frame.shape[1] > self._width else frame.copy()


def evenly(count: int, wanted: int) -> list[int]:
    """At most `wanted` of the indices 0 .. count-1, evenly spaced, both ends included."""
    if count <= wanted:
        return list(range(count))
    return [int(index) for index in np.linspace(0, count - 1, wanted).round()]


def fit(image: Image, width: int, height: int) -> Image:
    """The whole image, shape kept, centred on a dark (height, width, 3) picture."""
    scale = min(width / image.shape[1], height / image.shape[0])
    inner_w = min(width, max(1, round(image.shape[1] * scale)))
    inner_h = min(height, max(1, round(image.shape[0] * scale)))
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    small = cv2.resize(np.ascontiguousarray(image), (inner_w, inner_h), interpolation=method)
    tile: Image = np.full((height, width, 3), DARK, dtype=np.uint8)
    top, left = (height - inner_h) // 2, (width - inner_w) // 2
    tile[top : top + inner_h, left : left + inner_w] = small
    return tile


def _unit(image: Image) -> float:
    """1.0 at 420 lines, growing with the shorter side."""
    height, width = image.shape[:2]
    return float(max(0.5, min(height, width) / 420))


def _drawable(box: Box) -> bool:
    return all(math.isfinite(value) for value in box) and box.w > 0 and box.h > 0


def _inside(value: float, limit: int) -> int:
    return round(min(max(value, 0.0), float(limit)))


def _rectangle(canvas: Image, box: Box, colour: Colour, width: int) -> None:
    def clamp(value: float) -> int:
        return round(min(max(value, -FAR), FAR))

    corner = (clamp(box.x), clamp(box.y))
    # The box ends before x + w: its last pixel is one less.
    opposite = (
        max(corner[0], clamp(box.x + box.w) - 1),
        max(corner[1], clamp(box.y + box.h) - 1),
    )
    # Not anti-aliased: straight lines need none, and a thin one would lose its colour.
    cv2.rectangle(canvas, corner, opposite, DARK, width + max(2, width), cv2.LINE_8)
    cv2.rectangle(canvas, corner, opposite, colour, width, cv2.LINE_8)


def _plate(canvas: Image, text: str, x: int, y: int, colour: Colour, unit: float) -> None:
    """Text on a dark plate standing on (x, y), pushed back into the picture where it leaves it."""
    scale = max(0.4, 0.65 * unit)
    stroke = max(1, round(1.4 * unit))
    (text_w, text_h), below = cv2.getTextSize(text, FONT, scale, stroke)
    pad = max(2, round(3 * unit))
    plate_w, plate_h = text_w + 2 * pad, text_h + below + 2 * pad
    left = max(0, min(x, canvas.shape[1] - plate_w))
    top = max(0, min(y - plate_h, canvas.shape[0] - plate_h))
    corner = (left + plate_w - 1, top + plate_h - 1)
    cv2.rectangle(canvas, (left, top), corner, DARK, cv2.FILLED)
    origin = (left + pad, top + pad + text_h)
    cv2.putText(canvas, text, origin, FONT, scale, colour, stroke, cv2.LINE_AA)


def _caption(sheet: Image, text: str, left: int, top: int, width: int, height: int) -> None:
    scale = height / 36
    (text_w, _), _ = cv2.getTextSize(text, FONT, scale, 1)
    if text_w > width - 4:
        scale *= (width - 4) / text_w
    origin = (left + 2, top + round(height * 0.72))
    cv2.putText(sheet, text, origin, FONT, scale, WHITE, 1, cv2.LINE_AA)
