"""The target's first box from the user: read from text, or drawn on the first frame."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

from siamkd_core.box import Box
from siamkd_core.errors import BoxError, SiamkdError
from siamkd_core.image import Image

if TYPE_CHECKING:
    from matplotlib.figure import Figure

HELP = "drag a rectangle around the target, adjust it, then press Enter or close the window"
# Where no toolkit is installed, matplotlib falls back to one of these.
NO_WINDOW = {"agg", "cairo", "pdf", "pgf", "ps", "svg", "template"}


def parse_box(text: str) -> Box:
    """`x,y,w,h`, numbers separated by commas, pixels, 0-based. It is not checked against an image.

    Raises:
        BoxError: anything else.
    """
    try:
        values = [float(part) for part in text.split(",")]
    except ValueError:
        values = []
    if len(values) != 4:
        raise BoxError(f"a box is x,y,w,h in pixels, such as 163,53,45,174; got {text!r}")
    return Box(*values)


def pick_box(image: Image, title: str = "siamkd") -> Box:
    """Show the image in a window and let the user draw the box.

    Args:
        image: (H, W, 3) uint8 BGR.

    Returns:
        The box, inside the image.

    Raises:
        SiamkdError: no display, no window toolkit, or nothing drawn.
    """
    no_display = sys.platform.startswith("linux") and not (
        os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    )
    if no_display:
        raise SiamkdError("there is no display to draw the box on: give it with --box x,y,w,h")
    import matplotlib.pyplot as plt

    figure = plt.figure(title)
    if plt.get_backend().lower() in NO_WINDOW:
        plt.close(figure)
        raise SiamkdError(
            "matplotlib has no window toolkit to draw the box with: install one (apt install "
            "python3-tk, or pip install PyQt6), or give the box with --box x,y,w,h"
        )
    picking = Picking(figure, image)
    plt.show()
    return picking.box()


class Picking:
    """A rectangle that can be drawn and adjusted on a matplotlib figure.

    Args:
        figure: an empty figure; Enter closes its window.
        image: (H, W, 3) uint8 BGR.
    """

    def __init__(self, figure: Figure, image: Image) -> None:
        from matplotlib.widgets import RectangleSelector

        height, width = image.shape[:2]
        self._size = (width, height)
        self._figure = figure
        axes = figure.add_subplot()
        # This extent makes the axes' coordinates those of our boxes: pixel i spans [i, i + 1).
        axes.imshow(image[:, :, ::-1], extent=(0, width, height, 0))
        axes.set_title(HELP, fontsize="medium")
        axes.set_axis_off()
        self._selector = RectangleSelector(
            axes, lambda *_: None, useblit=False, interactive=True, minspanx=1, minspany=1
        )
        figure.canvas.mpl_connect("key_press_event", self._on_key)

    def box(self) -> Box:
        """The box drawn, cut at the image's edges.

        Raises:
            SiamkdError: none was drawn, or it is under one pixel wide or high.
        """
        left, right, top, bottom = self._selector.extents
        width, height = self._size
        left, right = max(0.0, left), min(float(width), right)
        top, bottom = max(0.0, top), min(float(height), bottom)
        if right - left < 1 or bottom - top < 1:
            raise SiamkdError("no box was drawn: start again, or give it with --box x,y,w,h")
        return Box(float(left), float(top), float(right - left), float(bottom - top))

    def _on_key(self, event: Any) -> None:
        if event.key == "enter":
            import matplotlib.pyplot as plt

            plt.close(self._figure)
