"""From an image to a place without leaving the device: one upload, and one wait a frame.

The image goes up once. Its mean colour, the crops, the network, the place, and the score's second
look at what is there, are computed where it is, and the numbers come back: :func:`fetch` is the
only place that waits for the device. A frame in which the target's size passes a bound at which
its crop is averaged from other blocks of pixels (:func:`siamkd_core.crop.shrink_of`) costs another
wait, and so do, of a frame that is in doubt, the two turned looks, both together, and the look
where the target was last seen for sure.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from siamkd_core.backend import TorchBackend
from siamkd_core.crop import Square, shrink_of
from siamkd_core.device_crop import crop_located, crop_squares, mean_colour, upload
from siamkd_core.image import Image
from siamkd_core.likeness import likeness
from siamkd_core.pipeline import Look, Sought
from siamkd_core.pose import Pose, moved
from siamkd_core.search import Found, search_of
from siamkd_core.siamfc import EXEMPLAR_SIZE
from siamkd_core.siamrpn import HeadConfig
from siamkd_core.tracker_config import SearchConfig


class _View(NamedTuple):
    frame: Tensor  # (H, W, 3) uint8
    colour: Tensor  # (3, 1, 1) float32


class _Asked(NamedTuple):
    """What the device was asked for in a look.

    Attributes:
        numbers: (n,) float64: whether the answer is finite, what was found, the pose's four, and
            the likeness where there is a second look.
        shrink: of the second look's crop.
        seen: its exemplar.
    """

    numbers: Tensor
    shrink: int
    seen: Tensor | None


class DevicePipeline:
    """Crops, network and place on the backend's device.

    Meant for a GPU; on a CPU it gives the same boxes, slower than
    :class:`siamkd_core.pipeline.HostPipeline`.

    Args:
        backend: runs the network.
        config: of the tracker.
        head: of a siamrpn.
    """

    def __init__(
        self, backend: TorchBackend, config: SearchConfig, head: HeadConfig | None = None
    ) -> None:
        self.search = search_of(config, head)
        self._backend = backend
        self._factors = self.search.factors().tolist()
        self._crops = self._buffer(len(self._factors), config.search_size)
        self._exemplar = self._buffer(1, EXEMPLAR_SIZE)
        self._clocks: list[_Clock] = []

    @torch.inference_mode()
    def take(self, image: Image) -> _View:
        frame = upload(image, self._backend.device)
        return _View(frame, mean_colour(frame))

    @torch.inference_mode()
    def embed(self, view: _View, square: Square) -> Tensor:
        return self._backend.kernels(crop_squares(*view, [square], self._exemplar))

    @torch.inference_mode()
    def likeness(self, exemplar: Tensor, other: Tensor) -> float:
        return fetch(likeness(exemplar, other)[None])[0]

    @torch.inference_mode()
    def look(self, view: _View, sought: Sought, poses: Sequence[Pose]) -> list[Look]:
        while len(self._clocks) < len(poses):
            self._clocks.append(_Clock(self._backend.device))
        clocks = self._clocks[: len(poses)]
        asked = [self._ask(view, sought, *each) for each in zip(poses, clocks, strict=True)]
        values = iter(fetch(torch.cat([one.numbers for one in asked])))
        return [
            self._read(
                view, sought, pose, one, [next(values) for _ in range(len(one.numbers))], clock
            )
            for pose, one, clock in zip(poses, asked, clocks, strict=True)
        ]

    def _ask(self, view: _View, sought: Sought, pose: Pose, clock: _Clock) -> _Asked:
        """Ask the device for all of a look; nothing waits for it."""
        clock.start()
        size = self._crops.shape[-1]
        region = pose.region(size)
        pixel = region.side / size
        squares = [region._replace(side=region.side * factor) for factor in self._factors]
        crops = crop_squares(view.frame, view.colour, squares, self._crops)
        clock.mark()
        answer = self._backend.response(sought.exemplar, crops)
        clock.mark()
        found = Found(*(v.double() for v in self.search.find(answer, sought.known(pose, pixel))))
        height, width = view.frame.shape[:2]
        now = moved(pose, found, self.search, pixel, (width, height))
        numbers = [answer.isfinite().all().double(), *found, *now[:4]]
        clock.mark()
        # as a guess: the size hardly changes between two images
        shrink, seen = shrink_of(pose.exemplar().side, EXEMPLAR_SIZE), None
        if sought.first is not None:
            crop = crop_located(view.frame, view.colour, now.exemplar(), shrink, self._exemplar)
            seen = self._backend.kernels(crop)
            numbers.append(likeness(sought.first, seen).double())
        clock.mark()
        return _Asked(torch.stack(numbers), shrink, seen)

    def _read(
        self,
        view: _View,
        sought: Sought,
        pose: Pose,
        asked: _Asked,
        values: list[float],
        clock: _Clock,
    ) -> Look:
        """A look from its numbers."""
        finite, *rest = values
        found, (cx, cy, w, h), alike = Found(*rest[:8]), rest[8:12], rest[12:]
        model, post, verify = clock.between()
        if not finite:
            return Look(None, pose, model=model, post=post, verify=verify)
        now = Pose(cx, cy, w, h, pose.turn)
        look = Look(found, now, None, asked.seen, model, post, verify)
        if not alike:
            return look
        square = now.exemplar()
        if shrink_of(square.side, EXEMPLAR_SIZE) == asked.shrink:
            return look._replace(alike=alike[0])
        start = time.perf_counter()
        seen = self.embed(view, square)
        again = self.likeness(sought.first, seen)
        verify += time.perf_counter() - start
        return look._replace(alike=again, seen=seen, verify=verify)

    def _buffer(self, count: int, size: int) -> Tensor:
        """Crops in the layout and precision that the network wants them in, for every frame."""
        return torch.empty(
            (count, 3, size, size),
            dtype=self._backend.dtype,
            device=self._backend.device,
            memory_format=torch.channels_last,
        )


def fetch(result: Tensor) -> list[float]:
    """(n,) numbers from the device: waits until all that was asked of it is done."""
    values: list[float] = result.tolist()
    return values


class _Clock:
    """Times on the device's own clock. Marking does not wait; what lies between the four marks may
    be asked for once :func:`fetch` has waited."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._events = (
            [torch.cuda.Event(enable_timing=True) for _ in range(4)]
            if device.type == "cuda"
            else None
        )
        self._times = [0.0] * 4
        self._next = 0

    def start(self) -> None:
        """Begin with the first mark again."""
        self._next = 0

    def mark(self) -> None:
        if self._events is None:
            self._times[self._next] = time.perf_counter()
        else:
            self._events[self._next].record(torch.cuda.current_stream(self._device))
        self._next += 1

    def between(self) -> tuple[float, float, float]:
        """Seconds from each mark to the next."""
        if self._events is None:
            a, b, c, d = self._times
            return b - a, c - b, d - c
        first, second, third, last = self._events
        pairs = (first, second), (second, third), (third, last)
        model, post, verify = (float(one.elapsed_time(other)) / 1e3 for one, other in pairs)
        return model, post, verify
