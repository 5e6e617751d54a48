# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Player of bags and data sets through rclpy, with the recorded stamps and rate. It needs no ROS installation."""

from __future__ import annotations

import heapq
import itertools
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rclpy.duration import Duration
from rclpy.exceptions import NameValidationException
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn
from rosgraph_msgs.msg import Clock

from occle_core.bags.bag_file import open_bag
from occle_core.bags.storage import BagError
from occle_core.console import shell_quote
from occle_core.errors import OccleError
from occle_ros.bags.message_source import BagMessages, MessageSource
from occle_ros.bags.prefetch import Prefetcher
from occle_ros.config.node_config import absolute_topic
from occle_ros.messages.common import message_class, time_from
from occle_ros.system.ros_process import ros_node, stop_signals

_SENSORS = ("sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage", "sensor_msgs/msg/PointCloud2")
_CLOCK = "/clock"


class PlayError(OccleError, RuntimeError):
    """A replay that could not start."""


@dataclass(frozen=True)
class PlaySummary:
    """Result of a replay.

    Args:
        sent: number of messages per topic.
        skipped: topics that were not published -> reason.
        unacknowledged: topics whose last messages were not acknowledged by every reliable subscriber.
        seconds: from the first message to the last.
        latest_ms: largest delay of a message.
        interrupted: ended by SIGINT or SIGTERM.
    """

    sent: dict[str, int]
    skipped: dict[str, str]
    unacknowledged: tuple[str, ...]
    seconds: float
    latest_ms: float
    interrupted: bool


@dataclass(frozen=True)
class PlayOptions:
    """Options of a replay.

    Args:
        rate: speed; 2 plays twice as fast.
        loop: start again at the end, with the recorded stamps, until interrupted.
        clock_hz: rate of /clock; 0: none.
        wait_for: topics, /clock among them, that must have a subscriber before the first message is published.
        wait_seconds: timeout for these subscribers.
        best_effort: publish clouds and images best effort instead of reliable.
        depth: history depth of clouds and images, for slow reliable subscribers.
        namespace: of all topics, /clock and /tf among them: a robot of its own.

    Raises:
        PlayError: the rate is not positive.
    """

    rate: float = 1.0
    loop: bool = False
    clock_hz: float = 100.0
    wait_for: Sequence[str] = ()
    wait_seconds: float = 15.0
    best_effort: bool = False
    depth: int = 5
    namespace: str = ""

    def __post_init__(self) -> None:
        if not self.rate > 0:
            raise PlayError(f"the rate must be positive, not {self.rate}")


def play_bag(bag: str | Path, options: PlayOptions) -> PlaySummary:
    """Publish every message of a bag at its recorded time; ends after the last, or on SIGINT or SIGTERM.

    Args:
        bag: a rosbag2 folder, or an mcap or db3 file.
        options: of the replay.

    Raises:
        BagError: the bag cannot be read or is empty.
        PlayError, TransportError: as `play_source`.
    """
    with open_bag(Path(bag)) as reader:
        if not reader.message_count:
            raise BagError(f"{bag} has no messages; `ros2 bag info {shell_quote(bag)}` shows its content")
        return play_source(BagMessages(reader), options)


def play_source(source: MessageSource, options: PlayOptions) -> PlaySummary:
    """Publish the messages of a source at their times; they are prefetched in a thread.

    Raises:
        PlayError: a topic of `wait_for` is not in the source or has no subscriber in time, or no message could be published.
        TransportError: no node can be started.
        Exception: of the source.
    """
    console = Console(stderr=True)
    with stop_signals() as stop, ros_node("player") as node:
        publishers, skipped = _publishers(node, source, options)
        for topic, reason in skipped.items():
            console.print(f"{topic} is not played: {reason}", soft_wrap=True)
        clock = _clock_publisher(node, options)
        _wait_for_subscribers(publishers | ({_CLOCK: clock} if clock else {}), skipped, options, stop)
        player = _Player(publishers, clock, options, stop)
        began = time.monotonic()
        total = (source.end - source.start) / 1e9 / options.rate
        with Progress(
            TextColumn("playing"), BarColumn(), TextColumn("{task.fields[state]}"), console=console, transient=True
        ) as bar:
            task = bar.add_task("play", total=total, state="")
            while True:
                for elapsed in player.run_once(source):
                    bar.update(task, completed=elapsed, state=f"{elapsed:.1f} of {total:.1f} s, {player.sent.total()} messages")
                if not options.loop or stop.is_set():
                    break
        seconds = time.monotonic() - began
        timeout = 0.2 if stop.is_set() else 5.0
        late = tuple(topic for topic, publisher in publishers.items() if not _acknowledged(publisher, timeout))
        interrupted = stop.is_set()
    summary = PlaySummary(dict(player.sent), skipped, late, seconds, player.latest_ms, interrupted)
    _report(console, summary)
    if not summary.sent and not summary.interrupted:
        reasons = "; ".join(f"{topic}: {reason}" for topic, reason in skipped.items()) or "it has none"
        raise PlayError(f"no message was played: {reasons}")
    return summary


