"""Where a target is and how it lies there: the way to a search region, and from what was found
there to where it is now."""

from __future__ import annotations

from typing import NamedTuple

from siamkd_core.arrays import Scalar, clip
from siamkd_core.crop import Square, exemplar_side, rotation
from siamkd_core.search import Found, Search
from siamkd_core.siamfc import EXEMPLAR_SIZE

SMALLEST = 4.0
"""Pixels of the image that a side of the target does not shrink below."""


class Pose(NamedTuple):
    """Of a target, in pixels of the image.

    Attributes:
        cx, cy: its centre.
        w, h: its sides, of the target turned back. All four are floats, or tensors without
            dimensions where they are known to their device alone.
        turn: radians by which it is turned, from x towards y (clockwise as seen).
    """

    cx: Scalar
    cy: Scalar
    w: Scalar
    h: Scalar
    turn: float = 0.0

    def exemplar(self) -> Square:
        """The square that becomes its exemplar."""
        return Square(self.cx, self.cy, exemplar_side(self.w, self.h), self.turn)

    def region(self, search_size: int) -> Square:
        """The search region around it, for a crop of ``search_size`` pixels a side."""
        square = self.exemplar()
        return square._replace(side=square.side * search_size / EXEMPLAR_SIZE)


def moved(pose: Pose, found: Found, search: Search, pixel: float, size: tuple[int, int]) -> Pose:
    """Where a target is that was looked for.

    Args:
        pose: before, floats.
        found: floats, or tensors; then the pose is of such.
        search: by which it was found.
        pixel: pixels of the image for each of the search region's crop.
        size: width and height of the image; the centre stays within it.
    """
    (right, down), (left, up) = (rotation(pose.turn) * pixel).T.tolist()
    # a centre that leaves the image would search in padding for ever
    cx = clip(pose.cx + (right * found.dx + left * found.dy), 0.0, float(size[0]))
    cy = clip(pose.cy + (down * found.dx + up * found.dy), 0.0, float(size[1]))
    w, h = pose.w, pose.h
    least = min(SMALLEST / w, 1.0), min(SMALLEST / h, 1.0)
    greatest = max(max(size) / w, 1.0), max(max(size) / h, 1.0)
    grow_w, grow_h = search.bound((found.grow_w, found.grow_h), least, greatest)
    return Pose(cx, cy, w * grow_w, h * grow_h, pose.turn)
