"""Models side by side: accuracy against time and against size, as a picture."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from siamkd_core.comparison import Cost
from siamkd_core.errors import ConfigError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MARKERS = "os^D"
COLUMNS = 4
"""Of the legend."""
PLACES = [(x, y) for y in (5, -5, 15, -15) for x in (5, -5)]
"""Where a name may stand beside its point, in points of type, the first that is free."""


def plot(costs: Sequence[Cost]) -> bytes:
    """PNG of AUC against milliseconds a frame and against megabytes, both on logarithmic axes.

    The marker tells the architecture, the colour backbone and head too; a legend names them.
    A model whose accuracy is not known has its place on these axes, a dotted line, and no point.

    Raises:
        ConfigError: no model has an accuracy.
    """
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    known = [cost.accuracy.auc for cost in costs if cost.accuracy]
    if not known:
        raise ConfigError(
            "a plot needs a model whose accuracy is known: record one with siamkd evaluate "
            "--record SET, and name it with --record SET, or name its folder with --results"
        )
    figure = Figure(figsize=(11, 4.8), dpi=110, layout="constrained")
    panels = (
        ("milliseconds a frame, median", [1e3 * cost.timing.median for cost in costs]),
        ("size of the file, MB", [cost.complexity.file_bytes / 1e6 for cost in costs]),
    )
    looks = _looks(costs)
    rows = math.ceil(len(looks) / COLUMNS)
    grid = figure.add_gridspec(2, len(panels), height_ratios=(1, 0.06 * rows))
    low, high = min(known), max(known)
    room = max(high - low, 0.05)
    panes = []
    for place, (label, values) in enumerate(panels):
        axes = figure.add_subplot(grid[0, place])
        for cost, value in zip(costs, values, strict=True):
            _show(axes, cost, value, looks[cost.family])
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.set_xlim(min(values) / 1.6, max(values) * 2.5)
        axes.set_ylim(low - 0.3 * room, high + 0.3 * room)
        axes.set_xlabel(label)
        axes.set_ylabel("AUC")
        axes.grid(alpha=0.3, which="both")
        panes.append((axes, values))
    below = figure.add_subplot(grid[1, :])
    below.set_axis_off()
    points = {cost.family for cost in costs if cost.accuracy}
    handles = [
        Line2D([], [], linestyle="", **look)
        if family in points
        else Line2D([], [], linestyle=":", color=look["color"])
        for family, look in looks.items()
    ]
    below.legend(handles, list(looks), loc="center", ncol=COLUMNS, fontsize=9, frameon=False)
    figure.draw_without_rendering()  # the layout decides on the room for names
    for axes, values in panes:
        _name_points(axes, costs, values)
    out = io.BytesIO()
    figure.savefig(out, format="png")
    return out.getvalue()


def _looks(costs: Sequence[Cost]) -> dict[str, dict[str, Any]]:
    """Marker and colour of each family, in words; one architecture has one marker."""
    families = sorted({cost.family for cost in costs})
    kinds = sorted({family.partition(",")[0] for family in families})
    return {
        family: {
            "marker": MARKERS[kinds.index(family.partition(",")[0]) % len(MARKERS)],
            "color": f"C{number}",
        }
        for number, family in enumerate(families)
    }


def _show(axes: Axes, cost: Cost, value: float, look: dict[str, Any]) -> None:
    if cost.accuracy:
        axes.plot(value, cost.accuracy.auc, **look)
        return
    axes.axvline(value, color=look["color"], linestyle=":")
    across = axes.get_xaxis_transform()
    axes.text(
        value, 0.02, f" {cost.name}, not measured", transform=across, rotation=90, fontsize=8,
        ha="right", va="bottom",
    )  # fmt: skip


def _name_points(axes: Axes, costs: Sequence[Cost], values: Sequence[float]) -> None:
    """A name beside each point, where it covers no other name and no point if there is room."""
    from matplotlib.transforms import Bbox

    points = [
        (cost.accuracy.auc, value, cost.name)
        for cost, value in zip(costs, values, strict=True)
        if cost.accuracy
    ]
    taken = [text.get_window_extent() for text in axes.texts]
    for auc, value, _ in points:
        x, y = axes.transData.transform((value, auc))
        taken.append(Bbox.from_bounds(x - 5, y - 5, 10, 10))
    for auc, value, name in sorted(points, reverse=True):
        for offset in [*PLACES, PLACES[0]]:
            label = axes.annotate(
                name,
                (value, auc),
                offset,
                textcoords="offset points",
                fontsize=8,
                ha="left" if offset[0] > 0 else "right",
                va="bottom" if offset[1] > 0 else "top",
            )
            label.set_in_layout(False)
            box = label.get_window_extent()
            inside = axes.bbox.x0 <= box.x0 and box.x1 <= axes.bbox.x1
            if inside and not any(box.overlaps(other) for other in taken):
                break
            label.remove()
        else:
            axes.add_artist(label)
        taken.append(box)
