# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Topic listeners of `occle doctor`: rate, age and content of messages."""

from __future__ import annotations

import time
from bisect import insort
from dataclasses import dataclass
from typing import Any

import numpy as np
from rclpy.node import Node
from rosgraph_msgs.msg import Clock

from occle_core.sensors.messages import nanoseconds, stamp_of
from occle_ros.config.node_config import NodeConfig
from occle_ros.topics.inputs import InputTopic, type_name
from occle_ros.topics.qos import format_qos, input_qos, publisher_qos, qos_mismatch, qos_profile


@dataclass
class TopicReport:
    """State of one topic; None and "" for what is not known.

    Args:
        topic, kind: name and type.
        publishers: number of publishers.
        rate: messages per second.
        age: median age of the stamps at their arrival, seconds, by /clock if it is published, else by the wall clock.
        qos: offered by the first publisher.
        content: size and encoding of the last message.
        frame_id: of the last message's header.
        calibration: "known", or the reason for masking the camera.
    """

    topic: str
    kind: str
    publishers: int = 0
    rate: float | None = None
    age: float | None = None
    qos: str = ""
    content: str = ""
    frame_id: str = ""
    calibration: str = ""


class ClockListener:
    """Listener of /clock."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self.simulated: int | None = None
        self.count = 0
        node.create_subscription(Clock, "/clock", self._take, qos_profile("best_effort", 10))

    def _take(self, message: Clock) -> None:
        self.simulated = nanoseconds(message.clock)
        self.count += 1

    def now(self) -> int:
        """Time of /clock if it is published, else wall time, nanoseconds."""
        return time.time_ns() if self.simulated is None else self.simulated

    def summary(self) -> str:
        """The clock that the node should use, as text."""
        if self.count:
            return f"simulated time: {self.count} messages of /clock; start the node with use_sim_time:=true"
        return "wall clock: no publisher of /clock; start the node with use_sim_time:=false"


class TopicListener:
    """Subscription of one topic, with the node's QoS if that is compatible with the publishers, else best effort."""

    def __init__(self, node: Node, wanted: InputTopic, config: NodeConfig, clock: ClockListener) -> None:
        self.wanted, self._clock = wanted, clock
        self.topic = node.resolve_topic_name(wanted.topic)
        self.stamps: list[int] = []
        self.ages: list[float] = []
        self.arrivals: list[float] = []
        self.last: Any = None
        offers = publisher_qos(node, self.topic)
        self.requested = input_qos(config, offers)
        is_compatible = not any(qos_mismatch(offer, self.requested) for offer in offers)
        node.create_subscription(
            wanted.message, self.topic, self._take, self.requested if is_compatible else qos_profile("best_effort", 10)
        )

    def _take(self, message: Any) -> None:
        self.last = message
        self.arrivals.append(time.monotonic())
        if hasattr(message, "header"):
            insort(self.stamps, stamp_of(message))
            self.ages.append((self._clock.now() - stamp_of(message)) / 1e9)

    @property
    def age(self) -> float | None:
        """Median age of the stamps at their arrival, seconds; None without messages."""
        return float(np.median(self.ages)) if self.ages else None

    def report(self, node: Node) -> TopicReport:
        """State of the topic so far."""
        offers = node.get_publishers_info_by_topic(self.topic)
        report = TopicReport(self.topic, type_name(self.wanted.message), len(offers), age=self.age)
        report.qos = format_qos(offers[0].qos_profile) if offers else ""
        if len(self.arrivals) > 1:
            report.rate = (len(self.arrivals) - 1) / max(self.arrivals[-1] - self.arrivals[0], 1e-9)
        if hasattr(self.last, "header"):
            report.frame_id = self.last.header.frame_id
        return report
