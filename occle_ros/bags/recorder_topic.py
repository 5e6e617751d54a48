"""One recorded topic: a subscription that asks for what the publishers offer, and follows when others come."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from rclpy.event_handler import SubscriptionEventCallbacks
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSCompatibility, QoSProfile, ReliabilityPolicy, qos_check_compatible
from rosbags.interfaces import Qos, QosDurability, QosHistory, QosLiveliness, QosReliability, QosTime

from occle_core.console import print_notice
from occle_ros.topics.qos import describe

DEPTH = 1000
"""Messages that wait in the middleware while this process is slow."""
_OVERLAP_SECONDS = 1.0


class TopicRecorder:
    """Receives the messages of a topic.

    Args:
        node: subscribes.
        topic: absolute name.
        kind: its type, such as "sensor_msgs/msg/PointCloud2".
        message: the class of that type.
        take: called with (topic, time of reception in nanoseconds, CDR bytes); False: it could not be kept.
        best_effort: ask best effort whatever is offered.
    """

    def __init__(
        self, node: Node, topic: str, kind: str, message: type[Any], take: Callable[[str, int, bytes], bool], best_effort: bool
    ) -> None:
        self.topic, self.kind = topic, kind
        self._node, self._message, self._hand_over, self._best_effort = node, message, take, best_effort
        self.count = self.lost = 0
        self.last = 0.0
        """When the last one came, in seconds of the monotonic clock; 0: none yet."""
        self.offered: list[Qos] = []
        """What its publishers offer or offered, for the bag's metadata."""
        self._sequences: dict[bytes, Sequence] = {}
        self._said: set[str] = set()
        self._old: list[tuple[float, Any]] = []
        # Before there is a publisher: what fits the most of them. A latched history comes when `follow` has seen the offer.
        reliability = ReliabilityPolicy.BEST_EFFORT if best_effort else ReliabilityPolicy.RELIABLE
        self._asked = QoSProfile(depth=DEPTH, reliability=reliability, durability=DurabilityPolicy.VOLATILE)
        self._subscription = self._subscribe()
        self.follow()

    def follow(self) -> None:
        """Look at the publishers: ask reliable where all offer it, transient_local where all offer it; say which do not fit."""
        now = time.monotonic()
        while self._old and self._old[0][0] <= now:
            self._node.destroy_subscription(self._old.pop(0)[1])
        publishers = self._node.get_publishers_info_by_topic(self.topic)
        for other in {publisher.topic_type for publisher in publishers} - {self.kind}:
            self._say(f"it is also published as {other}, which is not recorded")
        offers = [publisher.qos_profile for publisher in publishers if publisher.topic_type == self.kind]
        if not offers:
            return
        for offer in offers:
            if (qos := as_bag_qos(offer)) not in self.offered:
                self.offered.append(qos)
        reliable = all(offer.reliability == ReliabilityPolicy.RELIABLE for offer in offers) and not self._best_effort
        latched = [offer.durability == DurabilityPolicy.TRANSIENT_LOCAL for offer in offers]
        if any(latched) and not all(latched):
            self._say("not all publishers are transient_local: what the others sent before is not recorded")
        self._ask(
            ReliabilityPolicy.RELIABLE if reliable else ReliabilityPolicy.BEST_EFFORT,
            DurabilityPolicy.TRANSIENT_LOCAL if all(latched) else DurabilityPolicy.VOLATILE,
        )
        for offer in offers:
            verdict, reason = qos_check_compatible(offer, self._asked)
            if verdict == QoSCompatibility.ERROR:
                self._say(f"a publisher does not fit ({describe(offer)}): {reason.strip()}; its messages are not recorded")

    def _ask(self, reliability: ReliabilityPolicy, durability: DurabilityPolicy) -> None:
        if (self._asked.reliability, self._asked.durability) == (reliability, durability):
            return
        # For a while both receive, so that nothing falls between them; `_take` drops what comes twice.
        self._old.append((time.monotonic() + _OVERLAP_SECONDS, self._subscription))
        self._asked = QoSProfile(depth=DEPTH, reliability=reliability, durability=durability)
        self._subscription = self._subscribe()

    def _subscribe(self) -> Any:
        return self._node.create_subscription(
            self._message, self.topic, self._take, self._asked, raw=True,
            event_callbacks=SubscriptionEventCallbacks(use_default_callbacks=False),  # it would warn before `follow` has followed
        )  # fmt: skip

    def _take(self, data: bytes, info: Any) -> None:
        number, publisher = info.get("publication_sequence_number"), info.get("publisher_gid")
        if number is not None and publisher is not None:
            sequence = self._sequences.setdefault(bytes(publisher["data"]), Sequence(number))
            if not sequence.is_new(number):
                return
            if lost := sequence.take_lost():
                self.lost += lost
                self._say("messages are lost: they come faster than this process takes them, or the network loses them")
        if not self.offered:
            self.follow()
        # Not received_timestamp: of a message that had to wait for one before it, sent again, it is the earlier one.
        if self._hand_over(self.topic, time.time_ns(), data):
            self.count += 1
            self.last = time.monotonic()
        else:
            self.lost += 1

    def _say(self, text: str) -> None:
        if text not in self._said:
            self._said.add(text)
            print_notice(f"recorder: {self.topic}: {text}")


class Sequence:
    """The sequence numbers of one publisher: which messages come twice, and how many are missing.

    Args:
        first: the number of the first message.
    """

    def __init__(self, first: int) -> None:
        self._first, self._last = first, first - 1
        self._history: set[int] = set()
        self._lost = 0

    def is_new(self, number: int) -> bool:
        """Whether this message has not come before; a transient_local history comes with numbers before the first."""
        if number > self._last:
            self._lost += number - self._last - 1
            self._last = number
            return True
        if number < self._first and number not in self._history:
            self._history.add(number)
            return True
        return False

    def take_lost(self) -> int:
        """Messages that are missing since the last call."""
        lost, self._lost = self._lost, 0
        return lost


def as_bag_qos(profile: QoSProfile) -> Qos:
    """A profile of the graph as rosbag2 writes it; the graph knows neither history nor depth."""

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
