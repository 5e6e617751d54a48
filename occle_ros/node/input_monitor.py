# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Monitors of the node's inputs: silent topics, incompatible publishers, a stopped or wrong clock."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rclpy.node import Node
from rclpy.qos import QoSProfile

from occle_ros.topics.inputs import InputTopic, Problem, diagnose_silence

try:
    from rclpy.event_handler import SubscriptionEventCallbacks
except ImportError:  # Humble
    from rclpy.qos_event import SubscriptionEventCallbacks

SILENCE_SECONDS = 5.0
REPEAT_SECONDS = 60.0
OTHER_CLOCK = 2_000_000_000
"""Nanoseconds between the newest stamps of two sensors from which they have different clocks."""


class InputMonitor:
    """Monitor for silent topics: one warning with the remedy per silence, repeated every minute.

    Create the subscriptions with `event_callbacks=monitor.event_callbacks(topic)`, call `on_message` in their callbacks, and
    `check` about once a second from a timer with a steady clock. Not thread-safe: for the executor's thread.

    Args:
        node: gives access to the ROS graph.
        inputs: the node's input topics.
        requested: topic -> QoS of its subscription; may change.
        silence: seconds without a message before a topic is reported.
        repeat: seconds until it is reported again.
        now: a monotonic clock, seconds.
    """

    def __init__(self, node: Node, inputs: Sequence[InputTopic], requested: Mapping[str, QoSProfile],
                 silence: float = SILENCE_SECONDS, repeat: float = REPEAT_SECONDS,
                 now: Callable[[], float] = time.monotonic) -> None:  # fmt: skip
        self._node, self._requested, self._repeat, self._now = node, requested, repeat, now
        self.silence = silence
        self._inputs = {wanted.topic: wanted for wanted in inputs}
        started = now()
        self._last = dict.fromkeys(self._inputs, started)
        self._received: set[str] = set()
        self.incompatible: set[str] = set()
        """Topics with a publisher of incompatible QoS."""
        self._reported: dict[str, float] = {}
        self.problems: dict[str, Problem] = {}
        """Silent topic -> its problem at the last `check`; for diagnostics."""

    def event_callbacks(self, topic: str) -> SubscriptionEventCallbacks:
        """Event callbacks for `create_subscription`: an incompatible publisher is reported at the next `check`."""

        def on_incompatible_qos(event: Any) -> None:
            self.incompatible.add(topic)

        return SubscriptionEventCallbacks(incompatible_qos=on_incompatible_qos, use_default_callbacks=False)

    def on_message(self, topic: str) -> None:
        """Record the arrival of a message."""
        self._last[topic] = self._now()
        self._received.add(topic)
        self.incompatible.discard(topic)
        self._reported.pop(topic, None)

    def check(self) -> list[str]:
        """Warnings that are due now."""
        now = self._now()
        due = []
        for topic, wanted in self._inputs.items():
            silent = now - self._last[topic]
            is_quiet = silent >= self.silence and not (wanted.once and topic in self._received)
            if not is_quiet and topic not in self.incompatible:
                self._reported.pop(topic, None)
                self.problems.pop(topic, None)
                continue
            if topic in self._reported and now - self._reported[topic] < self._repeat:
                continue
            self._reported[topic] = now
            self.problems[topic] = problem = diagnose_silence(self._node, wanted, self._requested[topic])
            due.append(f"no {wanted.name} on {self._node.resolve_topic_name(topic)} for {silent:.0f} s: {problem}")
        return due


