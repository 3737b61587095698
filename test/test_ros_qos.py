"""siamkd_ros.qos: who publishes, and what to do about images that do not arrive."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest
import ros_support  # noqa: F401  (skips this module where ROS is missing)
from rclpy.qos import QoSDurabilityPolicy, QoSReliabilityPolicy

from siamkd_ros.qos import describe_publishers, latched, loss_advice, newest_image
from siamkd_ros.statistics import Statistics

LOSSY = replace(Statistics().snapshot(0.0), image_bytes=2_764_800, missing=0.6)


def test_profiles() -> None:
    image, state = newest_image(), latched()
    assert (image.depth, image.reliability) == (1, QoSReliabilityPolicy.BEST_EFFORT)
    assert (state.depth, state.reliability) == (1, QoSReliabilityPolicy.RELIABLE)
    assert image.durability == QoSDurabilityPolicy.VOLATILE
    assert state.durability == QoSDurabilityPolicy.TRANSIENT_LOCAL


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
