"""Choose a tracker's parameters for a model by random search on sequences it was not trained on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

import numpy as np
import yaml

from siamkd_core.box import Box, check_target_box, present
from siamkd_core.config import from_mapping
from siamkd_core.errors import BoxError, ConfigError
from siamkd_core.evaluate import run_sequence
from siamkd_core.image import read_image
from siamkd_core.metrics import macro_mean, measure
from siamkd_core.sequences import Sequence
from siamkd_core.tracker import Tracker
from siamkd_core.tracker_config import RpnTrackerConfig, SearchConfig, TrackerConfig

RANGES: dict[type[SearchConfig], dict[str, tuple[float, float]]] = {
    TrackerConfig: {
        "scale_step": (1.02, 1.06),
        "scale_penalty": (0.94, 1.0),
        "scale_rate": (0.2, 0.8),
        "window": (0.02, 0.35),
        "exemplar_share": (0.0, 0.5),
    },
    RpnTrackerConfig: {
        "penalty_k": (0.0, 0.3),
        "size_rate": (0.1, 0.7),
        "window": (0.1, 0.6),
        "exemplar_share": (0.0, 0.5),
    },
}
"""Uniform range of each parameter that is searched, by family."""

Config = TypeVar("Config", bound=SearchConfig)


def propose(base: Config, trial: int, seed: int) -> Config:
    """Trial 0 is ``base``; in every other one the parameters of RANGES are drawn anew, by its
    number and the seed, and the others are those of ``base``."""
    if trial == 0:
        return base
    rng = np.random.default_rng((seed, trial))
    spans = RANGES[type(base)]
    drawn = {name: round(float(rng.uniform(*span)), 4) for name, span in spans.items()}
    return replace(base, **drawn)  # type: ignore[arg-type]


def parse_candidate(text: str, kind: type[Config], option: str = "--candidate") -> Config:
    """``exemplar_share=0.3,window=0.13`` -> those parameters, the others at their defaults.

    Args:
        text: of this form.
        kind: the class of the family's parameters.
        option: of the command line, for the error.

    Raises:
        ConfigError: not of this form, an unknown parameter, or a value out of range.
    """
    pairs = [part.partition("=") for part in text.split(",") if part.strip()]
    if not all(equals for _, equals, _ in pairs):
        raise ConfigError(f"{option} {text!r}: expected name=value,name=value")
    values = {name.strip(): yaml.safe_load(value) for name, _, value in pairs}
    return from_mapping(kind, values, f"{option} {text!r}")


def can_be_given(sequence: Sequence, frame: int) -> bool:
    """Whether a tracker takes the box of a frame as a target."""
    height, width = read_image(sequence.frames[frame]).shape[:2]
    try:
        check_target_box(Box(*sequence.boxes[frame].tolist()), width, height)
    except BoxError:
        return False
    return True


def anchored(
    sequence: Sequence,
    every: int,
    frames: int,
    starts: Callable[[Sequence, int], bool] = lambda sequence, frame: True,
) -> list[Sequence]:
    """Runs from several starts, as VOT 2020 has them: many starts tell two settings apart better
    than one, which an early failure decides.

    Every so many frames there is an anchor; from the first frame with a target from there to the
    next one, a run goes to the end of the sequence or, where that is longer, back to its
    beginning. Runs must be long: what drifts slowly (scale, an exemplar that adapts) does not show
    in 60 frames.

    Args:
        sequence: of a target.
        every: frames from an anchor to the next.
        frames: of a run, at most.
        starts: whether a frame with a target may begin a run, else the next one is asked for.

    Returns:
        The runs, called by sequence and frame; those without a second target are left out.
    """
    total = len(sequence.frames)
    there = present(sequence.boxes)
    found = []
    for anchor in range(0, total, every):
        ahead = (anchor + np.flatnonzero(there[anchor : anchor + every])).tolist()
        start = next((frame for frame in ahead if starts(sequence, frame)), None)
        if start is None:
            continue
        run = slice(start, start + frames)
        if start + 1 > total - start:
            run = slice(start, start - frames if start >= frames else None, -1)
        if np.count_nonzero(there[run]) >= 2:
            name = f"{sequence.name}@{start}"
            found.append(Sequence(name, sequence.frames[run], sequence.boxes[run]))
    return found


def try_config(
    tracker: Tracker,
    config: TrackerConfig | RpnTrackerConfig,
    sequences: list[list[Sequence]],
    on_frame: Callable[[], None] | None = None,
) -> float:
    """Mean IoU with these parameters of one pass through each run: first over the runs of a
    sequence, then over the sequences, which weigh the same."""
    trial = Tracker(tracker.backend, replace(tracker.card, tracker=config))
    means = []
    for runs in sequences:
        boxes = [run_sequence(trial, run, on_frame).boxes for run in runs]
        measures = [measure(found, run.boxes) for found, run in zip(boxes, runs, strict=True)]
        means.append(macro_mean(measures).mean_iou)
    return float(np.mean(means))
