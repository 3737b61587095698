"""Choose a tracker's parameters for a model by random search on sequences it was not trained on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from siamkd_core.evaluate import run_sequence
from siamkd_core.metrics import macro_mean, measure
from siamkd_core.sequences import Sequence
from siamkd_core.tracker import Tracker
from siamkd_core.tracker_config import TrackerConfig

RANGES = {
    "scale_step": (1.02, 1.06),
    "scale_penalty": (0.94, 1.0),
    "scale_rate": (0.2, 0.8),
    "window": (0.02, 0.35),
}
"""Uniform range of each parameter that is searched."""


def propose(base: TrackerConfig, trial: int, seed: int) -> TrackerConfig:
    """Trial 0 is ``base``; every other one is drawn from RANGES by its number and the seed."""
    if trial == 0:
        return base
    rng = np.random.default_rng((seed, trial))
    drawn = {name: round(float(rng.uniform(*span)), 4) for name, span in RANGES.items()}
    return replace(base, **drawn)  # type: ignore[arg-type]


def shorten(sequence: Sequence, frames: int) -> Sequence:
    """The first ``frames`` frames."""
    return Sequence(sequence.name, sequence.frames[:frames], sequence.boxes[:frames])


def try_config(
    tracker: Tracker,
    config: TrackerConfig,
    sequences: list[Sequence],
    on_frame: Callable[[], None] | None = None,
) -> float:
    """Macro mean IoU of a one-pass evaluation with these parameters."""
    trial = Tracker(tracker.backend, replace(tracker.card, tracker=config))
    runs = [run_sequence(trial, s, on_frame) for s in sequences]
    measures = [measure(r.boxes, s.boxes) for r, s in zip(runs, sequences, strict=True)]
    return macro_mean(measures).mean_iou
