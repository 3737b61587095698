"""Two clicks make a box: what the user has clicked so far, and on which picture. No ROS in it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from siamkd_core.box import Box
from siamkd_ros.picture_plane import Pixel, box_between, inside
from siamkd_ros.rejected import Rejected


@dataclass(frozen=True)
class Picture:
    """A picture that a user sees.

    Attributes:
        stamp: of its image, nanoseconds: what names it to the tracker.
        frame_id: the image's.
        width, height: of the image, pixels.
        message: the image message, not decoded.
    """

    stamp: int
    frame_id: str
    width: int
    height: int
    message: Any


class Picking:
    """Live until the first corner is clicked; then the picture stands still until the box is done,
    was shown for `hold` seconds, or is given up after `patience` seconds.

    Attributes:
        picture: what the user sees; None before the first image.
        first: the first corner, pixels, once it is clicked.
        box: the finished box while it is shown.
        note: what the user should know about the last attempt; empty if nothing.
    """

    def __init__(self) -> None:
        self.picture: Picture | None = None
        self.first: Pixel | None = None
        self.box: Box | None = None
        self.note = ""
        self._since = 0.0

    @property
    def frozen(self) -> bool:
        return self.first is not None or self.box is not None

    def show(self, picture: Picture) -> bool:
        """Put a newer picture before the user; False while the picture stands still."""
        if self.frozen:
            return False
        self.picture = picture
        return True

    def click(self, pixel: Pixel, now: float) -> Box | None:
        """A corner of the target in the picture; the box, if it is the second.

        Args:
            now: steady clock, seconds.

        Raises:
            Rejected: the click cannot be used; what was clicked before stays.
        """
        picture = _require(self.picture)
        corner = inside(pixel, picture.width, picture.height)
        if self.first is None:
            self.first, self.box, self.note, self._since = corner, None, "", now
            return None
        return self._finish(box_between(self.first, corner), now)

    def take(self, box: Box, picture: Picture | None, now: float) -> Box:
        """A whole box, drawn elsewhere on `picture`, which is shown with it; cut at its border.

        Raises:
            Rejected: there is no picture, or nothing of the box is in it.
        """
        picture = _require(picture)
        left, top = max(box.x, 0.0), max(box.y, 0.0)
        right = min(box.x + box.w, float(picture.width))
        bottom = min(box.y + box.h, float(picture.height))
        cut = box_between((left, top), (max(right, left), max(bottom, top)))
        self.picture = picture
        return self._finish(cut, now)

    def cancel(self, note: str = "") -> bool:
        """Go back to the live picture; False if there was nothing to give up."""
        there = self.frozen
        self.first, self.box, self.note = None, None, note
        return there

    def expire(self, now: float, hold: float, patience: float) -> bool:
        """Give up what took too long; True if that changed anything."""
        if self.box is not None and now - self._since >= hold:
            return self.cancel()
        if self.first is not None and now - self._since >= patience:
            return self.cancel(f"no second corner within {patience:g} s: start again")
        return False

    def _finish(self, box: Box, now: float) -> Box:
        self.first, self.box, self.note, self._since = None, box, "", now
        return box


def _require(picture: Picture | None) -> Picture:
    if picture is None:
        raise Rejected("no_picture", "there is no picture yet to draw a box on")
    return picture
