"""The soak's memory: samples of the tracker's resident set, a verdict, a table, a plot."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from siamkd_core.modelfile import write_atomically

WARM_UP = 0.2
"""Share of the run that is not judged: the allocators grow to what the work takes."""
GROWTH = 0.03
"""Share of the usual memory by which it may grow over the judged time."""
WINDOWS = 20


@dataclass(frozen=True)
class Sample:
    """One second. `event` is what was done to the tracker then; empty for nothing."""

    seconds: float
    megabytes: float
    received: int
    processed: int
    event: str


@dataclass(frozen=True)
class Verdict:
    """Whether the memory is flat.

    The kept images come and go with each jump of the stamps, so what is judged is the highest
    value of each of WINDOWS equal stretches: their slope by least squares, over the judged time.

    Attributes:
        usual: median of those highest values, MB.
        growth: MB over the judged time, by that slope.
        minutes: judged time.
    """

    usual: float
    growth: float
    minutes: float

    @property
    def flat(self) -> bool:
        return self.growth <= GROWTH * self.usual

    def __str__(self) -> str:
        per_hour = self.growth / self.minutes * 60 if self.minutes else 0.0
        return (
            f"memory {'flat' if self.flat else 'NOT FLAT'}: usually {self.usual:.0f} MB, "
            f"{self.growth:+.1f} MB in {self.minutes:.1f} min ({per_hour:+.1f} MB/h); "
            f"allowed {GROWTH:.0%} of the usual"
        )


def judge(samples: Sequence[Sample]) -> Verdict:
    """The verdict on samples in order of time; at least one."""
    begin = samples[0].seconds + WARM_UP * (samples[-1].seconds - samples[0].seconds)
    judged = [sample for sample in samples if sample.seconds >= begin]
    times = np.array([sample.seconds for sample in judged])
    values = np.array([sample.megabytes for sample in judged])
    parts = [part for part in np.array_split(np.arange(len(times)), WINDOWS) if len(part)]
    highest = np.array([values[part].max() for part in parts])
    middles = np.array([times[part].mean() for part in parts])
    slope = float(np.polyfit(middles, highest, 1)[0]) if len(parts) > 1 else 0.0
    lasted = float(times[-1] - times[0])
    return Verdict(float(np.median(highest)), slope * lasted, lasted / 60)


def write_table(path: Path, samples: Sequence[Sample]) -> None:
    """The samples as CSV."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(("seconds", "resident_mb", "received", "processed", "event"))
    for one in samples:
        writer.writerow(
            (f"{one.seconds:.1f}", f"{one.megabytes:.1f}", one.received, one.processed, one.event)
        )
    write_atomically(path, text.getvalue().encode())


def write_plot(path: Path, samples: Sequence[Sample], verdict: Verdict) -> None:
    """Memory over time, with what was done to the tracker."""
    from matplotlib.figure import Figure

    minutes = [sample.seconds / 60 for sample in samples]
    figure = Figure(figsize=(8, 3.6), layout="constrained")
    axes = figure.subplots()
    axes.plot(minutes, [sample.megabytes for sample in samples], lw=1, color="tab:blue")
    begin = minutes[0] + WARM_UP * (minutes[-1] - minutes[0])
    axes.axvspan(minutes[0], begin, color="0.93", label="warm-up, not judged")
    for kind, colour in (("restart", "tab:green"), ("jump", "tab:red")):
        times = [sample.seconds / 60 for sample in samples if kind in sample.event]
        axes.plot(times, [0] * len(times), "|", color=colour, ms=9, label=f"camera: {kind}")
    axes.set(xlabel="minutes", ylabel="resident memory, MB", title=str(verdict))
    axes.title.set_fontsize(8)
    axes.set_ylim(bottom=-15)
    axes.legend(loc="lower right", fontsize=8)
    image = io.BytesIO()
    figure.savefig(image, format="png", dpi=80)
    write_atomically(path, image.getvalue())
