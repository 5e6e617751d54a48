# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Quality of service (QoS): profiles from settings, and the remedy for incompatible ones.

A subscription receives nothing from a publisher that offers less than it requests (best effort for reliable, volatile for
transient local); a publisher that offers more is compatible. The depth has no influence.
"""

from __future__ import annotations

from collections.abc import Iterable

from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSCompatibility, QoSProfile, ReliabilityPolicy, qos_check_compatible

from occle_ros.config.node_config import NodeConfig

RELIABILITY = {"reliable": ReliabilityPolicy.RELIABLE, "best_effort": ReliabilityPolicy.BEST_EFFORT}
DURABILITY = {"volatile": DurabilityPolicy.VOLATILE, "transient_local": DurabilityPolicy.TRANSIENT_LOCAL}


def qos_profile(reliability: str, depth: int, durability: str = "volatile") -> QoSProfile:
    """QoS profile (keep last) from the values of parameters."""
    return QoSProfile(depth=depth, reliability=RELIABILITY[reliability], durability=DURABILITY[durability])


def input_qos(config: NodeConfig, offers: Iterable[QoSProfile] = ()) -> QoSProfile:
    """QoS that an input subscription requests.

    Args:
        config: `qos.reliability: auto` requests reliable, or best effort if a publisher offers only that: large messages of
            reliable publishers arrive complete, and best-effort sensor drivers are received as well.
        offers: profiles of the topic's publishers, as far as they are known.
    """
    reliability = config.qos.reliability
    if reliability == "auto":
        is_lossy = any(offer.reliability == ReliabilityPolicy.BEST_EFFORT for offer in offers)
        reliability = "best_effort" if is_lossy else "reliable"
    return qos_profile(reliability, config.qos.depth, config.qos.durability)


def publisher_qos(node: Node, topic: str) -> list[QoSProfile]:
    """QoS profiles of a topic's publishers, as far as the graph knows them."""
    return [publisher.qos_profile for publisher in node.get_publishers_info_by_topic(node.resolve_topic_name(topic))]


def format_qos(profile: QoSProfile) -> str:
    """QoS profile as text, such as "best_effort, volatile"; without depth, which the graph does not report."""
    return f"{profile.reliability.name.lower()}, {profile.durability.name.lower()}"


def qos_mismatch(offered: QoSProfile, requested: QoSProfile, group: str = "qos") -> tuple[str, str] | None:
    """Incompatibility of a publisher's QoS with that of a subscription; None if they are compatible or it is not known.

    Args:
        offered: by a publisher, as the graph reports it.
        requested: by the subscription.
        group: parameter group of the request.

    Returns:
        (difference, remedy on our side).
    """
    if (requested.reliability, offered.reliability) == (ReliabilityPolicy.RELIABLE, ReliabilityPolicy.BEST_EFFORT):
        return "offers best_effort, requested is reliable", f"set parameter {group}.reliability:=best_effort"
    if (requested.durability, offered.durability) == (DurabilityPolicy.TRANSIENT_LOCAL, DurabilityPolicy.VOLATILE):
        return "offers volatile, requested is transient_local", f"set parameter {group}.durability:=volatile"
    verdict, reason = qos_check_compatible(offered, requested)
    if verdict == QoSCompatibility.ERROR:
        return (
            f"offers an incompatible QoS ({reason.strip()})",
            "compare its QoS with the request: `ros2 topic info -v`",
        )
    return None
