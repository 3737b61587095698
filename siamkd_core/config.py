"""Frozen dataclasses from YAML or JSON; an unknown key or a wrong type is an error."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, TypeVar

import dacite
import yaml

from siamkd_core.errors import ConfigError

T = TypeVar("T")


def from_mapping(cls: type[T], values: object, where: str) -> T:
    """Build the dataclass ``cls`` from nested plain values.

    Args:
        cls: a dataclass, whose ``__post_init__`` may raise ConfigError for a value out of range.
        values: a mapping, as YAML and JSON give it (lists become tuples, whole numbers floats).
        where: the file or place named in errors.

    Raises:
        ConfigError: not a mapping, unknown key, missing key, wrong type or value out of range.
    """
    if not isinstance(values, dict):
        raise ConfigError(f"{where}: expected keys and values, got {type(values).__name__}")
    settings = dacite.Config(strict=True, cast=[tuple], type_hooks={float: _to_float})
    try:
        return dacite.from_dict(cls, values, settings)  # type: ignore[type-var]
    except dacite.UnexpectedDataError as error:
        raise ConfigError(f"{where}: unknown key {_names(error.keys)}") from error
    except dacite.DaciteError as error:
        raise ConfigError(f"{where}: {error}") from error
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from error


def load_yaml(cls: type[T], path: str | Path) -> T:
    """Read a YAML file into the dataclass ``cls``; see :func:`from_mapping`."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"cannot read the configuration {path}: {error.strerror}") from error
    try:
        values = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"{path} is not YAML: {error}") from error
    return from_mapping(cls, {} if values is None else values, str(path))


def to_mapping(config: Any) -> dict[str, Any]:
    """A dataclass as nested dicts and lists, the inverse of :func:`from_mapping`."""
    return {name: _plain(value) for name, value in dataclasses.asdict(config).items()}


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    return value


class Truth(str):
    """True or False, where a number is expected."""


def _to_float(value: object) -> object:
    # YAML reads 1e-2 as text (it wants 1.0e-2). What is no number stays, so that dacite's error
    # names the key; a bool is an int in Python and for dacite a number.
    if isinstance(value, bool):
        return Truth(value)
    if not isinstance(value, int | float | str):
        return value
    try:
        return float(value)
    except ValueError:
        return value


def _names(keys: set[str]) -> str:
    return ", ".join(repr(k) for k in sorted(keys))
