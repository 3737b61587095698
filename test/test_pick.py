"""The first box: parsed from text, or drawn (mouse events are sent to an off-screen figure)."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.backend_bases import KeyEvent, MouseButton, MouseEvent
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from siamkd_core.box import Box
from siamkd_core.errors import BoxError, SiamkdError
from siamkd_core.pick import Picking, parse_box, pick_box

IMAGE = np.zeros((120, 160, 3), dtype=np.uint8)


@pytest.mark.parametrize("text", ["1,2,3,4", " 1, 2.0 ,3,4e0 "])
def test_box_from_text(text: str) -> None:
    assert parse_box(text) == Box(1, 2, 3, 4)


@pytest.mark.parametrize("text", ["", "1,2,3", "1,2,3,4,5", "a,b,c,d", "1 2 3 4"])
def test_text_that_is_no_box(text: str) -> None:
    with pytest.raises(BoxError, match="x,y,w,h"):
        parse_box(text)


def drag(picking: Picking, figure: Figure, *points: tuple[float, float]) -> None:
    """Press at the first point, move over the others, release at the last; image coordinates."""
    canvas, axes = figure.canvas, figure.axes[0]
    pixels = [axes.transData.transform(point) for point in points]
    names = ["button_press_event"] + ["motion_notify_event"] * (len(points) - 1)
    events = zip([*names, "button_release_event"], [*pixels, pixels[-1]], strict=True)
    for name, (x, y) in events:
        event = MouseEvent(name, canvas, x, y, MouseButton.LEFT)
        canvas.callbacks.process(name, event)


@pytest.fixture
def figure() -> Figure:
    figure = Figure(figsize=(8, 6))
    FigureCanvasAgg(figure)
    return figure


def test_drawn_box(figure: Figure) -> None:
    picking = Picking(figure, IMAGE)
    figure.canvas.draw()
    drag(picking, figure, (100, 80), (50, 50), (20, 30))
    # Screen pixels are whole numbers: a part of an image pixel is lost on each side.
    assert tuple(picking.box()) == pytest.approx((20, 30, 80, 50), abs=0.5)


def test_nothing_drawn(figure: Figure) -> None:
    picking = Picking(figure, IMAGE)
    figure.canvas.draw()
    with pytest.raises(SiamkdError, match="no box was drawn"):
        picking.box()


def test_other_keys_do_nothing(figure: Figure) -> None:
    picking = Picking(figure, IMAGE)
    figure.canvas.draw()
    drag(picking, figure, (10, 10), (60, 60))
    for key in ("a", "enter"):
        figure.canvas.callbacks.process(
            "key_press_event", KeyEvent("key_press_event", figure.canvas, key)
        )
    assert picking.box().w == pytest.approx(50, abs=0.5)


def test_without_a_display_the_option_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    with pytest.raises(SiamkdError, match=r"no display .* --box x,y,w,h"):
        pick_box(IMAGE)


def test_without_a_window_toolkit_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DISPLAY", ":77")
    import matplotlib.pyplot as plt

    plt.switch_backend("agg")
    with pytest.raises(SiamkdError, match=r"python3-tk.* --box x,y,w,h"):
        pick_box(IMAGE)
    assert plt.get_fignums() == []
