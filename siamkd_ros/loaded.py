"""The model as the node has it: loaded, warmed up, described; the CPU where a GPU is missing."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from siamkd_core.box import Box
from siamkd_core.errors import first_line
from siamkd_core.fallback import FallbackTracker, is_device_error
from siamkd_core.longterm import ShortTermTracker
from siamkd_core.tracker import Tracker, load_tracker
from siamkd_ros.diagnostics import Device
from siamkd_ros.parameters import PRECISIONS, TrackerParameters


class LoadedModel:
    """What configuring makes and cleaning up drops.

    Attributes:
        tracker: in use; the CPU takes over where a GPU fails.
        described: model, sha256, device, precision, backend, in words.
        calibrated: whether its score is a probability.
        took: how long loading and warming up took, in words.
        warning: what is not as it was asked for; empty if nothing.
    """

    def __init__(self, tracker: Tracker, warning: str, warn: Callable[[str], None]) -> None:
        self.warning = warning
        self._warn = warn
        self._describe(tracker)
        self.tracker: ShortTermTracker = tracker
        self.took = ""

    @property
    def name(self) -> str:
        return self.described["model"]

    def describe(self) -> Device:
        """For the task *device* of /diagnostics."""
        megabytes = None
        if torch.cuda.is_initialized():
            devices = range(torch.cuda.device_count())
            megabytes = sum(map(torch.cuda.memory_allocated, devices)) / 1e6
        return Device(self.described, self.took, self.warning, megabytes)

    def _describe(self, tracker: Tracker) -> None:
        card = tracker.card
        self.calibrated = card.score is not None
        self.described = {"model": card.name, "sha256": card.sha256, **tracker.backend.describe()}

    def fall_back_with(self, make_other: Callable[[], Tracker]) -> None:
        """Go on on the CPU if the device fails."""

        def other() -> ShortTermTracker:
            tracker = make_other()
            self._describe(tracker)
            return tracker

        def told(error: Exception) -> None:
            reason = first_line(error)
            self.warning = f"the device failed, so the model runs on the CPU now: {reason}"
            self._warn(self.warning)

        self.tracker = FallbackTracker(self.tracker, other, told)


def load(
    values: TrackerParameters, warn: Callable[[str], None], tracker: Tracker | None = None
) -> LoadedModel:
    """Load what the parameters name, warm it up, and say how long that took.

    Args:
        warn: told in words when the device fails later.
        tracker: takes the place of the one that the parameters name (for tests).

    Raises:
        SiamkdError: no such model, device or precision.
    """
    began = time.monotonic()
    warning = ""
    if tracker is None:
        tracker, warning = _load(values)
    loaded = time.monotonic()
    try:
        warm_up(tracker)
    except RuntimeError as error:
        if values.device != "auto" or not is_device_error(error):
            raise
        tracker, warning = _on_cpu(values), f"the GPU failed, so the model runs on the CPU: {error}"
        warm_up(tracker)
    model = LoadedModel(tracker, warning, warn)
    model.took = f"loaded in {loaded - began:.2f} s, warmed up in {time.monotonic() - loaded:.2f} s"
    if _device_type(tracker) != "cpu":
        model.fall_back_with(lambda: _on_cpu(values))
    return model


def warm_up(tracker: Tracker) -> None:
    """The first run of a network is slow (memory, kernels); let that happen before the camera."""
    noise = np.random.default_rng(0).integers(0, 256, (240, 320, 3), np.uint8)
    tracker.init(noise, Box(140.0, 100.0, 40.0, 40.0))
    for _ in range(3):
        tracker.update(noise)
    tracker.reset()


def _load(values: TrackerParameters) -> tuple[Tracker, str]:
    """The tracker, and a warning if `auto` had to do without a GPU."""
    precision = PRECISIONS.get(values.precision, values.precision)
    try:
        tracker = load_tracker(
            values.model, values.device, precision, values.threads or None, values.backend
        )
    except RuntimeError as error:
        if values.device != "auto" or not is_device_error(error):
            raise
        return _on_cpu(values), f"the GPU failed, so the model runs on the CPU: {error}"
    gpu_meant = values.device == "auto" and values.backend in ("auto", "torch")
    if gpu_meant and _device_type(tracker) == "cpu":
        return tracker, "no CUDA device: the model runs on the CPU (device: cpu if that is meant)"
    return tracker, ""


def _on_cpu(values: TrackerParameters) -> Tracker:
    # a precision that suits a GPU may crawl on a CPU
    return load_tracker(values.model, "cpu", "auto", values.threads or None, values.backend)


def _device_type(tracker: Any) -> str:
    return str(getattr(getattr(tracker.backend, "device", None), "type", "cpu"))
