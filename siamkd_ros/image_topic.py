"""The image topic, raw or compressed: its name and type, and the subscription.

`image_transport: compressed` means what it means to the package image_transport: the topic's name
with `/compressed` behind it, as sensor_msgs/CompressedImage.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sensor_msgs.msg import CompressedImage, Image

from siamkd_core.errors import ConfigError
from siamkd_ros.qos import newest_image, overridable, warn_incompatible

TYPES = {"raw": Image, "compressed": CompressedImage}


def image_topic(node: Any, transport: str, name: str = "image") -> str:
    """The full name of the topic, remapped as the user wished."""
    resolved = str(node.resolve_topic_name(name))
    return resolved if transport == "raw" else f"{resolved}/{transport}"


def subscribe_image(node: Any, transport: str, callback: Callable[[Any], None]) -> Any:
    """Subscribe as sensor data, depth 1, open to QoS overrides; warn of QoS that does not fit.

    Raises:
        ConfigError: a QoS override that does not exist.
    """
    topic = image_topic(node, transport)
    try:
        return node.create_subscription(
            TYPES[transport],
            topic,
            callback,
            newest_image(),
            event_callbacks=warn_incompatible(topic, node.get_logger().warning),
            qos_overriding_options=overridable(),
        )
    # rclpy's own errors are RuntimeErrors, too
    except (RuntimeError, TypeError, ValueError, OverflowError) as error:
        if not node.context.ok():  # a signal came
            raise
        raise ConfigError(f"cannot subscribe {topic} with these qos_overrides: {error}") from error
