"""How each family looks for its target: the crops it wants, and what it makes of the answer."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from siamkd_core.anchors import SQUARE
from siamkd_core.arrays import Array, Scalar
from siamkd_core.locate import locate, scale_factors
from siamkd_core.select_box import select_box
from siamkd_core.siamrpn import HeadConfig
from siamkd_core.tracker_config import RpnTrackerConfig, SearchConfig, TrackerConfig


class Found(NamedTuple):
    """Where the target is and how its size changed: scalars of the library that found it.

    Attributes:
        dx, dy: displacement, in pixels of a search crop of factor 1.
        grow_w, grow_h: factors on its width and height.
        value: logit there.
        peak: highest logit.
    """

    dx: Scalar
    dy: Scalar
    grow_w: Scalar
    grow_h: Scalar
    value: Scalar
    peak: Scalar


class Search(Protocol):
    def factors(self) -> NDArray[np.float64]:
        """(N,) sides of the crops to look at, relative to that of the search region."""
        ...

    def find(self, answer: Array, size: tuple[float, float], shape: tuple[float, float]) -> Found:
        """Read the network's answer to those crops.

        Args:
            answer: of :meth:`siamkd_core.backend.Backend.respond`, or the same as a tensor; then
                what is found are tensors on its device, and nothing waits for their values.
            size: the target's width and height in pixels of a crop of factor 1.
            shape: those it was given with, in pixels of the exemplar.
        """
        ...

    def bound(
        self, growth: NDArray[np.float64], limits: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """(2,) ``growth`` within ``limits``, (2, 2): least and greatest, each of width, height."""
        ...


class ScaleSearch:
    """SiamFC's: a few scales, one growth for both sides."""

    def __init__(self, config: TrackerConfig) -> None:
        self.config = config

    def factors(self) -> NDArray[np.float64]:
        return scale_factors(self.config)

    def find(self, answer: Array, size: tuple[float, float], shape: tuple[float, float]) -> Found:
        place = locate(answer, self.config)
        growth = 1 + self.config.scale_rate * (place.scale - 1)
        dx, dy = place.dx * place.scale, place.dy * place.scale
        return Found(dx, dy, growth, growth, place.value, place.peak)

    def bound(
        self, growth: NDArray[np.float64], limits: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        return np.clip(growth, limits[0].max(), limits[1].min())  # keeps the aspect ratio


class AnchorSearch:
    """SiamRPN's: one crop, both sides on their own.

    Args:
        config: the tracker's parameters.
        head: whose anchors these are.
    """

    def __init__(self, config: RpnTrackerConfig, head: HeadConfig | None = None) -> None:
        self.config, self.head = config, head or HeadConfig()

    def factors(self) -> NDArray[np.float64]:
        return np.ones(1)

    def find(self, answer: Array, size: tuple[float, float], shape: tuple[float, float]) -> Found:
        anchor = shape if self.head.shaped else None
        if self.head.square:
            anchor = SQUARE, SQUARE
        box = select_box(answer[0], size, self.config, anchor)
        grow_w, grow_h = box.w / size[0], box.h / size[1]
        return Found(box.dx, box.dy, grow_w, grow_h, box.value, box.peak)

    def bound(
        self, growth: NDArray[np.float64], limits: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        return np.clip(growth, limits[0], limits[1])


def search_of(config: SearchConfig, head: HeadConfig | None = None) -> Search:
    """The search that these parameters, and the head of a siamrpn, belong to."""
    if isinstance(config, RpnTrackerConfig):
        return AnchorSearch(config, head)
    assert isinstance(config, TrackerConfig)
    return ScaleSearch(config)
