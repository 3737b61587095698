"""From an image to a place: what happens between the tracker's arithmetic and the network.

:class:`HostPipeline` crops with OpenCV and takes any backend. On a GPU, where every copy to the
host waits, :class:`siamkd_core.device_pipeline.DevicePipeline` takes its place.
"""

from __future__ import annotations

import time
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from siamkd_core.backend import Backend
from siamkd_core.crop import Square, crop_square, mean_colour, rotation
from siamkd_core.image import Image
from siamkd_core.likeness import likeness
from siamkd_core.search import Found, Known, Search, search_of
from siamkd_core.siamfc import EXEMPLAR_SIZE
from siamkd_core.siamrpn import HeadConfig
from siamkd_core.tracker_config import SearchConfig


class Look(NamedTuple):
    """What a look at an image gave.

    Attributes:
        found: floats; None if the network's answer was not finite.
        model: seconds in the network.
        post: seconds from its answer to ``found``.
    """

    found: Found | None
    model: float
    post: float


class Pipeline(Protocol):
    """Sees images through crops and a network; holds no target.

    Attributes:
        search: of the model's family.
    """

    search: Search

    def take(self, image: Image) -> Any:
        """(H, W, 3) uint8 BGR -> what the other methods look at. The image must
        not change while that is looked at."""
        ...

    def embed(self, view: Any, square: Square) -> Any:
        """An exemplar of what the square shows."""
        ...

    def likeness(self, exemplar: Any, other: Any) -> float:
        """:func:`siamkd_core.likeness.likeness` of two exemplars of :meth:`embed`, or blends of
        such; waits for the device."""
        ...

    def look(
        self,
        view: Any,
        exemplar: Any,
        square: Square,
        known: Known,
    ) -> Look:
        """Search for an exemplar.

        Args:
            view: of :meth:`take`.
            exemplar: of :meth:`embed`, or a blend of such.
            square: the search region of factor 1, see :meth:`Search.factors`.
            known: of the target.
        """
        ...


class _View(NamedTuple):
    image: Image
    colour: NDArray[np.float64]


class HostPipeline:
    """Crops with OpenCV, places with NumPy, and any backend between them.

    Args:
        backend: runs the network.
        config: of the tracker.
        head: of a siamrpn.
    """

    def __init__(
        self, backend: Backend, config: SearchConfig, head: HeadConfig | None = None
    ) -> None:
        self.search = search_of(config, head)
        self._backend = backend
        # cut into anew at each look
        self._exemplar = _crops(1, EXEMPLAR_SIZE)
        self._crops = _crops(len(self.search.factors()), config.search_size)

    def take(self, image: Image) -> _View:
        return _View(image, mean_colour(image))

    def embed(self, view: _View, square: Square) -> Any:
        return self._backend.embed_exemplar(_crop(view, square, self._exemplar[0]))

    def likeness(self, exemplar: Any, other: Any) -> float:
        return float(likeness(exemplar, other))

    def look(
        self,
        view: _View,
        exemplar: Any,
        square: Square,
        known: Known,
    ) -> Look:
        for factor, crop in zip(self.search.factors(), self._crops, strict=True):
            _crop(view, square._replace(side=square.side * factor), crop)
        start = time.perf_counter()
        answer = self._backend.respond(exemplar, self._crops)
        responded = time.perf_counter()
        found = None
        if np.isfinite(answer).all():
            found = Found(*map(float, self.search.find(answer, known)))
        return Look(found, responded - start, time.perf_counter() - responded)


def _crops(count: int, size: int) -> Image:
    return np.empty((count, size, size, 3), np.uint8)


def _crop(view: _View, square: Square, out: Image) -> Image:
    turned = rotation(square.turn)
    return crop_square(view.image, square[:2], square.side, len(out), view.colour, turned, out)
