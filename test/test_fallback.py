"""siamkd_core.fallback: the target survives its device."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from siamkd_core.box import Box
from siamkd_core.fallback import FallbackTracker, is_device_error
from siamkd_core.tracker import Track, load_tracker

MEMORY = torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
BOX = Box(60.0, 50.0, 40.0, 30.0)


class Failing:
    """A tracker whose device fails at one call."""

    def __init__(self, tracker: Any, fails_at: str, error: Exception = MEMORY) -> None:
        self._tracker, self._fails_at, self._error = tracker, fails_at, error
        self.broken = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tracker, name)

    def init(self, image: Any, box: Box) -> None:
        if self.broken and self._fails_at == "init":
            raise self._error
        self._tracker.init(image, box)

    def find(
        self, image: Any, learn: bool = True, turn: bool = True, revisit: bool = True
    ) -> Track:
        if self.broken and self._fails_at == "find":
            raise self._error
        return self._tracker.find(image, learn, turn, revisit)

    def learn(self) -> float:
        if self.broken and self._fails_at == "learn":
            raise self._error
        return self._tracker.learn()


def frames(count: int = 8) -> list[np.ndarray]:
    """A patch that moves 2 px a frame over noise."""
    rng = np.random.default_rng(0)
    background = rng.integers(0, 256, (180, 240, 3), np.uint8)
    patch = rng.integers(0, 256, (30, 40, 3), np.uint8)
    made = []
    for n in range(count):
        image = background.copy()
        image[50:80, 60 + 2 * n : 100 + 2 * n] = patch
        made.append(image)
    return made


def test_the_cpu_goes_on_where_the_gpu_was(tiny_model: Any) -> None:
    images = frames()
    reference = load_tracker(tiny_model, "cpu", "float32")
    failing = Failing(load_tracker(tiny_model, "cpu", "float32"), "find")
    told: list[Exception] = []
    tracker = FallbackTracker(
        failing, lambda: load_tracker(tiny_model, "cpu", "float32"), told.append
    )
    reference.init(images[0], BOX)
    given = images[0].copy()
    tracker.init(given, BOX)
    given[:] = 0  # a message's buffer that is used again
    for n, image in enumerate(images[1:], 1):
        failing.broken = n >= 4
        expected, track = reference.update(image), tracker.find(image)
        tracker.learn()
        assert track.box == pytest.approx(expected.box)
        assert track.score == pytest.approx(expected.score)
    assert told == [MEMORY]
    tracker.init(images[0], BOX)  # a new target needs no other device either
    assert tracker.initialised


def test_a_first_box_that_does_not_fit_the_gpu(tiny_model: Any) -> None:
    failing = Failing(load_tracker(tiny_model, "cpu"), "init")
    failing.broken = True
    told: list[Exception] = []
    tracker = FallbackTracker(failing, lambda: load_tracker(tiny_model, "cpu"), told.append)
    tracker.init(frames()[0], BOX)
    assert tracker.initialised
    assert len(told) == 1
    tracker.reset()
    assert not tracker.initialised


def test_a_move_before_the_failure_counts(tiny_model: Any) -> None:
    images = frames()
    failing = Failing(load_tracker(tiny_model, "cpu"), "find")
    tracker = FallbackTracker(failing, lambda: load_tracker(tiny_model, "cpu"), lambda _: None)
    tracker.init(images[0], BOX)
    far = Box(150.0, 120.0, 40.0, 30.0)
    tracker.move_to(far)
    failing.broken = True
    found = tracker.find(images[1]).box
    assert abs(found.cx - far.cx) < 40
    assert abs(found.cy - far.cy) < 40


def test_a_device_that_fails_while_it_learns(tiny_model: Any) -> None:
    """The box is out by then; the CPU finds the next one from there."""
    images, told = frames(), []
    failing = Failing(load_tracker(tiny_model, "cpu"), "learn")
    other = load_tracker(tiny_model, "cpu")
    tracker = FallbackTracker(failing, lambda: other, told.append)
    tracker.init(images[0], BOX)
    box = tracker.find(images[1]).box
    failing.broken = True
    assert tracker.learn() > 0
    assert told == [MEMORY] and tracker.tracker is other
    reference = load_tracker(tiny_model, "cpu")
    reference.init(images[0], BOX)
    reference.move_to(box)
    assert tracker.find(images[2]).box == reference.find(images[2]).box


@pytest.mark.parametrize("error", [RuntimeError("shapes do not match"), ValueError("no image")])
def test_what_is_not_the_devices_fault_is_not_hidden(tiny_model: Any, error: Exception) -> None:
    failing = Failing(load_tracker(tiny_model, "cpu"), "find", error)
    tracker = FallbackTracker(failing, lambda: pytest.fail("replaced"), lambda _: None)
    tracker.init(frames()[0], BOX)
    failing.broken = True
    with pytest.raises(type(error), match=str(error)):
        tracker.find(frames()[1])


def test_a_cpu_that_fails_too_is_not_replaced_for_ever(tiny_model: Any) -> None:
    made = [Failing(load_tracker(tiny_model, "cpu"), "find") for _ in range(2)]
    tracker = FallbackTracker(made[0], lambda: made[1], lambda _: None)
    tracker.init(frames()[0], BOX)
    made[0].broken = made[1].broken = True
    with pytest.raises(torch.cuda.OutOfMemoryError):
        tracker.find(frames()[1])
    with pytest.raises(torch.cuda.OutOfMemoryError):
        tracker.find(frames()[2])


def test_which_errors_are_a_devices() -> None:
    assert is_device_error(MEMORY)
    assert is_device_error(RuntimeError("CUDA error: an illegal memory access"))
    assert not is_device_error(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
