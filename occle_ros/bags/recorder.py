# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Recorder of topics into a bag.

Received messages are on disk within a fraction of a second: they survive a kill, a closed terminal and a full disk.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import Any

from rclpy.exceptions import NameValidationException
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rosbags.interfaces import Connection

from occle_core.bags.storage import TYPES, BagError
from occle_core.bags.writer import BagWriter
from occle_core.console import print_notice
from occle_ros.bags.recorder_disk import WriterThread
from occle_ros.bags.recorder_folder import recording_folder
from occle_ros.bags.recorder_topic import TopicRecorder
from occle_ros.messages.common import message_class
from occle_ros.system.ros_process import ros_node, stop_signals

_POLL_SECONDS = 0.2
"""Period of the search for new publishers."""
_DRAIN_SECONDS = 0.2
"""Time to receive what was published before the signal."""


@dataclass(frozen=True)
class RecordSummary:
    """Result of a recording.

    Args:
        messages: number of messages per topic.
        lost: number of lost messages per topic: received but not written, or missing by their sequence numbers.
    """

    messages: dict[str, int]
    lost: dict[str, int]

    def lines(self) -> list[str]:
        """A line per topic."""
        return [f"{n:6d}  {t}" + (f"  ({self.lost[t]} lost)" if self.lost[t] else "") for t, n in self.messages.items()]


def record(
    topics: Mapping[str, str | None],
    out: Path,
    idle_timeout: float | None = None,
    best_effort: bool = False,
    discovery_timeout: float = 10.0,
) -> RecordSummary:
    """Record messages with their receive times until SIGINT, SIGTERM or SIGHUP.

    Args:
        topics: topic -> message type such as "sensor_msgs/msg/PointCloud2"; None: that of the graph; messages before the
            discovery of the topic are then lost.
        out: the bag's folder; it must not exist, or hold an interrupted recording, which is then moved aside.
        idle_timeout: also ends after this many seconds without a message, counted from the first message.
        best_effort: subscribe best effort whatever the publishers offer.
        discovery_timeout: seconds to wait for the types of topics.

    Raises:
        BagError: `out` exists, a topic's type is not known or not installed, or the disk is full; what was recorded until then
            is kept. TransportError: no node can be started.
    """
    wanted = {_absolute(topic): kind for topic, kind in topics.items()}
    with stop_signals() as stop, recording_folder(out), _Recording(out) as recording, ros_node("recorder") as node:
        kinds = {topic: kind or "" for topic, kind in wanted.items()} | _find_types(node, wanted, discovery_timeout, stop)
        messages = {topic: _message_class(topic, kind) for topic, kind in kinds.items()}
        for topic, message in messages.items():
            recording.add(node, topic, kinds[topic], message, best_effort)
        print_notice(f"recording {', '.join(wanted)}")
        recording.spin(node, stop, idle_timeout)
    recording.check()
    return recording.summary()


class _Recording:
    """Topics and bag writer of a recording, as a context manager that finishes the bag."""

    def __init__(self, out: Path) -> None:
        self._writer = BagWriter(out)
        self._topics: dict[str, TopicRecorder] = {}
        self._connections: dict[str, Connection] = {}
        self._disk = WriterThread(self._writer, self._write)

    def __enter__(self) -> _Recording:
        return self

    def __exit__(self, *exception: object) -> None:
        self._disk.finish()
        try:
            with self._writer:
                for topic in self._topics:
                    self._writer.set_offered_qos(self._connection(topic), self._topics[topic].offered)
        except OSError as error:
            self._disk.failure = self._disk.failure or error
        if not self._writer.message_count and (self._disk.failure or exception[0]):
            self._writer.remove()

    def add(self, node: Node, topic: str, kind: str, message: type[Any], best_effort: bool) -> None:
        """Start to record a topic."""
        try:
            self._topics[topic] = TopicRecorder(node, topic, kind, message, self._disk.put, best_effort)
        except NameValidationException as error:
            raise BagError(f"{topic} cannot be recorded: {' '.join(str(error).split())}") from error

    def spin(self, node: Node, stop: Event, idle_timeout: float | None) -> None:
        """Receive until the signal, the timeout or a failure of the disk."""
        executor = SingleThreadedExecutor(context=node.context)
        executor.add_node(node)
        polled = time.monotonic()
        while not stop.is_set() and not self._disk.failure:
            executor.spin_once(timeout_sec=0.1)
            now = time.monotonic()
            if now - polled >= _POLL_SECONDS:
                polled = now
                for topic in self._topics.values():
                    topic.update_qos()
            last = max(topic.last for topic in self._topics.values())
            if idle_timeout is not None and last and now - last > idle_timeout:
                break
        drained = time.monotonic() + _DRAIN_SECONDS
        while stop.is_set() and time.monotonic() < drained:
            executor.spin_once(timeout_sec=0.05)
        executor.shutdown()

    def check(self) -> None:
        """Raise BagError if the disk failed; the message says what was kept."""
        error, writer = self._disk.failure, self._writer
        if error is None:
            return
        if not isinstance(error, OSError):
            raise error
        why = f"{writer.path}: recording stopped by a disk error: {error.strerror or error}"
        if not writer.message_count:
            raise BagError(f"{why}; nothing was recorded; free some space, or record to another disk") from error
        until = time.strftime("%H:%M:%S", time.localtime(writer.end / 1e9))
        kept = f"{writer.message_count} messages until {until} ({writer.size / 1e6:.1f} MB) are kept in {writer.file}"
        raise BagError(f"{why}; {kept}; free some space, or record to another disk") from error

    def summary(self) -> RecordSummary:
        """Counts of all topics."""
        topics = self._topics.items()
        return RecordSummary({name: topic.count for name, topic in topics}, {name: topic.lost for name, topic in topics})

    def _write(self, topic: str, stamp: int, data: bytes) -> None:
        self._writer.write(self._connection(topic), stamp, data)

    def _connection(self, topic: str) -> Connection:
        """Connection of a topic, created at the first message, when the publisher's QoS is known."""
        if topic not in self._connections:
            recorder = self._topics[topic]
            self._connections[topic] = self._writer.add_connection(topic, recorder.kind, offered_qos_profiles=recorder.offered)
        return self._connections[topic]


def _absolute(topic: str) -> str:
    return topic if topic.startswith("/") else f"/{topic}"


def _message_class(topic: str, kind: str) -> type[Any]:
    message = message_class(kind)
    if message is None or kind not in TYPES.types:
        raise BagError(f"{topic} cannot be recorded: {kind} is not an installed standard message type; leave it out")
    return message


def _find_types(node: Node, topics: Mapping[str, str | None], seconds: float, stop: Event) -> dict[str, str]:
    """Types in the graph of the topics that were given without one."""
    end = time.monotonic() + seconds
    while True:
        known = dict(node.get_topic_names_and_types())
        missing = [topic for topic, kind in topics.items() if kind is None and topic not in known]
        if not missing:
            return {topic: known[topic][0] for topic, kind in topics.items() if kind is None}
        if stop.wait(0.05):
            raise KeyboardInterrupt
        if time.monotonic() > end:
            break
    there = ", ".join(sorted(known)) or "none"
    raise BagError(
        f"{', '.join(missing)} has no publisher after {seconds:g} s; published topics: {there}; with its type "
        f"({missing[0]}=PACKAGE/msg/TYPE) a topic is recorded from its first publisher on"
    )
