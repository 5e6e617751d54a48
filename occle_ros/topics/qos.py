"""Quality of service: from settings to profiles, and what to set where an offer does not meet what is asked.

A subscription receives nothing of a publisher that offers less than it asks for (best effort where it asks reliable, volatile
where it asks transient local); the other way round they fit. Depth is each side's own affair.
"""

from __future__ import annotations

from collections.abc import Iterable

from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSCompatibility, QoSProfile, ReliabilityPolicy, qos_check_compatible

from occle_ros.config.node_config import NodeConfig

RELIABILITY = {"reliable": ReliabilityPolicy.RELIABLE, "best_effort": ReliabilityPolicy.BEST_EFFORT}
DURABILITY = {"volatile": DurabilityPolicy.VOLATILE, "transient_local": DurabilityPolicy.TRANSIENT_LOCAL}


def qos_profile(reliability: str, depth: int, durability: str = "volatile") -> QoSProfile:
    """Settings as the parameters name them -> profile (keep last)."""
    return QoSProfile(depth=depth, reliability=RELIABILITY[reliability], durability=DURABILITY[durability])


def input_qos(config: NodeConfig, offers: Iterable[QoSProfile] = ()) -> QoSProfile:
    """What a subscription of the node asks for.

    Args:
        config: `qos.reliability: auto` asks for reliable, and for best effort where a publisher offers no more: a reliable
            publisher's large messages arrive whole, and sensor drivers that send best effort are heard all the same.
        offers: the profiles of the topic's publishers, as far as they are known.
    """
    reliability = config.qos.reliability
    if reliability == "auto":
        is_lossy = any(offer.reliability == ReliabilityPolicy.BEST_EFFORT for offer in offers)
        reliability = "best_effort" if is_lossy else "reliable"
    return qos_profile(reliability, config.qos.depth, config.qos.durability)


def offers_on(node: Node, topic: str) -> list[QoSProfile]:
    """The profiles of a topic's publishers, as far as the graph knows them."""
    return [publisher.qos_profile for publisher in node.get_publishers_info_by_topic(node.resolve_topic_name(topic))]


def describe(profile: QoSProfile) -> str:
    """A profile in words, such as "best_effort, volatile"; as the graph reports it, without depth."""
    return f"{profile.reliability.name.lower()}, {profile.durability.name.lower()}"


def mismatch(offered: QoSProfile, asked: QoSProfile, group: str = "qos") -> tuple[str, str] | None:
    """Why a publisher's offer does not meet what a subscription asks for; None where it does, as far as is known.

    Args:
        offered: a publisher's profile, as the graph reports it.
        asked: the subscription's.
        group: of the parameters that set it.

    Returns:
        what differs, and the setting that mends it on our side.
    """
    if (asked.reliability, offered.reliability) == (ReliabilityPolicy.RELIABLE, ReliabilityPolicy.BEST_EFFORT):
        return "offers best_effort, we ask reliable", f"set parameter {group}.reliability:=best_effort"
    if (asked.durability, offered.durability) == (DurabilityPolicy.TRANSIENT_LOCAL, DurabilityPolicy.VOLATILE):
        return "offers volatile, we ask transient_local", f"set parameter {group}.durability:=volatile"
    verdict, reason = qos_check_compatible(offered, asked)
    if verdict == QoSCompatibility.ERROR:
        return (
            f"offers another quality of service ({reason.strip()})",
            "compare the publisher's profile with ours: `ros2 topic info -v`",
        )
    return None
