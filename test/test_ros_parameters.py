"""siamkd_ros.parameters: declarations, config/tracker.yaml and the README say the same."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from siamkd_core.errors import ConfigError
from siamkd_ros.frame import SECOND, Frame, FrameRing
from siamkd_ros.parameter_spec import (
    ParameterSet,
    declare,
    markdown_table,
    specs,
    updated,
    watch,
)
from siamkd_ros.parameters import (
    NODES,
    CameraParameters,
    PickerParameters,
    TrackerParameters,
)

ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize("name", NODES)
def test_the_shipped_yaml_is_the_defaults(name: str) -> None:
    shipped = yaml.safe_load((ROOT / "config/tracker.yaml").read_text())
    values = shipped[f"/**/{name}"]["ros__parameters"]
    assert values == asdict(NODES[name]())
    # rclpy refuses an int where a double was declared
    types = {key: type(value) for key, value in asdict(NODES[name]()).items()}
    assert {key: type(value) for key, value in values.items()} == types


@pytest.mark.parametrize("name", NODES)
def test_the_readme_holds_the_table(name: str) -> None:
    readme = (ROOT / "README.md").read_text()
    assert markdown_table(NODES[name]) in readme, "run python -m siamkd_ros.parameters"


@pytest.mark.parametrize("kind", NODES.values())
def test_every_parameter_is_described_and_bounded(kind: type[ParameterSet]) -> None:
    for name, spec in specs(kind).items():
        assert len(spec.description) > 15, name
        if isinstance(getattr(kind(), name), float) or spec.unit:
            assert spec.low is not None, name
            assert spec.high is not None, name


def test_changes_are_checked_as_a_whole() -> None:
    now = TrackerParameters()
    changed = updated(now, {"tracking_score": 0.2, "uncertain_score": 0.1, "use_sim_time": True})
    assert changed == replace(now, tracking_score=0.2, uncertain_score=0.1)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"tracking_score": 0.1}, "uncertain_score <= tracking_score"),
        ({"tracking_score": 1.5}, "0 to 1"),
        ({"tracking_score": 1}, "type float"),
        ({"tracking_score": float("nan")}, "0 to 1"),
        ({"ring_megabytes": -1}, "0 to 8192 MB"),
        ({"ring_megabytes": True}, "type int"),
        ({"model": "other"}, "read-only"),
        ({"threads": 2}, "read-only"),
    ],
)
def test_a_wrong_change_is_refused_in_words(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        updated(TrackerParameters(), changes)


@pytest.mark.parametrize(
    "wrong",
    [{"device": "gpu"}, {"device": "cuda:"}, {"precision": "fp8"}, {"threads": 1000}],
)
def test_wrong_start_up_values_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        TrackerParameters(**wrong)


def test_camera_size_is_both_or_none() -> None:
    assert CameraParameters(width=640, height=480).width == 640
    with pytest.raises(ConfigError, match="go together"):
        CameraParameters(width=640)


@pytest.mark.parametrize("size", [(640, 480), (1280, 720)])
def test_a_second_corner_that_the_picker_takes_is_on_an_image_that_the_tracker_has(
    size: tuple[int, int],
) -> None:
    """Raw images in colour at 30 Hz; half a second is for the way and for a tracker at work."""
    tracker, picker = TrackerParameters(), PickerParameters()
    ring = FrameRing(tracker.ring_seconds, tracker.ring_megabytes * 1_000_000)
    message = SimpleNamespace(data=range(3 * size[0] * size[1]))
    now = 0.0
    for n in range(300):
        now = n / 30
        ring.append(Frame(n, round((100 + now) * SECOND), now, message, size))
    clicked_on = 100 + now - 0.5 - picker.patience - 1 / picker.rate
    found = ring.find(round(clicked_on * SECOND))
    assert found is not None
    assert abs(found.stamp / SECOND - clicked_on) < 1 / 30


class Holder:
    """A bare node with the parameters, as the tracker node holds them."""

    def __init__(self, overrides: dict[str, Any] | None = None) -> None:
        from rclpy.node import Node
        from rclpy.parameter import Parameter

        given = [Parameter(name, value=value) for name, value in (overrides or {}).items()]
        self.node = Node("holder", parameter_overrides=given, start_parameter_services=False)
        try:
            self.values = declare(self.node, TrackerParameters)
        except ConfigError:
            self.node.destroy_node()
            raise
        watch(self.node, lambda: self.values, self.take)

    def take(self, values: TrackerParameters) -> None:
        self.values = values

    def set(self, **changes: Any) -> Any:
        from rclpy.parameter import Parameter

        return self.node.set_parameters_atomically(
            [Parameter(name, value=value) for name, value in changes.items()]
        )


@pytest.fixture
def ros() -> Iterator[None]:
    rclpy = pytest.importorskip("rclpy", reason="needs ROS 2 (rclpy)")
    rclpy.init()
    yield
    rclpy.shutdown()


@pytest.mark.usefixtures("ros")
def test_declared_on_a_real_node_with_range_and_description() -> None:
    holder = Holder({"lost_after": 2.5})
    assert holder.values == TrackerParameters(lost_after=2.5)
    for name, spec in specs(TrackerParameters).items():
        descriptor = holder.node.describe_parameter(name)
        assert descriptor.description.startswith(spec.description)
        assert descriptor.read_only == spec.read_only
        ranges = [*descriptor.floating_point_range, *descriptor.integer_range]
        assert [(r.from_value, r.to_value) for r in ranges] == (
            [] if spec.low is None else [(spec.low, spec.high)]
        )
    holder.node.destroy_node()


@pytest.mark.usefixtures("ros")
def test_live_changes_on_a_real_node_are_atomic() -> None:
    holder = Holder()
    assert holder.set(uncertain_score=0.1, tracking_score=0.2).successful
    assert holder.values == TrackerParameters(uncertain_score=0.1, tracking_score=0.2)
    kept = holder.values
    for wrong in (
        {"uncertain_score": 0.15, "tracking_score": 0.1},
        {"lost_after": 2.0, "image_timeout": 99.0},
        {"lost_after": 2.0, "model": "other"},
        {"lost_after": 2},
    ):
        result = holder.set(**wrong)
        assert not result.successful
        assert result.reason
        assert holder.values == kept
        assert holder.node.get_parameter("lost_after").value == kept.lost_after
    holder.node.destroy_node()


@pytest.mark.usefixtures("ros")
@pytest.mark.parametrize(
    "wrong", [{"lost_after": 1}, {"lost_after": 99.0}, {"device": "gpu"}, {"uncertain_score": 0.9}]
)
def test_a_wrong_start_up_value_is_an_error_for_the_user(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        Holder(wrong)
