"""Layers that do not learn, or keep their statistics, for the first epochs, by module names."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from siamkd_core.errors import ConfigError


@dataclass(frozen=True)
class FreezeConfig:
    """One phase.

    Attributes:
        layers: module names, such as ``backbone.0``; everything below them is meant too.
        until_epoch: the first epoch, counted from 0, in which they learn.
        statistics_only: their weights learn all the same; only BatchNorm uses, and keeps, the
            statistics it has. Small batches would spoil those of a pretrained backbone.
    """

    layers: tuple[str, ...]
    until_epoch: int
    statistics_only: bool = False

    def __post_init__(self) -> None:
        if not self.layers or self.until_epoch < 1:
            raise ConfigError("a freeze phase needs layers and until_epoch >= 1")


class Frozen(NamedTuple):
    """Names of modules: what takes no gradient, and what keeps its BatchNorm statistics."""

    weights: frozenset[str]
    statistics: frozenset[str]


def frozen_layers(phases: Sequence[FreezeConfig], epoch: int) -> Frozen:
    """What is frozen in this epoch."""
    now = [phase for phase in phases if epoch < phase.until_epoch]
    return Frozen(
        frozenset(name for p in now if not p.statistics_only for name in p.layers),
        frozenset(name for p in now for name in p.layers),
    )


def check_layers(networks: nn.ModuleDict, phases: Sequence[FreezeConfig]) -> None:
    """Raise ConfigError if a name is in no network, or if nothing is left to learn at first."""
    known = {name for network in networks.values() for name, _ in network.named_modules() if name}
    unknown = sorted({name for phase in phases for name in phase.layers} - known)
    if unknown:
        raise ConfigError(
            f"freeze: no layer {', '.join(unknown)}; there are: {', '.join(sorted(known))}"
        )
    first = frozen_layers(phases, 0).weights
    for network in networks.values():
        if all(_below(name, first) for name, _ in network.named_parameters()):
            raise ConfigError("freeze: no layer is left to learn")


def set_training(networks: nn.ModuleDict, frozen: Frozen) -> None:
    """Training mode for all but the frozen layers."""
    networks.train()
    for network in networks.values():
        for name, parameter in network.named_parameters():
            parameter.requires_grad_(not _below(name, frozen.weights))
        for name, module in network.named_modules():
            if name in frozen.statistics:
                module.eval()


def _below(name: str, layers: frozenset[str]) -> bool:
    """Whether a parameter's or module's dotted name is one of the layers or inside one."""
    parts = name.split(".")
    return any(".".join(parts[:n]) in layers for n in range(1, len(parts) + 1))


@contextmanager
def settled(network: nn.Module) -> Iterator[None]:
    """The BatchNorms of ``network`` with their running statistics, unchanged, as in evaluation."""
    learning = [m for m in network.modules() if isinstance(m, _BatchNorm) and m.training]
    for module in learning:
        module.eval()
    try:
        yield
    finally:
        for module in learning:
            module.train()
