"""Where to look for a lost target: one place an image, near first, and in time everywhere.

A tracker finds its target within a *reach* around the place where it looks. Places that stand
closer than twice the reach, in a grid around the place where the target was last seen, leave no
gap. They are visited ring by ring in a window that doubles until it is the whole image; then it
starts again. A target mostly comes back where it went, so every third look is there.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import islice, repeat

from siamkd_core.box import Box
from siamkd_core.crop import exemplar_side
from siamkd_core.siamfc import EXEMPLAR_SIZE

SPACING = 0.75
"""Distance of neighbouring places in units of twice the reach: below 1, they overlap."""
BETWEEN = 2
"""Looks elsewhere between two looks at the place where the target was last seen."""


def reach(box: Box, search_size: int, turned: float = 0.0) -> float:
    """How far from a place, in pixels of the image along each axis, a target's centre is found.

    A search crop is correlated without padding, so an exemplar's centre can be half an exemplar
    from its border at most. In a turned crop that is a turned square; along the image's axes it
    holds one that is ``|cos| + |sin|`` times smaller.

    Args:
        box: the target's, turned back.
        search_size: side of the search crop in its own pixels.
        turned: degrees by which the crop is turned.
    """
    side: float = exemplar_side(box.w, box.h)
    angle = math.radians(turned)
    shrunk = abs(math.cos(angle)) + abs(math.sin(angle))
    return side / EXEMPLAR_SIZE * (search_size - EXEMPLAR_SIZE) / 2 / shrunk


def looks(home: Box, size: tuple[int, int], reach: float) -> Iterator[Box]:
    """Where to look, image after image, without end; ``home`` first. All boxes have its size.

    Any point of the image is within ``reach`` of the centre of one of the boxes, along each axis.

    Args:
        home: where the target was last seen.
        size: width and height of the image, pixels.
        reach: of a look, pixels, above 0.
    """
    xs, ys = (
        _line(centre, length, reach)
        for centre, length in zip((home.cx, home.cy), size, strict=True)
    )
    if len(xs) == len(ys) == 1:
        yield from repeat(home)
    elsewhere = _windows(xs, ys)
    while True:
        yield home
        for i, j in islice(elsewhere, BETWEEN):
            x, y = _place(home.cx, i, size[0], reach), _place(home.cy, j, size[1], reach)
            yield Box.from_center(x, y, home.w, home.h)


def _windows(xs: range, ys: range) -> Iterator[tuple[int, int]]:
    """The places of window after window, without end."""
    widest = max(abs(index) for line in (xs, ys) for index in (line[0], line[-1]))
    doublings = (widest - 1).bit_length()
    while True:
        for left in range(doublings, -1, -1):
            yield from _rings(-(-widest >> left), xs, ys)  # half as wide as the next, rounded up


def _line(centre: float, length: int, reach: float) -> range:
    """Numbers of the places along one axis, 0 at ``centre``; the outer ones reach the borders."""
    step = 2 * SPACING * reach
    before = math.ceil(max(centre - reach, 0.0) / step)
    after = math.ceil(max(length - centre - reach, 0.0) / step)
    return range(-before, after + 1)


def _place(centre: float, index: int, length: int, reach: float) -> float:
    """Coordinate of a place, within the image."""
    if index == 0:
        return centre
    return min(max(centre + index * 2 * SPACING * reach, 0.0), float(length))


def _rings(window: int, xs: range, ys: range) -> Iterator[tuple[int, int]]:
    """The places of the rings 1 to ``window``, row by row in each."""
    for ring in range(1, window + 1):
        for j in range(max(-ring, ys[0]), min(ring, ys[-1]) + 1):
            # the whole row above and below, and two places in those between
            row = range(-ring, ring + 1, 1 if abs(j) == ring else 2 * ring)
            yield from ((i, j) for i in row if xs[0] <= i <= xs[-1])
