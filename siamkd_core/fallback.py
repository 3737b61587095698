"""A tracker that goes on on the CPU, with its target, when its device gives up."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NamedTuple

import torch

from siamkd_core.box import Box
from siamkd_core.image import Image
from siamkd_core.longterm import ShortTermTracker
from siamkd_core.tracker import Track
from siamkd_core.tracker_config import SearchConfig


class _Given(NamedTuple):
    """What the target was given by, kept for a tracker that has never seen it."""

    image: Image
    box: Box


class FallbackTracker:
    """Stands before a tracker on a GPU and replaces it by one on the CPU when the GPU fails.

    The new one takes the target from the image it was given on, goes to where it was found last,
    and goes on. What an adapting exemplar had learnt since is lost, and so is
    the place where the target was last seen for sure, if it was elsewhere.

    Args:
        tracker: in use.
        make_other: makes the other tracker, when it is needed.
        told: called once with the device's error, after the other tracker took over.
    """

    def __init__(
        self,
        tracker: ShortTermTracker,
        make_other: Callable[[], ShortTermTracker],
        told: Callable[[Exception], None],
    ) -> None:
        self.tracker = tracker
        self._make_other = make_other
        self._told = told
        self._given: _Given | None = None
        self._pose: tuple[Box, float] | None = None
        self._fallen = False

    @property
    def initialised(self) -> bool:
        return self.tracker.initialised

    @property
    def config(self) -> SearchConfig:
        return self.tracker.config

    def init(self, image: Image, box: Box) -> None:
        """As :meth:`siamkd_core.tracker.Tracker.init`."""
        try:
            self.tracker.init(image, box)
        except RuntimeError as error:
            self._fall(error)
            self.tracker.init(image, box)
        # a caller's image may be a view of a buffer that is used again
        self._given, self._pose = (None if self._fallen else _Given(image.copy(), box)), (box, 0.0)

    def find(
        self, image: Image, learn: bool = True, turn: bool = True, revisit: bool = True
    ) -> Track:
        """As :meth:`siamkd_core.tracker.Tracker.find`."""
        try:
            track = self.tracker.find(image, learn, turn, revisit)
        except RuntimeError as error:
            self._fall(error)
            track = self.tracker.find(image, learn, turn, revisit)
        self._pose = track.pose
        return track

    def learn(self) -> float:
        """As :meth:`siamkd_core.tracker.Tracker.learn`; what a failing device would have learnt is
        lost."""
        start = time.perf_counter()
        try:
            self.tracker.learn()
        except RuntimeError as error:
            self._fall(error)
        return time.perf_counter() - start

    def move_to(self, box: Box, turned: float = 0.0) -> None:
        self.tracker.move_to(box, turned)
        self._pose = box, turned

    def reset(self) -> None:
        self.tracker.reset()
        self._given = self._pose = None

    def _fall(self, error: RuntimeError) -> None:
        """Replace the tracker and give the new one the target.

        Raises:
            RuntimeError: the one given, if it is not the device's, or this happened before.
        """
        if self._fallen or not is_device_error(error):
            raise error
        other = self._make_other()
        if self._given is not None and self._pose is not None:
            other.init(*self._given)
            other.move_to(*self._pose)
        self.tracker, self._given, self._fallen = other, None, True
        self._told(error)


def is_device_error(error: Exception) -> bool:
    """Whether a GPU's memory or driver is the cause, so that the CPU could do the same work."""
    kinds = [torch.cuda.OutOfMemoryError]
    accelerator = getattr(torch, "AcceleratorError", None)  # PyTorch 2.8 on
    if accelerator is not None:
        kinds.append(accelerator)
    words = ("CUDA error", "CUDA out of memory", "cuDNN", "CUBLAS", "HIP error")
    return isinstance(error, tuple(kinds)) or any(word in str(error) for word in words)
