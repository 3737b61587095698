"""How each family looks for its target: the crops it wants, and what it makes of the answer."""

from __future__ import annotations

from typing import NamedTuple, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from siamkd_core.anchors import SQUARE
from siamkd_core.arrays import Array, Scalar, clip
from siamkd_core.locate import locate, scale_factors
from siamkd_core.select_box import select_box
from siamkd_core.siamrpn import HeadConfig
from siamkd_core.tracker_config import RpnTrackerConfig, SearchConfig, TrackerConfig

Sides: TypeAlias = tuple[float, float]
"""Width and height."""


class Known(NamedTuple):
    """What is known of a target before a look at it.

    Attributes:
        size: its width and height in pixels of a crop of factor 1.
        shape: those it was given with, in pixels of the exemplar.
        correction: factors on the widths and heights that the network sees.
    """

    size: Sides
    shape: Sides
    correction: Sides = (1.0, 1.0)


class Found(NamedTuple):
    """Where the target is and how its size changed: scalars of the library that found it.

    Attributes:
        dx, dy: displacement, in pixels of a search crop of factor 1.
        grow_w, grow_h: factors on its width and height.
        value: logit there.
        peak: highest logit.
        seen_w, seen_h: factors on width and height as seen, of which only a share is taken over.
    """

    dx: Scalar
    dy: Scalar
    grow_w: Scalar
    grow_h: Scalar
    value: Scalar
    peak: Scalar
    seen_w: Scalar
    seen_h: Scalar


class Search(Protocol):
    """Attributes:
    corrects: share by which the sizes that the network sees are corrected by those that it sees in
        the first image, see :class:`siamkd_core.tracker_config.RpnTrackerConfig`.
    """

    corrects: float

    def factors(self) -> NDArray[np.float64]:
        """(N,) sides of the crops to look at, relative to that of the search region."""
        ...

    def find(self, answer: Array, known: Known) -> Found:
        """Read the network's answer to those crops.

        Args:
            answer: of :meth:`siamkd_core.backend.Backend.respond`, or the same as a tensor; then
                what is found are tensors on its device, and nothing waits for their values.
            known: of the target.
        """
        ...

    def bound(
        self, growth: tuple[Scalar, Scalar], least: Sides, greatest: Sides
    ) -> tuple[Scalar, Scalar]:
        """Factors on width and height, each within its limits."""
        ...


class ScaleSearch:
    """SiamFC's: a few scales, one growth for both sides."""

    def __init__(self, config: TrackerConfig) -> None:
        self.config, self.corrects = config, 0.0

    def factors(self) -> NDArray[np.float64]:
        return scale_factors(self.config)

    def find(self, answer: Array, known: Known) -> Found:
        place = locate(answer, self.config)
        growth = 1 + self.config.scale_rate * (place.scale - 1)
        dx, dy = place.dx * place.scale, place.dy * place.scale
        seen = place.scale
        return Found(dx, dy, growth, growth, place.value, place.peak, seen, seen)

    def bound(
        self, growth: tuple[Scalar, Scalar], least: Sides, greatest: Sides
    ) -> tuple[Scalar, Scalar]:
        # keeps the aspect ratio
        w, h = (clip(factor, max(least), min(greatest)) for factor in growth)
        return w, h


class AnchorSearch:
    """SiamRPN's: one crop, both sides on their own.

    Args:
        config: the tracker's parameters.
        head: whose anchors these are.
    """

    def __init__(self, config: RpnTrackerConfig, head: HeadConfig | None = None) -> None:
        self.config, self.head = config, head or HeadConfig()
        self.corrects = config.correct_size

    def factors(self) -> NDArray[np.float64]:
        return np.ones(1)

    def find(self, answer: Array, known: Known) -> Found:
        anchor = known.shape if self.head.shaped else None
        if self.head.square:
            anchor = SQUARE, SQUARE
        box = select_box(answer[0], known.size, self.config, anchor, known.correction)
        w, h = known.size
        seen = box.seen_w / w, box.seen_h / h
        return Found(box.dx, box.dy, box.w / w, box.h / h, box.value, box.peak, *seen)

    def bound(
        self, growth: tuple[Scalar, Scalar], least: Sides, greatest: Sides
    ) -> tuple[Scalar, Scalar]:
        w, h = (clip(*one) for one in zip(growth, least, greatest, strict=True))
        return w, h


def search_of(config: SearchConfig, head: HeadConfig | None = None) -> Search:
    """The search that these parameters, and the head of a siamrpn, belong to."""
    if isinstance(config, RpnTrackerConfig):
        return AnchorSearch(config, head)
    assert isinstance(config, TrackerConfig)
    return ScaleSearch(config)