class _Player:
    """Publication of messages and /clock at their times."""

    def __init__(self, publishers: dict[str, Any], clock: Any, options: PlayOptions, stop: threading.Event) -> None:
        self._publishers, self._clock, self._rate, self._stop = publishers, clock, options.rate, stop
        self._clock_period = 1 / options.clock_hz if clock is not None else 0.0
        self.sent: Counter[str] = Counter()
        self.latest_ms = 0.0

    def run_once(self, source: MessageSource) -> Iterator[float]:
        """Play the source once; yields the elapsed seconds, at most ten times a second."""
        with Prefetcher(source.messages(list(self._publishers))) as read:
            yield from self._play(read, source.start, source.end)

    def _play(self, read: Iterable[tuple[int, str, bytes]], start: int, end: int) -> Iterator[float]:
        scheduled = (((t - start) / 1e9 / self._rate, 1, topic, data) for t, topic, data in read)
        first = next(scheduled, None)  # read before the clock starts
        messages = itertools.chain([first] if first else [], scheduled)
        zero, shown = time.monotonic(), 0.0
        ticks = _every(self._clock_period, (end - start) / 1e9 / self._rate) if self._clock is not None else iter(())
        # Two streams that are each in order: the heap never holds more than one message.
        for due, kind, topic, data in heapq.merge(messages, ticks, key=lambda entry: entry[:2]):
            ahead = zero + due - time.monotonic()
            if ahead > 0:
                self._stop.wait(ahead)
            if self._stop.is_set():
                return
            if kind:
                self.latest_ms = max(self.latest_ms, -ahead * 1e3)
                self._publishers[topic].publish(data)
                self.sent[topic] += 1
            else:
                self._clock.publish(Clock(clock=time_from(start + round(due * self._rate * 1e9))))
            if due - shown >= 0.1:
                shown = due
                yield due


def _every(period: float, end: float) -> Iterator[tuple[float, int, str, bytes]]:
    number = 0
    while number * period <= end:
        yield number * period, 0, _CLOCK, b""
        number += 1


def _clock_publisher(node: Node, options: PlayOptions) -> Any:
    if options.clock_hz <= 0:
        return None
    return node.create_publisher(
        Clock, _in_namespace(_CLOCK, options.namespace), QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
    )


def _publishers(node: Node, source: MessageSource, options: PlayOptions) -> tuple[dict[str, Any], dict[str, str]]:
    """Publisher per topic, and reason per topic without a publisher."""
    publishers: dict[str, Any] = {}
    skipped: dict[str, str] = {}
    for topic, name in source.topics.items():
        if topic == _CLOCK and options.clock_hz > 0:
            skipped[_CLOCK] = "the player publishes its own /clock"
        elif (kind := message_class(name)) is None:
            skipped[topic] = f"the message package of {name} is not installed"
        else:
            qos = _qos(name, source.is_latched(topic), options)
            try:
                publishers[topic] = node.create_publisher(kind, _in_namespace(topic, options.namespace), qos)
            except NameValidationException as error:  # of another tool's bag
                skipped[topic] = str(error).splitlines()[0]
    return publishers, skipped


def _in_namespace(topic: str, namespace: str) -> str:
    """Topic of a bag, with a leading slash or without, in the namespace of the replay."""
    return f"/{namespace.strip('/')}/{topic.removeprefix('/')}" if namespace.strip("/") else topic


def _qos(name: str, latched: bool, options: PlayOptions) -> QoSProfile:
    sensor = name in _SENSORS
    return QoSProfile(
        depth=options.depth if sensor else 100,
        reliability=ReliabilityPolicy.BEST_EFFORT if sensor and options.best_effort else ReliabilityPolicy.RELIABLE,
        durability=DurabilityPolicy.TRANSIENT_LOCAL if latched else DurabilityPolicy.VOLATILE,
    )


def _wait_for_subscribers(publishers: dict[str, Any], skipped: dict[str, str], options: PlayOptions, stop: threading.Event) -> None:
    wait_for = [absolute_topic(topic) for topic in options.wait_for]
    unknown = [topic for topic in wait_for if topic not in publishers]
    if unknown:
        why = "; ".join(f"{topic} ({skipped.get(topic, 'not in the bag')})" for topic in unknown)
        raise PlayError(f"cannot wait for subscribers of {why}; published topics: {', '.join(sorted(publishers))}")
    end = time.monotonic() + options.wait_seconds
    while waiting := [topic for topic in wait_for if not publishers[topic].get_subscription_count()]:
        if time.monotonic() > end:
            raise PlayError(f"no subscriber of {', '.join(waiting)} within {options.wait_seconds:g} s; start the subscriber first")
        if stop.wait(0.02):
            return
    if wait_for:
        stop.wait(0.3)  # the subscriber may not have discovered this publisher yet


def _acknowledged(publisher: Any, seconds: float) -> bool:
    """True if every reliable subscriber has acknowledged all messages; always True for a best-effort publisher."""
    return bool(publisher.wait_for_all_acked(Duration(seconds=seconds)))


def _report(console: Console, summary: PlaySummary) -> None:
    state = "interrupted" if summary.interrupted else "played"
    total = sum(summary.sent.values())
    console.print(f"{state}: {total} messages in {summary.seconds:.1f} s, at most {summary.latest_ms:.1f} ms late")
    for topic, count in sorted(summary.sent.items()):
        lost = "  (last messages not acknowledged by every subscriber)" if topic in summary.unacknowledged else ""
        console.print(f"  {count:6d}  {topic}{lost}")
