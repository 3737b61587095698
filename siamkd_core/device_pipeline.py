"""From an image to a place without leaving the device: one upload, and one wait a look.

The image goes up once. Its mean colour, the crops, the network and the place are computed where it
is, and nine numbers come back: :func:`fetch` is the only place that waits for the device. A score
that takes a second look, at the box that was found, waits for the one number of that as well.
"""

from __future__ import annotations

import time
from typing import NamedTuple

import torch
from torch import Tensor

from siamkd_core.backend import TorchBackend
from siamkd_core.crop import Square
from siamkd_core.device_crop import crop_squares, mean_colour, upload
from siamkd_core.image import Image
from siamkd_core.likeness import likeness
from siamkd_core.pipeline import Look
from siamkd_core.search import Found, Known, search_of
from siamkd_core.siamfc import EXEMPLAR_SIZE
from siamkd_core.siamrpn import HeadConfig
from siamkd_core.tracker_config import SearchConfig


class _View(NamedTuple):
    frame: Tensor  # (H, W, 3) uint8
    colour: Tensor  # (3, 1, 1) float32


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
        self._clock = _Clock(backend.device)

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
    def look(
        self,
        view: _View,
        exemplar: Tensor,
        square: Square,
        known: Known,
    ) -> Look:
        squares = [square._replace(side=square.side * factor) for factor in self._factors]
        crops = crop_squares(*view, squares, self._crops)
        self._clock.mark(0)
        answer = self._backend.response(exemplar, crops)
        self._clock.mark(1)
        found = self.search.find(answer, known)
        result = torch.stack([answer.isfinite().all().double(), *(v.double() for v in found)])
        self._clock.mark(2)
        finite, *values = fetch(result)
        return Look(
            Found(*values) if finite else None, self._clock.between(0, 1), self._clock.between(1, 2)
        )

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
    """Times on the device's own clock. Marking does not wait; what lies between two marks may be
    asked for once :func:`fetch` has waited."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._events = (
            [torch.cuda.Event(enable_timing=True) for _ in range(3)]
            if device.type == "cuda"
            else None
        )
        self._times = [0.0] * 3

    def mark(self, number: int) -> None:
        if self._events is None:
            self._times[number] = time.perf_counter()
        else:
            self._events[number].record(torch.cuda.current_stream(self._device))

    def between(self, first: int, second: int) -> float:
        """Seconds."""
        if self._events is None:
            return self._times[second] - self._times[first]
        return float(self._events[first].elapsed_time(self._events[second])) / 1e3
