"""Listening to topics for `occle doctor`: what came, how often, how old."""

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
from occle_ros.topics.inputs import Input, type_name
from occle_ros.topics.qos import describe, input_qos, mismatch, offers_on, qos_profile


@dataclass
class Row:
    """What was seen of one topic; None and "" where nothing was.

    Args:
        topic, kind: its name and type.
        publishers: how many there are.
        rate: messages a second.
        age: median age of the stamps at their arrival, seconds, by /clock where there is one, else by the wall clock.
        qos: what the first publisher offers.
        content: size and encoding of the last message.
        frame_id: of the last message's header.
        calibration: "known", or why not.
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
    """The latest /clock, beside the wall clock."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self.simulated: int | None = None
        self.count = 0
        node.create_subscription(Clock, "/clock", self._take, qos_profile("best_effort", 10))

    def _take(self, message: Clock) -> None:
        self.simulated = nanoseconds(message.clock)
        self.count += 1

    def now(self) -> int:
        """Nanoseconds: /clock's time where it has come, else the wall clock's."""
        return time.time_ns() if self.simulated is None else self.simulated

    def words(self) -> str:
        """Which clock the node should go by."""
        if self.count:
            return f"simulated time: /clock came {self.count} times; start the node with use_sim_time:=true"
        return "wall clock: nobody publishes /clock; start the node with use_sim_time:=false"


class TopicListener:
    """Hears one topic, with the node's own quality of service where that fits the publishers, else best effort."""

    def __init__(self, node: Node, wanted: Input, config: NodeConfig, clock: ClockListener) -> None:
        self.wanted, self._clock = wanted, clock
        self.topic = node.resolve_topic_name(wanted.topic)
        self.stamps: list[int] = []
        self.ages: list[float] = []
        self.arrivals: list[float] = []
        self.last: Any = None
        offers = offers_on(node, self.topic)
        self.asked = input_qos(config, offers)
        fits = not any(mismatch(offer, self.asked) for offer in offers)
        node.create_subscription(wanted.message, self.topic, self._take, self.asked if fits else qos_profile("best_effort", 10))

    def _take(self, message: Any) -> None:
        self.last = message
        self.arrivals.append(time.monotonic())
        if hasattr(message, "header"):
            insort(self.stamps, stamp_of(message))
            self.ages.append((self._clock.now() - stamp_of(message)) / 1e9)

    @property
    def age(self) -> float | None:
        """Median age of the stamps at their arrival, seconds; None where nothing came."""
        return float(np.median(self.ages)) if self.ages else None

    def row(self, node: Node) -> Row:
        """What was seen so far."""
        offers = node.get_publishers_info_by_topic(self.topic)
        row = Row(self.topic, type_name(self.wanted.message), len(offers), age=self.age)
        row.qos = describe(offers[0].qos_profile) if offers else ""
        if len(self.arrivals) > 1:
            row.rate = (len(self.arrivals) - 1) / max(self.arrivals[-1] - self.arrivals[0], 1e-9)
        if hasattr(self.last, "header"):
            row.frame_id = self.last.header.frame_id
        return row
