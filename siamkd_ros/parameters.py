"""Every parameter of the nodes, declared once: default, description, unit, range, read-only.

    python -m siamkd_ros.parameters     prints the README's tables

The two frozen dataclasses are what the nodes read. ROS declarations, config/tracker.yaml and the
README's tables follow from their fields, and a test holds them together.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, TypeVar

from siamkd_core.errors import ConfigError
from siamkd_core.presence import PresenceConfig

DEVICE = re.compile(r"auto|cpu|cuda(:\d+)?")


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


def _parameter(default: Any, description: str, **rest: Any) -> Any:
    return field(default=default, metadata={"spec": Spec(description, **rest)})


@dataclass(frozen=True)
class TrackerParameters:
    """Parameters of the node `tracker`. Raises ConfigError for a value out of range."""

    model: str = _parameter(
        "siamfc_half",
        "Shipped model name, or path of a .safetensors file with its .json card beside it",
        read_only=True,
    )
    device: str = _parameter(
        "auto",
        "Where the model runs: auto (CUDA if there is one), cpu, cuda or cuda:N",
        read_only=True,
    )
    precision: str = _parameter(
        "auto",
        "Number format of the model",
        choices=("auto", "float32", "bfloat16", "float16"),
        read_only=True,
    )
    threads: int = _parameter(
        0, "CPU threads of the model; 0 leaves it to PyTorch", low=0, high=256, read_only=True
    )
    uncertain_score: float = _parameter(
        PresenceConfig.uncertain_score,
        "Below this score the target is uncertain, and after lost_after lost",
        low=0.0,
        high=1.0,
    )
    tracking_score: float = _parameter(
        PresenceConfig.tracking_score,
        "From this score on an uncertain target is tracked again",
        low=0.0,
        high=1.0,
    )
    recover_score: float = _parameter(
        PresenceConfig.recover_score,
        "From this score on, for recover_after, a lost target is taken back",
        low=0.0,
        high=1.0,
    )
    lost_after: float = _parameter(
        PresenceConfig.lost_after,
        "Video time with a score below uncertain_score until the target is lost",
        unit="s",
        low=0.0,
        high=60.0,
    )
    recover_after: float = _parameter(
        PresenceConfig.recover_after,
        "Video time with a score of recover_score or more until a lost target is tracked again",
        unit="s",
        low=0.0,
        high=60.0,
    )
    ring_seconds: float = _parameter(
        2.0,
        "How long frames are kept, so that a box can be given for the frame it was drawn on",
        unit="s",
        low=0.0,
        high=30.0,
    )
    ring_megabytes: int = _parameter(
        128,
        "Memory limit of the kept frames; the newest is always kept",
        unit="MB",
        low=0,
        high=8192,
    )
    image_timeout: float = _parameter(
        1.0,
        "Without an image for this long, /diagnostics says so and what the publishers offer",
        unit="s",
        low=0.1,
        high=60.0,
    )
    latency_deadline: float = _parameter(
        0.1,
        "Latency from image stamp to published box above which a frame counts as a deadline miss",
        unit="s",
        low=0.001,
        high=10.0,
    )

    def __post_init__(self) -> None:
        _check(self)
        if not DEVICE.fullmatch(self.device):
            raise ConfigError(f"device is {self.device!r}; use auto, cpu, cuda or cuda:N")
        _ = self.presence

    @property
    def presence(self) -> PresenceConfig:
        return PresenceConfig(
            uncertain_score=self.uncertain_score,
            tracking_score=self.tracking_score,
            recover_score=self.recover_score,
            lost_after=self.lost_after,
            recover_after=self.recover_after,
        )


@dataclass(frozen=True)
class CameraParameters:
    """Parameters of the node `camera`. Raises ConfigError for a value out of range."""

    source: str = _parameter(
        "", "Video file, folder of images, /dev/videoN or a webcam's number", read_only=True
    )
    rate: float = _parameter(
        0.0,
        "Images per second; 0 is the source's own rate, or 30 where it states none",
        unit="Hz",
        low=0.0,
        high=1000.0,
        read_only=True,
    )
    loop: bool = _parameter(
        False, "Start again at the end; otherwise the node exits with code 0", read_only=True
    )
    wait_for_subscribers: int = _parameter(
        0,
        "Hold the first image back until this many subscribe; 0 does not wait",
        low=0,
        high=100,
        read_only=True,
    )
    frame_id: str = _parameter("camera", "Header frame_id of the images", read_only=True)
    width: int = _parameter(
        0,
        "Resize to this width; 0 keeps the source's",
        unit="px",
        low=0,
        high=16384,
        read_only=True,
    )
    height: int = _parameter(
        0,
        "Resize to this height; 0 keeps the source's",
        unit="px",
        low=0,
        high=16384,
        read_only=True,
    )
    reliability: str = _parameter(
        "reliable",
        "QoS reliability of the image publisher",
        choices=("reliable", "best_effort"),
        read_only=True,
    )
    depth: int = _parameter(
        5, "QoS history depth of the image publisher", low=1, high=1000, read_only=True
    )

    def __post_init__(self) -> None:
        _check(self)
        if (self.width == 0) != (self.height == 0):
            raise ConfigError("width and height go together: give both, or 0 for both")


NODES: dict[str, type[TrackerParameters | CameraParameters]] = {
    "tracker": TrackerParameters,
    "camera": CameraParameters,
}
Parameters = TypeVar("Parameters", TrackerParameters, CameraParameters)


def specs(kind: type[TrackerParameters | CameraParameters]) -> dict[str, Spec]:
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


def markdown_table(kind: type[TrackerParameters | CameraParameters]) -> str:
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


def _check(values: TrackerParameters | CameraParameters) -> None:
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


def main() -> None:
    for name, kind in NODES.items():
        print(f"### `{name}`\n\n{markdown_table(kind)}\n")


if __name__ == "__main__":
    main()
