"""The results of an ablation: a line a run as CSV, mean and spread as Markdown, and a plot."""

from __future__ import annotations

import csv
import io
import math
import statistics
from collections.abc import Sequence
from typing import NamedTuple

MEASURES = ("auc", "mean_iou", "precision_20")
NOTE = "Mean and sample standard deviation over the seeds; every sequence weighs the same."
HEADERS = {"auc": "AUC", "mean_iou": "mean IoU", "precision_20": "precision"}


class Result(NamedTuple):
    """The small student of one run, evaluated: means over the sequences."""

    variant: str
    seed: int
    parameters: int
    auc: float
    mean_iou: float
    precision_20: float
    sha256: str = ""


class Summary(NamedTuple):
    """Mean of a measure over the seeds, and the sample standard deviation, nan for one seed."""

    mean: float
    deviation: float


def summarise(values: Sequence[float]) -> Summary:
    """Of at least one value; the deviation has n - 1 below."""
    spread = statistics.stdev(values) if len(values) > 1 else math.nan
    return Summary(statistics.fmean(values), spread)


def by_variant(results: Sequence[Result]) -> dict[str, list[Result]]:
    """In the order in which the variants first appear."""
    found: dict[str, list[Result]] = {}
    for one in results:
        found.setdefault(one.variant, []).append(one)
    return found


def comma_separated(results: Sequence[Result]) -> str:
    """A line a run, six decimals."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(Result._fields)
    for one in results:
        writer.writerow(f"{v:.6f}" if isinstance(v, float) else v for v in one)
    return out.getvalue()


def markdown(results: Sequence[Result], teacher: Result | None, notes: Sequence[str]) -> str:
    """A row a variant: mean +- sample standard deviation over its seeds."""
    lines = [*(f"- {note}" for note in notes), ""]
    lines += ["| variant | seeds | " + " | ".join(HEADERS.values()) + " |"]
    lines += ["|---|---:|" + "---:|" * len(HEADERS)]
    for name, runs in by_variant(results).items():
        lines.append(_row(name, runs))
    if teacher is not None:
        lines.append(_row(f"teacher, {teacher.parameters:,} parameters", [teacher]))
    return "\n".join([*lines, "", NOTE, ""])


def plot(results: Sequence[Result], teacher: Result | None) -> bytes:
    """PNG: every run's AUC as a dot, mean and deviation of each variant, the teacher as a line."""
    from matplotlib.figure import Figure

    groups = by_variant(results)
    figure = Figure(figsize=(8, 1.2 + 0.42 * len(groups)), layout="constrained")
    axes = figure.add_subplot()
    for place, runs in enumerate(groups.values()):
        values = [one.auc for one in runs]
        summary = summarise(values)
        axes.plot(values, [place] * len(values), "o", color="0.65", markersize=5)
        error = 0.0 if math.isnan(summary.deviation) else summary.deviation
        axes.errorbar(summary.mean, place, xerr=error, fmt="|", color="tab:blue", capsize=4, ms=14)
    if teacher is not None:
        axes.axvline(teacher.auc, color="tab:green", linestyle="--", label="teacher")
        axes.legend(loc="best")
    axes.set_yticks(range(len(groups)), list(groups))
    axes.invert_yaxis()
    axes.set_xlabel("AUC: runs (grey), mean and sample standard deviation (blue)")
    axes.grid(axis="x", alpha=0.3)
    out = io.BytesIO()
    figure.savefig(out, format="png", dpi=110)
    return out.getvalue()


def _row(name: str, runs: Sequence[Result]) -> str:
    cells = []
    for measure in MEASURES:
        summary = summarise([getattr(one, measure) for one in runs])
        spread = "" if math.isnan(summary.deviation) else f" ± {summary.deviation:.3f}"
        cells.append(f"{summary.mean:.3f}{spread}")
    return f"| {name} | {len(runs)} | {' | '.join(cells)} |"
