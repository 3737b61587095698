"""A checkpoint: one file with all that decides how a run goes on, written whole or not at all."""

from __future__ import annotations

import io
import pickle
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from siamkd_core.config import from_mapping, to_mapping
from siamkd_core.engine_config import NEUTRAL, EngineConfig
from siamkd_core.errors import ConfigError, SiamkdError
from siamkd_core.modelfile import write_atomically

LAST, BEST = "checkpoint.pt", "best.pt"
FORMAT = 2
"""Of the file; raised when an older one can no longer be read."""


@dataclass
class Best:
    """A network's best epoch so far.

    Attributes:
        epoch: counted from 1.
        score: None where epochs are not scored; then the latest is the best.
        weights: on the CPU.
    """

    epoch: int
    score: float | None
    weights: dict[str, Tensor]


@dataclass
class RunState:
    """How far a run is.

    Attributes:
        step: number of finished steps.
        totals: sums of the losses over the finished steps of the current epoch.
        history: one row of figures per finished epoch.
        best: by network.
    """

    step: int = 0
    totals: dict[str, float] = field(default_factory=dict)
    history: list[dict[str, float]] = field(default_factory=list)
    best: dict[str, Best] = field(default_factory=dict)


def save_checkpoint(
    folder: Path,
    config: EngineConfig,
    setting: Mapping[str, str],
    run: RunState,
    learner: Mapping[str, Any],
) -> None:
    """Replace the checkpoint; whatever goes wrong, the one before it stays as it was.

    Args:
        folder: of the run.
        config, setting: of the run, see :func:`load_checkpoint`.
        run: how far it is; random numbers need no record, since every step starts its own
            from the seed.
        learner: ``state_dict`` of the learner.

    Raises:
        SiamkdError: a weight that is not finite.
        OSError: not written.
    """
    broken = _first_not_finite(learner)
    if broken:
        raise SiamkdError(
            f"{broken} is not finite after step {run.step}; the checkpoint in {folder} is of "
            "an earlier step and intact: lower lr or set clip_norm, and start again"
        )
    state = {
        "format": FORMAT,
        "config": to_mapping(config),
        "setting": dict(setting),
        "learner": dict(learner),
    }
    _write(folder / LAST, state | {"run": vars(run) | {"best": _plain(run.best)}})


def save_best(folder: Path, config: EngineConfig, best: Mapping[str, Best]) -> None:
    """Write the weights of each network's best epoch, to look at: nothing is resumed from them."""
    _write(folder / BEST, {"config": to_mapping(config), "best": _plain(best)})


def load_checkpoint(
    folder: Path, config: EngineConfig, setting: Mapping[str, str]
) -> tuple[RunState, dict[str, Any]] | None:
    """State of the run and of the learner, on the CPU; None where no run was begun.

    Args:
        folder: of the run.
        config: of the run; only keys in :data:`siamkd_core.engine_config.NEUTRAL` may have changed.
        setting: what else decides how the run goes on, by its name in an error; of a finished run
            it does not matter any more.

    Raises:
        SiamkdError: a damaged file, one of another version of this package, or of another
            configuration or setting.
    """
    path = folder / LAST
    if not path.is_file():
        return None
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise SiamkdError(f"{path} cannot be read: {error}; remove it to start again") from error
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        raise SiamkdError(
            f"{path} was written by another version of siamkd; finish that run with it, or choose "
            "another --output"
        )
    try:
        stored = from_mapping(type(config), state["config"], "its recipe")
    except ConfigError as error:
        raise SiamkdError(
            f"{path} belongs to a run of another kind ({error}); choose another --output"
        ) from error
    _refuse_changes(path, stored, config)
    run = RunState(**state["run"])
    run.best = {name: Best(**best) for name, best in state["run"]["best"].items()}
    if run.step < config.steps:
        _refuse_settings(path, state.get("setting", {}), setting)
    return run, state["learner"]


def _refuse_changes(path: Path, stored: EngineConfig, config: EngineConfig) -> None:
    before, now = to_mapping(stored), to_mapping(config)
    changed = [key for key in now if now[key] != before[key] and key not in NEUTRAL]
    if changed:
        raise SiamkdError(
            f"{path} belongs to another configuration (changed: {', '.join(changed)}); "
            "choose another --output, or restore the configuration to resume"
        )


def _refuse_settings(path: Path, before: Mapping[str, str], now: Mapping[str, str]) -> None:
    # a checkpoint of before they were written down has none of them
    for name, value in before.items():
        found = now.get(name, "none")
        if value != found:
            raise SiamkdError(
                f"{path} belongs to a run with another {name}: {value}, now {found}; go on with "
                "that one (--precision, start_from), or choose another --output"
            )


def _plain(best: Mapping[str, Best]) -> dict[str, Any]:
    return {name: vars(one) for name, one in best.items()}


def _write(path: Path, state: Mapping[str, Any]) -> None:
    # Through memory: a full disk then is an OSError of a plain write, and there is one way to
    # replace a file.
    buffer = io.BytesIO()
    torch.save(state, buffer)
    write_atomically(path, buffer.getbuffer())


def _first_not_finite(state: Any, name: str = "") -> str:
    """Dotted name of the first tensor with a value that is not finite; empty if there is none."""
    if isinstance(state, Tensor):
        return "" if bool(torch.isfinite(state).all()) else name
    if isinstance(state, Mapping):
        for key, value in state.items():
            found = _first_not_finite(value, f"{name}.{key}" if name else str(key))
            if found:
                return found
    return ""
