"""Notices what keeps the node from working although nothing fails: silent topics, unsuitable publishers, a clock that stands."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rclpy.node import Node
from rclpy.qos import QoSProfile

from occle_ros.topics.inputs import Input, Problem, why_silent

try:
    from rclpy.event_handler import SubscriptionEventCallbacks
except ImportError:  # Humble
    from rclpy.qos_event import SubscriptionEventCallbacks

SILENCE_SECONDS = 5.0
REPEAT_SECONDS = 60.0


class InputMonitor:
    """Tells, once a silence and then every minute, why nothing comes on a topic and what mends it.

    Make the subscriptions with `event_callbacks=watch.callbacks(topic)`, call `arrived` in them, and `check` about once a
    second from a timer of a steady clock. All in the executor's thread.

    Args:
        node: asks the graph.
        inputs: what the node subscribes to.
        asked: topic -> what its subscription asks for; may change.
        silence: seconds without a message before a topic is reported.
        repeat: seconds until it is reported again.
        now: a clock that never goes back, seconds.
    """

    def __init__(self, node: Node, inputs: Sequence[Input], asked: Mapping[str, QoSProfile], silence: float = SILENCE_SECONDS,
                 repeat: float = REPEAT_SECONDS, now: Callable[[], float] = time.monotonic) -> None:  # fmt: skip
        self._node, self._asked, self._repeat, self._now = node, asked, repeat, now
        self.silence = silence
        self._inputs = {wanted.topic: wanted for wanted in inputs}
        started = now()
        self._last = dict.fromkeys(self._inputs, started)
        self._heard: set[str] = set()
        self.refused: set[str] = set()
        """Topics with a publisher whose quality of service does not meet ours."""
        self._told: dict[str, float] = {}
        self.problems: dict[str, Problem] = {}
        """Topic -> what keeps it silent, as of the last `check`; for diagnostics."""

    def callbacks(self, topic: str) -> SubscriptionEventCallbacks:
        """For `create_subscription`: an incompatible publisher is reported at the next `check`, without waiting for silence."""

        def refused(event: Any) -> None:
            self.refused.add(topic)

        return SubscriptionEventCallbacks(incompatible_qos=refused, use_default_callbacks=False)

    def arrived(self, topic: str) -> None:
        """A message of this topic has come."""
        self._last[topic] = self._now()
        self._heard.add(topic)
        self.refused.discard(topic)
        # The silence is over, whenever the next check comes.
        self._told.pop(topic, None)

    def check(self) -> list[str]:
        """The warnings that are due now."""
        now = self._now()
        due = []
        for topic, wanted in self._inputs.items():
            silent = now - self._last[topic]
            is_quiet = silent >= self.silence and not (wanted.once and topic in self._heard)
            if not is_quiet and topic not in self.refused:
                self._told.pop(topic, None)
                self.problems.pop(topic, None)
                continue
            if topic in self._told and now - self._told[topic] < self._repeat:
                continue
            self._told[topic] = now
            self.problems[topic] = problem = why_silent(self._node, wanted, self._asked[topic])
            due.append(f"no {wanted.name} on {self._node.resolve_topic_name(topic)} for {silent:.0f} s: {problem}")
        return due


class ClockMonitor:
    """Tells when the node's clock is not the one that the stamps are made with, or does not run.

    Args:
        node: whose clock is watched.
        patience: seconds that a clock may stand still.
        now: a clock that never goes back, seconds.
    """

    def __init__(self, node: Node, patience: float = SILENCE_SECONDS, now: Callable[[], float] = time.monotonic) -> None:
        self._node, self._patience, self._now = node, patience, now
        self._last = (0, now())

    def check(self, age: float | None = None) -> Problem | None:
        """What is wrong with the clock now.

        Args:
            age: of the newest scan's stamp by the node's clock, seconds; None while there is none.
        """
        stamp, now = self._node.get_clock().now().nanoseconds, self._now()
        if stamp != self._last[0]:
            self._last = (stamp, now)
        publishers = self._node.count_publishers("/clock")
        if not self._node.get_parameter("use_sim_time").value:
            return clock_problem(age, publishers)
        still = now - self._last[1]
        if still < self._patience:
            return None
        if not publishers:
            return Problem(
                f"use_sim_time is true, but nobody publishes /clock{' any more' if stamp else ''}, so that time stands still",
                "start the player with a clock (`ros2 bag play BAG --clock`; `occle play` gives one) or set use_sim_time:=false",
            )
        what = f"stands still at {stamp / 1e9:.3f} s since {still:.0f} s" if stamp else "is published, but nothing has come"
        return Problem(f"use_sim_time is true and /clock {what}", "resume the player or the simulation: `ros2 topic hz /clock`")


def clock_problem(age: float | None, clock_publishers: int) -> Problem | None:
    """What stamps tell about a node that goes by the wall clock.

    Args:
        age: of the newest stamp, seconds; negative in the future; None while there is none.
        clock_publishers: of /clock.
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
