"""config/sros2_policy.xml: it allows the nodes what they use, and nothing they do not know."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from rclpy.parameter import Parameter
from ros_support import ROOT, rclpy, tiny_model

pytest.importorskip("visualization_msgs", reason="needs ROS 2's visualization_msgs")

from siamkd_core.tracker import load_tracker
from siamkd_ros.box_picker_node import BoxPickerNode
from siamkd_ros.tracker_node import TrackerNode

PATIENCE = 20.0
# What a node has or has not by its parameters, or by the version of ROS
OPTIONAL = {
    *("/image", "/image/compressed", "/clock"),
    *("/get_type_description", "/get_transition_graph"),
}


def allowed(node: str, kind: str, right: str) -> set[str]:
    """Full names that the policy allows a node."""
    root = ElementTree.parse(ROOT / "config/sros2_policy.xml").getroot()
    found = root.findall(f".//profile[@node='{node}']/{kind}s[@{right}='ALLOW']/{kind}")
    names = [str(item.text) for item in found]
    return {f"/{node}/{name[2:]}" if name.startswith("~/") else f"/{name}" for name in names}


def without_optional(names: set[str]) -> set[str]:
    return {name for name in names if not name.endswith(tuple(OPTIONAL))}


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[list[Any]]:
    rclpy.init()
    bearing = [Parameter("bearing", value=True)]
    tracker = TrackerNode(load_tracker(tiny_model(tmp_path), "cpu"), parameter_overrides=bearing)
    made = [tracker, BoxPickerNode()]
    yield made
    for node in made:
        node.close()
        node.destroy_node()
    rclpy.shutdown()


def used(node: Any) -> dict[tuple[str, str], set[str]]:
    """What the graph knows of a node's topics and services."""
    name = node.get_name()
    listed = {
        ("topic", "publish"): node.get_publisher_names_and_types_by_node(name, "/"),
        ("topic", "subscribe"): node.get_subscriber_names_and_types_by_node(name, "/"),
        ("service", "reply"): node.get_service_names_and_types_by_node(name, "/"),
    }
    return {
        right: without_optional({topic for topic, _ in pairs}) for right, pairs in listed.items()
    }


def test_the_policy_is_what_the_nodes_use(nodes: list[Any]) -> None:
    for node in nodes:
        expected = {
            right: without_optional(allowed(node.get_name(), *right)) for right in used(node)
        }
        deadline = time.monotonic() + PATIENCE
        # the graph comes to know a node bit by bit
        while used(node) != expected and time.monotonic() < deadline:
            time.sleep(0.1)
        assert used(node) == expected


def test_only_the_picker_may_give_a_target() -> None:
    root = ElementTree.parse(ROOT / "config/sros2_policy.xml").getroot()
    giving = [
        str(profile.get("node"))
        for profile in root.iter("profile")
        if "/tracker/init" in allowed(str(profile.get("node")), "topic", "publish")
    ]
    assert giving == ["box_picker"]
