"""The demo's live table. Pure: what is known goes in, a rich table comes out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from rich.console import Group
from rich.table import Table
from rich.text import Text

STAGES = {
    "wait": "in the node until its turn",
    "decode": "message to pixels",
    "crop": "search region",
    "model": "network",
    "post": "response to box",
    "verify": "second look, at what is in it",
    "publish": "box to message",
    "latency": "image stamp to box published",
    "adapt": "exemplar update, after that",
}
COLOURS = {"tracking": "green", "uncertain": "yellow", "lost": "red", "idle": "dim"}


@dataclass(frozen=True)
class View:
    """What the table shows.

    Attributes:
        published, processed: images sent by the camera, and those that the tracker worked on.
        image_rate, result_rate: Hz.
        latencies: seconds, stamp of the image to arrival of its box in the demo's process.
        timing, device: key-value pairs of the tracker's diagnostics; the timing's are in ms.
    """

    source: str
    state: str = ""
    reason: str = ""
    score: float = 0.0
    published: int = 0
    processed: int = 0
    image_rate: float = 0.0
    result_rate: float = 0.0
    latencies: Sequence[float] = ()
    timing: Mapping[str, str] = field(default_factory=dict)
    device: Mapping[str, str] = field(default_factory=dict)


def render(view: View) -> Group:
    """Two tables: where the tracking stands, and what each stage takes."""
    now = Table(title=f"siamkd demo: {view.source}", title_justify="left", show_header=False)
    now.add_row("state", Text(view.state or "starting", style=COLOURS.get(view.state, "")))
    now.add_row("reason", view.reason)
    now.add_row("score", f"{view.score:.2f}")
    now.add_row("camera", f"{view.image_rate:5.1f} Hz, {view.published} published")
    # the tracker takes the newest image only; on a slow machine many are passed over
    done = f"{view.processed} of {view.published} images processed"
    now.add_row("tracker", f"{view.result_rate:5.1f} fps, {done}")
    now.add_row("model", describe_device(view.device))
    stages = Table(title="stage timings, ms", title_justify="left")
    stages.add_column("stage")
    for heading in ("p50", "p95", "max"):
        stages.add_column(heading, justify="right")
    stages.add_column("what")
    for stage, what in STAGES.items():
        cells = [view.timing.get(f"{stage}_ms.{kind}", "") for kind in ("p50", "p95", "max")]
        if any(cells):
            stages.add_row(stage, *cells, what)
    if view.latencies:
        p50, p95 = np.percentile(view.latencies, (50, 95))
        cells = [f"{1e3 * value:.2f}" for value in (p50, p95, max(view.latencies))]
        stages.add_row("stamp to box", *cells, "measured here, in a third process")
    return Group(now, stages)


def describe_device(device: Mapping[str, str]) -> str:
    """Model, device and precision in one line; "" before the first diagnostics."""
    words = (device.get("model"), device.get("device"), device.get("precision"))
    return ", ".join(word for word in words if word)
