"""An evaluation for people: table (Markdown, CSV, terminal), curves, contact sheets."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import cv2

from siamkd_core.box import Box, FloatArray
from siamkd_core.draw import contact_sheet, draw_track, evenly
from siamkd_core.evaluate import SequenceRun
from siamkd_core.image import read_image
from siamkd_core.metrics import (
    IOU_THRESHOLDS,
    NORM_THRESHOLDS,
    PIXEL_THRESHOLDS,
    Measures,
    macro_mean,
    measure,
)
from siamkd_core.modelfile import write_atomically
from siamkd_core.sequences import Sequence

if TYPE_CHECKING:
    from rich.table import Table

COLUMNS = ("sequence", "frames", "mean IoU", "AUC", "precision", "norm. precision", "fps")
NOTES = """\
One-pass evaluation. The first frame, where the box is given, counts; frames without a true box do
not. AUC: mean of the success curve, IoU > 0, 0.05 .. 1 (21 thresholds). Precision: centre error at
most 20 pixels. Norm. precision: centre error over the true width and height, mean of the shares at
most 0, 0.01 .. 0.5. Mean: each sequence weighs the same. fps: frames over the time spent in
`update`, reading images left out; in the last row, over all frames."""


@dataclass(frozen=True)
class Row:
    """One sequence's figures."""

    name: str
    measures: Measures
    updates: int
    seconds: float

    @property
    def fps(self) -> float:
        return self.updates / self.seconds if self.seconds > 0 else math.nan


@dataclass(frozen=True)
class Report:
    """All figures of one model on a set of sequences.

    Attributes:
        model: name.
        rows: at least one.
        facts: what ran where (hash, device, command ...), printed above the table.
    """

    model: str
    rows: tuple[Row, ...]
    facts: Mapping[str, str] = field(default_factory=dict)

    @property
    def mean(self) -> Row:
        """The macro mean; frames, updates and seconds are sums."""
        return Row(
            f"mean of {len(self.rows)}",
            macro_mean([row.measures for row in self.rows]),
            sum(row.updates for row in self.rows),
            sum(row.seconds for row in self.rows),
        )


def judge(sequence: Sequence, run: SequenceRun) -> Row:
    """The figures of one run."""
    return Row(sequence.name, measure(run.boxes, sequence.boxes), run.updates, run.seconds)


def cells(row: Row) -> tuple[str, ...]:
    """A row's texts, in the order of COLUMNS."""
    one = row.measures
    shares = (one.mean_iou, one.auc, one.precision_at_20, one.norm_precision_auc)
    speed = f"{row.fps:.1f}" if math.isfinite(row.fps) else "-"
    return (row.name, str(one.frames), *(f"{share:.3f}" for share in shares), speed)


def markdown(report: Report) -> str:
    """The table as Markdown, with the facts above and the definitions below."""
    lines = [f"# {report.model}", ""]
    lines += [f"- {key}: {value}" for key, value in report.facts.items()]
    lines += ["", table_row(COLUMNS), "|---|" + "---:|" * (len(COLUMNS) - 1)]
    lines += [table_row(cells(row)) for row in report.rows]
    lines += [table_row(tuple(f"**{cell}**" for cell in cells(report.mean))), "", NOTES, ""]
    return "\n".join(lines)


def comma_separated(report: Report) -> str:
    """The table as CSV with a header line, six decimals, the mean last."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(
        ("sequence", "frames", "mean_iou", "auc", "precision_20", "norm_precision_auc", "fps")
    )
    for row in (*report.rows, report.mean):
        one = row.measures
        values = (one.mean_iou, one.auc, one.precision_at_20, one.norm_precision_auc, row.fps)
        writer.writerow((row.name, one.frames, *(f"{value:.6f}" for value in values)))
    return out.getvalue()


def terminal_table(report: Report) -> Table:
    """The table for a rich console."""
    from rich.table import Table

    table = Table(title=report.model, title_justify="left")
    for index, name in enumerate(COLUMNS):
        table.add_column(name, justify="right" if index else "left")
    for row in report.rows:
        table.add_row(*cells(row))
    table.add_section()
    table.add_row(*cells(report.mean), style="bold")
    return table


def plot(report: Report) -> bytes:
    """PNG of the success, precision and norm. precision curves of every sequence and the mean."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13.5, 4.4), layout="constrained")
    mean = report.mean.measures
    panels = (
        ("success", "IoU threshold", IOU_THRESHOLDS, f"AUC {mean.auc:.3f}"),
        (
            "precision",
            "centre error, pixels",
            PIXEL_THRESHOLDS,
            f"at 20: {mean.precision_at_20:.3f}",
        ),
        (
            "norm_precision",
            "centre error / true size",
            NORM_THRESHOLDS,
            f"AUC {mean.norm_precision_auc:.3f}",
        ),
    )
    for place, (curve, label, thresholds, figure_text) in enumerate(panels, 1):
        axes = figure.add_subplot(1, len(panels), place)
        for row in report.rows:
            axes.plot(thresholds, getattr(row.measures, curve), color="0.75", linewidth=0.8)
        axes.plot(thresholds, getattr(mean, curve), color="tab:blue", linewidth=2.5)
        axes.set_title(f"{curve.replace('_', '. ')} ({figure_text})")
        axes.set_xlabel(label)
        axes.set_ylabel("share of frames")
        axes.set_xlim(thresholds[0], thresholds[-1])
        axes.set_ylim(0, 1.02)
        axes.grid(alpha=0.3)
    figure.suptitle(f"{report.model}: mean of {len(report.rows)} sequences, and each of them")
    out = io.BytesIO()
    figure.savefig(out, format="png", dpi=110)
    return out.getvalue()


def write_report(report: Report, stem: Path) -> list[Path]:
    """Write `<stem>.md`, `<stem>.csv` and `<stem>.png`; returns their paths."""
    contents = {
        ".md": markdown(report).encode(),
        ".csv": comma_separated(report).encode(),
        ".png": plot(report),
    }
    stem.parent.mkdir(parents=True, exist_ok=True)
    paths = []
    for suffix, data in contents.items():
        path = stem.with_name(stem.name + suffix)
        write_atomically(path, data)
        paths.append(path)
    return paths


def write_pictures(sequence: Sequence, run: SequenceRun, path: Path, tiles: int = 12) -> None:
    """Write a contact sheet of predicted (amber) and true (green) boxes; reads only its tiles.

    Raises:
        SiamkdError: an image cannot be read.
    """
    chosen = evenly(len(sequence.frames), tiles)
    frames = [
        draw_track(
            read_image(sequence.frames[index]),
            _box(run.boxes, index),
            float(run.scores[index]),
            truth=_box(sequence.boxes, index),
        )
        for index in chosen
    ]
    sheet = contact_sheet(frames, [f"frame {index}" for index in chosen], tiles=tiles)
    path.parent.mkdir(parents=True, exist_ok=True)
    _, data = cv2.imencode(path.suffix, sheet)
    write_atomically(path, data.tobytes())


def _box(boxes: FloatArray, index: int) -> Box:
    return Box(*(float(value) for value in boxes[index]))


def table_row(texts: Iterable[str]) -> str:
    """A row of a Markdown table."""
    return "| " + " | ".join(texts) + " |"
