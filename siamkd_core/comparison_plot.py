"""Models side by side: accuracy against time and against size, as a picture."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

from siamkd_core.comparison import Cost
from siamkd_core.errors import ConfigError

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def plot(costs: Sequence[Cost]) -> bytes:
    """PNG of AUC against milliseconds a frame and against megabytes, both on logarithmic axes.

    A model whose accuracy is not known has its place on these axes, a dotted line, and no point.

    Raises:
        ConfigError: no model has an accuracy.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    known = [cost.accuracy.auc for cost in costs if cost.accuracy]
    if not known:
        raise ConfigError(
            "a plot needs a model whose accuracy is known: record one with siamkd evaluate "
            "--record SET, and name it with --record SET, or name its folder with --results"
        )
    figure = Figure(figsize=(11, 4.8), layout="constrained")
    panels = (
        ("milliseconds a frame, median", [1e3 * cost.timing.median for cost in costs]),
        ("size of the file, MB", [cost.complexity.file_bytes / 1e6 for cost in costs]),
    )
    families = list(dict.fromkeys(cost.family for cost in costs))
    low, high = min(known), max(known)
    room = max(high - low, 0.05)
    for place, (label, values) in enumerate(panels, 1):
        axes = figure.add_subplot(1, len(panels), place)
        for cost, value in zip(costs, values, strict=True):
            _show(axes, cost, value, f"C{families.index(cost.family)}")
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.set_xlim(min(values) / 1.6, max(values) * 2.5)
        axes.set_ylim(low - 0.3 * room, high + 0.3 * room)
        axes.set_xlabel(label)
        axes.set_ylabel("AUC")
        axes.grid(alpha=0.3, which="both")
    out = io.BytesIO()
    figure.savefig(out, format="png", dpi=110)
    return out.getvalue()


def _show(axes: Axes, cost: Cost, value: float, colour: str) -> None:
    if cost.accuracy:
        axes.plot(value, cost.accuracy.auc, "o", color=colour)
        place = (value, cost.accuracy.auc)
        axes.annotate(cost.name, place, (5, 5), textcoords="offset points", fontsize=8)
        return
    axes.axvline(value, color=colour, linestyle=":")
    across = axes.get_xaxis_transform()
    axes.text(
        value, 0.02, f" {cost.name}, not measured", transform=across, rotation=90, fontsize=8,
        ha="right", va="bottom",
    )  # fmt: skip
