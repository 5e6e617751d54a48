# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Recording of one topic: a subscription whose QoS follows that of the publishers."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import cache
from typing import Any

from rclpy.event_handler import SubscriptionEventCallbacks
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSCompatibility, QoSProfile, ReliabilityPolicy, qos_check_compatible
from rosbags.interfaces import Qos, QosDurability, QosHistory, QosLiveliness, QosReliability, QosTime

from occle_core.console import print_notice
from occle_ros.topics.qos import format_qos

DEPTH = 1000
"""History depth of the subscription."""
_OVERLAP_SECONDS = 1.0


class TopicRecorder:
    """Subscription of a recorded topic.

    Args:
        node: owner of the subscription.
        topic: absolute name.
        kind: its type, such as "sensor_msgs/msg/PointCloud2".
        message: the class of that type.
        on_message: called with (topic, time of reception in nanoseconds, CDR bytes); False if it could not be kept.
        best_effort: request best effort whatever is offered.
    """

    def __init__(
        self,
        node: Node,
        topic: str,
        kind: str,
        message: type[Any],
        on_message: Callable[[str, int, bytes], bool],
        best_effort: bool,
    ) -> None:
        self.topic, self.kind = topic, kind
        self._node, self._message, self._on_message, self._best_effort = node, message, on_message, best_effort
        self.count = self.lost = 0
        self.last = 0.0
        """Time of the last message, in seconds of the monotonic clock; 0: none yet."""
        self.offered: list[Qos] = []
        """QoS offers of all its publishers so far, for the bag's metadata."""
        self._sequences: dict[bytes, SequenceCounter] = {}
        self._recent = RecentMessages(10 * DEPTH)
        self._logged: set[str] = set()
        self._old: list[tuple[float, Any]] = []
        # Before there is a publisher: compatible with most. A latched history arrives after `update_qos` has seen the offer.
        reliability = ReliabilityPolicy.BEST_EFFORT if best_effort else ReliabilityPolicy.RELIABLE
        self._requested = QoSProfile(depth=DEPTH, reliability=reliability, durability=DurabilityPolicy.VOLATILE)
        self._subscription = self._subscribe()
        self.update_qos()

    def update_qos(self) -> None:
        """Adapt to the publishers: reliable if all offer it, transient_local if all offer it; log the incompatible ones."""
        now = time.monotonic()
        while self._old and self._old[0][0] <= now:
            self._node.destroy_subscription(self._old.pop(0)[1])
        publishers = self._node.get_publishers_info_by_topic(self.topic)
        for other in {publisher.topic_type for publisher in publishers} - {self.kind}:
            self._log_once(f"it is also published as {other}, which is not recorded")
        offers = [publisher.qos_profile for publisher in publishers if publisher.topic_type == self.kind]
        if not offers:
            return
        for offer in offers:
            if (qos := as_bag_qos(offer)) not in self.offered:
                self.offered.append(qos)
        reliable = all(offer.reliability == ReliabilityPolicy.RELIABLE for offer in offers) and not self._best_effort
        latched = [offer.durability == DurabilityPolicy.TRANSIENT_LOCAL for offer in offers]
        if any(latched) and not all(latched):
            self._log_once("not all publishers are transient_local: the earlier messages of the others are not recorded")
        self._request(
            ReliabilityPolicy.RELIABLE if reliable else ReliabilityPolicy.BEST_EFFORT,
            DurabilityPolicy.TRANSIENT_LOCAL if all(latched) else DurabilityPolicy.VOLATILE,
        )
        for offer in offers:
            verdict, reason = qos_check_compatible(offer, self._requested)
            if verdict == QoSCompatibility.ERROR:
                text = f"the QoS of a publisher ({format_qos(offer)}) is incompatible: {reason.strip()}"
                self._log_once(f"{text}; its messages are not recorded")

    def _request(self, reliability: ReliabilityPolicy, durability: DurabilityPolicy) -> None:
        if (self._requested.reliability, self._requested.durability) == (reliability, durability):
            return
        # Both receive for a while, so that no message is missed; `_take` drops duplicates.
        self._old.append((time.monotonic() + _OVERLAP_SECONDS, self._subscription))
        self._requested = QoSProfile(depth=DEPTH, reliability=reliability, durability=durability)
        self._subscription = self._subscribe()

    def _subscribe(self) -> Any:
        return self._node.create_subscription(
            self._message, self.topic, self._take, self._requested, raw=True,
            event_callbacks=SubscriptionEventCallbacks(use_default_callbacks=False),  # it would warn before `update_qos`
        )  # fmt: skip

    def _take(self, data: bytes, info: Any) -> None:
        number, publisher = info.get("publication_sequence_number"), info.get("publisher_gid")
        if number is None or publisher is None:
            _say_losses_are_not_counted()
            if not self._recent.is_new((info.get("source_timestamp", 0), number, len(data))):
                return
        else:
            sequence = self._sequences.setdefault(bytes(publisher["data"]), SequenceCounter(number))
            if not sequence.is_new(number):
                return
            if lost := sequence.take_lost():
                self.lost += lost
                self._log_once("messages are lost: they arrive faster than they are processed, or the network loses them")
        if not self.offered:
            self.update_qos()
        # Not received_timestamp: it can be too early for a message that waited for the retransmission of an older one.
        if self._on_message(self.topic, time.time_ns(), data):
            self.count += 1
            self.last = time.monotonic()
        else:
            self.lost += 1

    def _log_once(self, text: str) -> None:
        if text not in self._logged:
            self._logged.add(text)
            print_notice(f"recorder: {self.topic}: {text}")


class SequenceCounter:
    """Sequence counter of one publisher: detects duplicate and missing messages.

    Args:
        first: sequence number of the first message.
    """

    def __init__(self, first: int) -> None:
        self._first, self._last = first, first - 1
        self._history: set[int] = set()
        self._lost = 0

    def is_new(self, number: int) -> bool:
        """True for the first arrival of this message; a transient_local history has numbers before the first."""
        if number > self._last:
            self._lost += number - self._last - 1
            self._last = number
            return True
        if number < self._first and number not in self._history:
            self._history.add(number)
            return True
        return False

    def take_lost(self) -> int:
        """Number of missing messages since the last call."""
        lost, self._lost = self._lost, 0
        return lost


class RecentMessages:
    """The last messages of a topic: detects duplicates where rclpy does not name a message's publisher (before Kilted).

    Args:
        size: how many are remembered.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._keys: dict[tuple[int, int | None, int], None] = {}

    def is_new(self, key: tuple[int, int | None, int]) -> bool:
        """True for the first arrival of (source timestamp, sequence number, bytes), and of any without a source timestamp."""
        if not key[0]:
            return True
        if key in self._keys:
            return False
        self._keys[key] = None
        if len(self._keys) > self._size:
            del self._keys[next(iter(self._keys))]
        return True


@cache
def _say_losses_are_not_counted() -> None:
    print_notice("losses on the way to the recorder are not counted: this rclpy does not name a message's publisher")


def as_bag_qos(profile: QoSProfile) -> Qos:
    """QoS profile of the graph in rosbag2's form; the graph has neither history nor depth."""

    def span(duration: Any) -> QosTime:
        return QosTime(*divmod(duration.nanoseconds, 1_000_000_000))

    return Qos(
        QosHistory.UNKNOWN,
        0,
        QosReliability(int(profile.reliability)),
        QosDurability(int(profile.durability)),
        span(profile.deadline),
        span(profile.lifespan),
        QosLiveliness(int(profile.liveliness)),
        span(profile.liveliness_lease_duration),
        profile.avoid_ros_namespace_conventions,
    )
