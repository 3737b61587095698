"""What ROS 2 calls quality of service, for the image topic: profiles, and advice in words."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from rclpy.qos import (
    HistoryPolicy,
    QoSDurabilityPolicy,
    QoSPolicyKind,
    QoSProfile,
    QoSReliabilityPolicy,
    qos_policy_name_from_kind,
)
from rclpy.qos_overriding_options import QoSOverridingOptions

try:
    from rclpy.event_handler import SubscriptionEventCallbacks
except ImportError:  # Humble
    from rclpy.qos_event import SubscriptionEventCallbacks

from siamkd_ros.statistics import Snapshot

# Fast DDS's shared memory segment is 512 KB unless a profile says otherwise; an image that does
# not fit goes over UDP in fragments, and without retransmission one lost fragment loses the image.
LARGE_IMAGE = 500_000
MUCH_MISSING = 0.3
FEW = 10
"""Images that tell whether others are lost."""
REMEDY = (
    "start the publisher with FASTRTPS_DEFAULT_PROFILES_FILE naming siamkd_ros's config/fastdds.xml"
)


def newest_image() -> QoSProfile:
    """Sensor data, depth 1: matches every camera, and only the newest image matters."""
    return QoSProfile(
        history=HistoryPolicy.KEEP_LAST,
        depth=1,
        reliability=QoSReliabilityPolicy.BEST_EFFORT,
        durability=QoSDurabilityPolicy.VOLATILE,
    )


def overridable() -> QoSOverridingOptions:
    """The policies that parameters (`qos_overrides.<topic>...`) may change; rclpy's own choice
    leaves durability out."""
    return QoSOverridingOptions(
        (
            QoSPolicyKind.HISTORY,
            QoSPolicyKind.DEPTH,
            QoSPolicyKind.RELIABILITY,
            QoSPolicyKind.DURABILITY,
        )
    )


def latched() -> QoSProfile:
    """Reliable, and the last message is there for those who come later."""
    return QoSProfile(
        history=HistoryPolicy.KEEP_LAST,
        depth=1,
        reliability=QoSReliabilityPolicy.RELIABLE,
        durability=QoSDurabilityPolicy.TRANSIENT_LOCAL,
    )


def warn_incompatible(topic: str, warn: Callable[[str], None]) -> SubscriptionEventCallbacks:
    """Event callbacks that name the topic and the policy when a publisher cannot be matched."""

    def incompatible(event: Any) -> None:
        policy = qos_policy_name_from_kind(event.last_policy_kind)
        warn(
            f"a publisher on {topic} offers an incompatible QoS ({policy}), so no image comes from "
            f"it: change the publisher, or qos_overrides.{topic}.subscription.{policy.lower()}"
        )

    return SubscriptionEventCallbacks(incompatible_qos=incompatible)


def describe_publishers(topic: str, publishers: Sequence[Any]) -> str:
    """Who publishes on a topic, from `Node.get_publishers_info_by_topic`, in words."""
    if not publishers:
        return f"nobody publishes on {topic}: check the name (remap image) and ROS_DOMAIN_ID"
    offers = sorted(
        f"{info.node_namespace.rstrip('/')}/{info.node_name} ({info.topic_type}, "
        f"{info.qos_profile.reliability.name.lower()}, {info.qos_profile.durability.name.lower()})"
        for info in publishers
    )
    return f"publishers on {topic}: {', '.join(offers)}"


def loss_advice(topic: str, snapshot: Snapshot, best_effort: bool, rmw: str) -> str:
    """What to do about large images that do not arrive; empty if that is not what is seen.

    The publisher's transport cannot be asked for over the graph, so this speaks of what was
    measured and of its known cause.
    """
    large = snapshot.image_bytes > LARGE_IMAGE
    if not (_loses(best_effort, rmw) and large and snapshot.missing > MUCH_MISSING):
        return ""
    return (
        f"at least {100 * snapshot.missing:.0f} % of the images on {topic} do not arrive "
        f"({snapshot.image_bytes / 1e6:.1f} MB each, best effort). Either this machine is "
        "overloaded, or their publisher runs Fast DDS with its default 512 KB shared memory "
        f"segment: {REMEDY}"
    )


def silence_advice(snapshot: Snapshot, best_effort: bool, rmw: str) -> str:
    """What else to do where there is a publisher and no image comes; empty if nothing: of large
    images nearly all may be lost, and then there are too few to tell by that others were."""
    small = 0 < snapshot.image_bytes <= LARGE_IMAGE
    arrive = snapshot.received >= FEW and snapshot.missing <= MUCH_MISSING
    if not _loses(best_effort, rmw) or small or arrive:
        return ""
    return f"; if it does send, and images of over {LARGE_IMAGE / 1e6:g} MB: {REMEDY}"


def _loses(best_effort: bool, rmw: str) -> bool:
    """Whether images that do not fit into shared memory are lost."""
    return best_effort and rmw == "rmw_fastrtps_cpp"
