"""The families of networks, by the name that a model card gives them."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from siamkd_core.errors import ConfigError
from siamkd_core.network import SiameseNetwork
from siamkd_core.siamfc import SiamFC
from siamkd_core.siamrpn import HeadConfig, SiamRPN
from siamkd_core.tracker_config import RpnTrackerConfig, TrackerConfig


class Architecture(NamedTuple):
    """Attributes:
    build: widths and name of the backbone, and head -> a network with fresh weights; raises
        ValueError for a backbone or widths and ConfigError for a head that do not fit.
    tracker: its tracker's parameters.
    """

    build: Callable[[tuple[int, ...], str, HeadConfig | None], SiameseNetwork]
    tracker: type[TrackerConfig] | type[RpnTrackerConfig]


def _siamfc(widths: tuple[int, ...], backbone: str, head: HeadConfig | None) -> SiameseNetwork:
    if head is not None:
        raise ConfigError("a siamfc has no head: leave head out")
    return SiamFC(widths, backbone)


def _siamrpn(widths: tuple[int, ...], backbone: str, head: HeadConfig | None) -> SiameseNetwork:
    if head is None:
        raise ConfigError("a siamrpn needs a head, such as {kind: depthwise, width: 64}")
    return SiamRPN(widths, head, backbone)


ARCHITECTURES = {
    "siamfc": Architecture(_siamfc, TrackerConfig),
    "siamrpn": Architecture(_siamrpn, RpnTrackerConfig),
}


def architecture(name: str) -> Architecture:
    """The family of a name.

    Raises:
        ConfigError: lists the names.
    """
    if name not in ARCHITECTURES:
        known = ", ".join(ARCHITECTURES)
        raise ConfigError(f"unknown architecture {name!r}; known: {known}")
    return ARCHITECTURES[name]
