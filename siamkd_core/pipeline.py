"""From an image to a place: what happens between the tracker's arithmetic and the network.

:class:`HostPipeline` crops with OpenCV and takes any backend. On a GPU, where every copy to the
host waits, :class:`siamkd_core.device_pipeline.DevicePipeline` takes its place.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from siamkd_core.backend import Backend
from siamkd_core.crop import Square, crop_square, mean_colour, rotation
from siamkd_core.image import Image
from siamkd_core.likeness import likeness
from siamkd_core.pose import Pose, moved
from siamkd_core.search import Found, Known, Search, Sides, search_of
from siamkd_core.siamfc import EXEMPLAR_SIZE
from siamkd_core.siamrpn import HeadConfig
from siamkd_core.tracker_config import SearchConfig


class Sought(NamedTuple):
    """What is looked for.

    Attributes:
        exemplar: of :meth:`Pipeline.embed`, or a blend of such.
        shape, correction: see :class:`siamkd_core.search.Known`.
        first: exemplar that what is found is compared with, in a second look; None: there is none.
    """

    exemplar: Any
    shape: Sides
    correction: Sides = (1.0, 1.0)
    first: Any = None

    def known(self, pose: Pose, pixel: float) -> Known:
        """Of a target in this pose, where a search pixel is ``pixel`` of the image's."""
        return Known((pose.w / pixel, pose.h / pixel), self.shape, self.correction)


class Look(NamedTuple):
    """What a look at an image gave.

    Attributes:
        found: floats; None if the network's answer was not finite.
        pose: where the target is then, floats; without ``found`` of no meaning.
        alike: :func:`siamkd_core.likeness.likeness` of what is there, of the second look; without
            one None.
        seen: the exemplar of what is there, of the second look.
        model: seconds in the network.
        post: seconds from its answer to ``pose``.
        verify: seconds of the second look.
    """

    found: Found | None
    pose: Pose
    alike: float | None = None
    seen: Any = None
    model: float = 0.0
    post: float = 0.0
    verify: float = 0.0


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

    def look(self, view: Any, sought: Sought, poses: Sequence[Pose]) -> list[Look]:
        """Search around each of these poses; a device is asked for all of them before one is waited
        for.

        Args:
            view: of :meth:`take`.
            sought: what is looked for.
            poses: of the target before, floats.
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

    def look(self, view: _View, sought: Sought, poses: Sequence[Pose]) -> list[Look]:
        return [self._look(view, sought, pose) for pose in poses]

    def _look(self, view: _View, sought: Sought, pose: Pose) -> Look:
        region = pose.region(len(self._crops[0]))
        pixel = region.side / len(self._crops[0])
        for factor, crop in zip(self.search.factors(), self._crops, strict=True):
            _crop(view, region._replace(side=region.side * factor), crop)
        start = time.perf_counter()
        answer = self._backend.respond(sought.exemplar, self._crops)
        responded = time.perf_counter()
        if not np.isfinite(answer).all():
            return Look(None, pose, model=responded - start)
        found = Found(*map(float, self.search.find(answer, sought.known(pose, pixel))))
        height, width = view.image.shape[:2]
        now = moved(pose, found, self.search, pixel, (width, height))
        located = time.perf_counter()
        alike = seen = None
        if sought.first is not None:
            seen = self.embed(view, now.exemplar())
            alike = self.likeness(sought.first, seen)
        verified = time.perf_counter()
        spent = responded - start, located - responded, verified - located
        return Look(found, now, alike, seen, *spent)


def _crops(count: int, size: int) -> Image:
    return np.empty((count, size, size, 3), np.uint8)


def _crop(view: _View, square: Square, out: Image) -> Image:
    turned = rotation(square.turn)
    return crop_square(view.image, square[:2], square.side, len(out), view.colour, turned, out)
