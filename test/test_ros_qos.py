"""siamkd_ros.qos: who publishes, and what to do about images that do not arrive."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from rclpy.parameter import Parameter
from rclpy.qos import QoSDurabilityPolicy, QoSHistoryPolicy, QoSReliabilityPolicy
from ros_support import PATIENCE, rclpy

from siamkd_ros.image_topic import subscribe_image
from siamkd_ros.qos import describe_publishers, latched, loss_advice, newest_image, silence_advice
from siamkd_ros.statistics import Statistics

LOSSY = replace(Statistics().snapshot(0.0), image_bytes=2_764_800, missing=0.6)


def test_profiles() -> None:
    image, state = newest_image(), latched()
    assert (image.depth, image.reliability) == (1, QoSReliabilityPolicy.BEST_EFFORT)
    assert (state.depth, state.reliability) == (1, QoSReliabilityPolicy.RELIABLE)
    assert image.durability == QoSDurabilityPolicy.VOLATILE
    assert state.durability == QoSDurabilityPolicy.TRANSIENT_LOCAL


@pytest.fixture
def graph() -> Iterator[None]:
    rclpy.init()
    yield
    rclpy.shutdown()


@pytest.mark.parametrize(
    ("policy", "wish", "expected"),
    [
        ("durability", "transient_local", QoSDurabilityPolicy.TRANSIENT_LOCAL),
        ("reliability", "reliable", QoSReliabilityPolicy.RELIABLE),
        ("history", "keep_all", QoSHistoryPolicy.KEEP_ALL),
        ("depth", 7, 7),
    ],
)
def test_a_policy_that_the_docs_name_can_be_overridden(
    graph: None, policy: str, wish: Any, expected: Any
) -> None:
    wished = Parameter(f"qos_overrides./front/image.subscription.{policy}", value=wish)
    node = rclpy.create_node("wishes", namespace="front", parameter_overrides=[wished])
    assert getattr(newest_image(), policy) != expected
    for _ in range(2):  # a node that is deactivated and activated subscribes again
        subscription = subscribe_image(node, "raw", lambda message: None)
        assert getattr(subscription.qos_profile, policy) == expected
        if policy in ("durability", "reliability"):  # the graph tells of no others
            assert getattr(seen_in_the_graph(node), policy) == expected
        node.destroy_subscription(subscription)
    node.destroy_node()


def seen_in_the_graph(node: Any) -> Any:
    """The QoS that the middleware gave the node's subscription."""
    deadline = time.monotonic() + PATIENCE
    while len(found := node.get_subscriptions_info_by_topic("/front/image")) != 1:
        assert time.monotonic() < deadline, found
        time.sleep(0.02)
    return found[0].qos_profile


def test_publishers_in_words() -> None:
    assert describe_publishers("/image", []).startswith("nobody publishes on /image: ")
    info = SimpleNamespace(
        node_name="cam",
        node_namespace="/",
        topic_type="sensor_msgs/msg/CompressedImage",
        qos_profile=newest_image(),
    )
    assert describe_publishers("/image", [info]) == (
        "publishers on /image: /cam (sensor_msgs/msg/CompressedImage, best_effort, volatile)"
    )


@pytest.mark.parametrize(
    ("image_bytes", "received", "missing", "said"),
    [
        (0, 0, 0.0, True),  # none ever came
        (2_764_800, 2, 0.0, True),
        (2_764_800, 100, 0.6, True),
        (2_764_800, 100, 0.0, False),  # a camera that stopped
        (100_000, 2, 0.0, False),
    ],
)
def test_silence_may_be_large_images_of_which_nearly_all_are_lost(
    image_bytes: int, received: int, missing: float, said: bool
) -> None:
    seen = replace(LOSSY, image_bytes=image_bytes, received=received, missing=missing)
    advice = silence_advice(seen, True, "rmw_fastrtps_cpp")
    assert ("FASTRTPS_DEFAULT_PROFILES_FILE" in advice) is said
    assert bool(advice) is said
    assert not silence_advice(seen, False, "rmw_fastrtps_cpp")
    assert not silence_advice(seen, True, "rmw_cyclonedds_cpp")


def test_advice_for_large_images_that_do_not_arrive() -> None:
    text = loss_advice("/image", LOSSY, True, "rmw_fastrtps_cpp")
    assert "60 %" in text
    assert "2.8 MB" in text
    assert "FASTRTPS_DEFAULT_PROFILES_FILE" in text


@pytest.mark.parametrize(
    ("image_bytes", "missing", "best_effort", "rmw"),
    [
        (100_000, 0.6, True, "rmw_fastrtps_cpp"),
        (2_764_800, 0.1, True, "rmw_fastrtps_cpp"),
        (2_764_800, 0.6, False, "rmw_fastrtps_cpp"),
        (2_764_800, 0.6, True, "rmw_cyclonedds_cpp"),
    ],
)
def test_no_advice_where_it_would_be_guessing(
    image_bytes: int, missing: float, best_effort: bool, rmw: str
) -> None:
    snapshot = replace(LOSSY, image_bytes=image_bytes, missing=missing)
    assert loss_advice("/image", snapshot, best_effort, rmw) == ""
