"""What a search of shapes found, as a picture."""

from __future__ import annotations

import io
from collections.abc import Sequence

from siamkd_core.shape_search import Step


def plot(steps: Sequence[Step], teacher: tuple[int, float], limit: int) -> bytes:
    """PNG: the rewards of each update, and the students' accuracy against their parameters.

    Args:
        steps: at least one.
        teacher: parameters and accuracy.
        limit: of the parameters; 0: none.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4.4), dpi=110, layout="constrained")
    left, right = figure.subplots(1, 2)
    numbers = [step.number for step in steps for _ in step.rewards]
    left.plot(
        numbers, [r for step in steps for r in step.rewards], ".", color="tab:blue", alpha=0.5
    )
    means = [sum(step.rewards) / len(step.rewards) for step in steps]
    left.plot([step.number for step in steps], means, color="tab:blue", label="mean of an update")
    left.set_xlabel("update of the policy")
    left.set_ylabel("reward")
    left.legend()
    students = {
        child.shape: (child.parameters, child.accuracy, step.number)
        for step in reversed(steps)
        for child in step.children
        if child.accuracy is not None
    }
    sizes, worths, when = zip(*students.values(), strict=True) if students else ((), (), ())
    points = right.scatter(sizes, worths, c=when, s=16, cmap="viridis")
    if students:
        figure.colorbar(points, ax=right, label="update")
    right.plot(*teacher, "k*", markersize=12, label="teacher")
    best = steps[-1].best
    if best is not None:
        right.plot(
            best.parameters,
            best.accuracy,
            "o",
            color="none",
            markeredgecolor="tab:red",
            markersize=12,
            markeredgewidth=2,
            label="best",
        )
    if limit:
        right.axvline(limit, color="grey", linestyle="--", label="limit")
    right.set_xscale("log")
    right.set_xlabel("parameters")
    right.set_ylabel("accuracy on what is held out")
    right.legend()
    out = io.BytesIO()
    figure.savefig(out, format="png")
    return out.getvalue()