class StampMonitor:
    """Monitor for sensors that send, but with stamps of another clock than the scans': no frame would ever contain them.

    Not thread-safe: for the executor's thread.

    Args:
        inputs: the node's input topics.
        offsets: topic -> nanoseconds that are added to its stamps.
        now: a monotonic clock, seconds.
    """

    def __init__(self, inputs: Sequence[InputTopic], offsets: Mapping[str, int], now: Callable[[], float] = time.monotonic) -> None:
        self._inputs = {wanted.topic: wanted for wanted in inputs}
        self._offsets, self._now = offsets, now
        self._newest: dict[str, tuple[int, float]] = {}
        self._apart: set[str] = set()
        self._reported: dict[str, float] = {}

    def on_message(self, topic: str, stamp: int) -> None:
        """Record a stamp, nanoseconds."""
        self._newest[topic] = stamp, self._now()

    def check(self, scans: str) -> list[str]:
        """Warnings that are due now, about a second after the last check.

        Args:
            scans: topic of the main LiDAR.
        """
        now = self._now()
        lately = {topic: stamp for topic, (stamp, arrived) in self._newest.items() if now - arrived < 1.0}
        before, self._apart = self._apart, set()
        due = []
        for topic in lately.keys() - {scans} if lately.get(scans) else ():
            apart = lately[topic] + self._offsets[topic] - lately[scans]
            if abs(apart) <= OTHER_CLOCK:
                self._reported.pop(topic, None)
                continue
            self._apart.add(topic)
            # At the second check: when a bag restarts, a scan and an image are apart for a moment.
            if topic in before and now - self._reported.get(topic, -REPEAT_SECONDS) >= REPEAT_SECONDS:
                self._reported[topic] = now
                due.append(f"no frame contains the {self._inputs[topic].name}: {self._problem(topic, lately[topic], apart, scans)}")
        return due

    def _problem(self, topic: str, stamp: int, apart: int, scans: str) -> Problem:
        if not stamp:
            return Problem(f"the stamps of {topic} are 0", "set header.stamp to the time of the measurement in the driver")
        how = f"{abs(apart) / 1e9:.1f} s {'after' if apart > 0 else 'before'} those of {scans}"
        parameter = self._inputs[topic].topic_parameter.removesuffix("topic") + "time_offset_ms"
        offset = (self._offsets[topic] - apart) / 1e6
        return Problem(
            f"the stamps of {topic} lie {how}",
            f"give the sensors one clock (PTP, NTP), or, if that difference is constant, set parameter {parameter}:={offset:.0f}",
        )


class ClockMonitor:
    """Monitor for a clock that has stopped or is not the one of the stamps.

    Args:
        node: its clock is monitored.
        timeout: seconds after which a clock without progress has stopped.
        now: a monotonic clock, seconds.
    """

    def __init__(self, node: Node, timeout: float = SILENCE_SECONDS, now: Callable[[], float] = time.monotonic) -> None:
        self._node, self._timeout, self._now = node, timeout, now
        self._last = (0, now())

    def check(self, age: float | None = None) -> Problem | None:
        """Problem of the clock, if any.

        Args:
            age: of the newest scan's stamp by the node's clock, seconds; None before the first scan.
        """
        stamp, now = self._node.get_clock().now().nanoseconds, self._now()
        if stamp != self._last[0]:
            self._last = (stamp, now)
        publishers = self._node.count_publishers("/clock")
        if not self._node.get_parameter("use_sim_time").value:
            return clock_problem(age, publishers)
        still = now - self._last[1]
        if still < self._timeout:
            return None
        if not publishers:
            return Problem(
                f"use_sim_time is true, but there is no publisher of /clock{' any more' if stamp else ''}, so time has stopped",
                "start the player with a clock (`ros2 bag play BAG --clock` or `occle play BAG`), or set use_sim_time:=false",
            )
        what = f"stopped at {stamp / 1e9:.3f} s, {still:.0f} s ago" if stamp else "has a publisher, but no message arrived"
        return Problem(f"use_sim_time is true and /clock {what}", "resume the player or the simulation: `ros2 topic hz /clock`")


def clock_problem(age: float | None, clock_publishers: int) -> Problem | None:
    """Problem of stamps that are compared with the wall clock, if any.

    Args:
        age: of the newest stamp, seconds; negative in the future; None before the first.
        clock_publishers: number of publishers of /clock.
    """
    if age is None or -1 <= age <= 10:
        return None
    how = f"{age:.0f} s old" if age > 0 else f"{-age:.1f} s in the future"
    if clock_publishers:
        return Problem(f"stamps are {how} by the wall clock, and /clock is published", "start the node with use_sim_time:=true")
    return Problem(
        f"stamps are {how} by the wall clock",
        "replay with a clock and use_sim_time:=true (`ros2 bag play BAG --clock`, `occle play BAG`), or set the sensor's clock "
        "(PTP, NTP)",
    )
