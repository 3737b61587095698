"""How a parameter is declared, checked, changed while the node runs, and listed.

A node's parameters are the fields of one frozen dataclass; each field carries a `Spec`. ROS
declarations, config/tracker.yaml and the README's tables follow from these, and a test holds them
together.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, TypeVar

from siamkd_core.errors import ConfigError


@dataclass(frozen=True)
class ParameterSet:
    """What a node's parameters derive from. Raises ConfigError for a value out of range."""

    def __post_init__(self) -> None:
        check(self)


Parameters = TypeVar("Parameters", bound=ParameterSet)


@dataclass(frozen=True)
class Spec:
    """What a parameter means and may be. `low` and `high` are inclusive."""

    description: str
    unit: str = ""
    low: float | None = None
    high: float | None = None
    choices: tuple[str, ...] = ()
    read_only: bool = False

    @property
    def constraint(self) -> str:
        """The range in words, for tables and error messages; empty if anything goes."""
        if self.choices:
            return ", ".join(choice or '""' for choice in self.choices)
        return "" if self.low is None or self.high is None else f"{self.low:g} to {self.high:g}"


def parameter(default: Any, description: str, **rest: Any) -> Any:
    """A field of a `ParameterSet`; `rest` as in `Spec`."""
    return field(default=default, metadata={"spec": Spec(description, **rest)})


def specs(kind: type[ParameterSet]) -> dict[str, Spec]:
    """Parameter name to what it means, in the order of declaration."""
    return {item.name: item.metadata["spec"] for item in fields(kind)}


def updated(current: Parameters, changes: Mapping[str, Any]) -> Parameters:
    """`current` with changes; names that are no parameter of ours (use_sim_time, QoS) are left out.

    Raises:
        ConfigError: wrong type, out of range, or read-only.
    """
    known = specs(type(current))
    ours = {name: value for name, value in changes.items() if name in known}
    for name, value in ours.items():
        if known[name].read_only and value != getattr(current, name):
            raise ConfigError(f"{name} is read-only: set it at start-up and restart the node")
    return replace(current, **ours)


def declare(node: Any, kind: type[Parameters]) -> Parameters:
    """Declare all parameters of `kind` on a rclpy node and return their start-up values.

    Raises:
        ConfigError: a start-up value has the wrong type or is out of range.
    """
    from rclpy.exceptions import (
        InvalidParameterTypeException,
        InvalidParameterValueException,
    )

    defaults = kind()
    values: dict[str, Any] = {}
    for name, spec in specs(kind).items():
        default = getattr(defaults, name)
        try:
            declared = node.declare_parameter(name, default, _descriptor(spec, default))
        except (InvalidParameterTypeException, InvalidParameterValueException) as error:
            wanted = spec.constraint and f", {spec.constraint}"
            raise ConfigError(
                f"parameter {name} must be {type(default).__name__}{wanted}: {error}"
            ) from error
        values[name] = declared.value
    return kind(**values)


def watch(node: Any, read: Callable[[], Parameters], write: Callable[[Parameters], None]) -> None:
    """Validate every later change as a whole, then hand the new values over in one piece."""
    from rcl_interfaces.msg import SetParametersResult

    # Humble has no callback after the fact; there, range and type were checked before this one
    applies_after = hasattr(node, "add_post_set_parameters_callback")

    def apply(changes: list[Any]) -> None:
        write(updated(read(), {change.name: change.value for change in changes}))

    def validate(changes: list[Any]) -> SetParametersResult:
        try:
            updated(read(), {change.name: change.value for change in changes})
        except ConfigError as error:
            return SetParametersResult(successful=False, reason=str(error))
        if not applies_after:
            apply(changes)
        return SetParametersResult(successful=True)

    node.add_on_set_parameters_callback(validate)
    if applies_after:
        node.add_post_set_parameters_callback(apply)


def markdown_table(kind: type[ParameterSet]) -> str:
    """The README's table of a node's parameters."""
    defaults = kind()
    lines = ["| parameter | default | unit | range | live | meaning |", "|---|---|---|---|---|---|"]
    for name, spec in specs(kind).items():
        default = getattr(defaults, name)
        shown = json.dumps(default) if isinstance(default, bool) or default == "" else default
        live = "" if spec.read_only else "yes"
        cells = (f"`{name}`", shown, spec.unit, spec.constraint, live, spec.description)
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines)


def _descriptor(spec: Spec, default: Any) -> Any:
    from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor

    descriptor = ParameterDescriptor(
        description=spec.description + (f" [{spec.unit}]" if spec.unit else ""),
        additional_constraints=spec.constraint if spec.choices else "",
        read_only=spec.read_only,
    )
    if spec.low is not None and spec.high is not None:
        if isinstance(default, float):
            limits = FloatingPointRange(from_value=spec.low, to_value=spec.high)
            descriptor.floating_point_range.append(limits)
        else:
            steps = IntegerRange(from_value=int(spec.low), to_value=int(spec.high), step=1)
            descriptor.integer_range.append(steps)
    return descriptor


def check(values: ParameterSet) -> None:
    for item in fields(values):
        spec: Spec = item.metadata["spec"]
        value: Any = getattr(values, item.name)
        wanted: type[Any] = type(item.default)
        if type(value) is not wanted:
            raise ConfigError(f"{item.name} is {value!r}; it must be of type {wanted.__name__}")
        if spec.choices and value not in spec.choices:
            raise ConfigError(f"{item.name} is {value!r}; use one of {spec.constraint}")
        if spec.low is None or spec.high is None:
            continue
        if not (math.isfinite(value) and spec.low <= value <= spec.high):
            unit = spec.unit and f" {spec.unit}"
            raise ConfigError(f"{item.name} is {value:g}; it must be {spec.constraint}{unit}")
