"""Record topics into a bag, as they come. `python -m occle_ros.bags.recorder OUT TOPIC...` is a process of its own.

The bag is in its folder from the first second on: what has been received survives a kill, a closed terminal and a full disk.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Mapping, Sequence
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
from occle_core.output_folder import OutputError
from occle_core.paths import expand_home
from occle_ros.bags.recorder_disk import DiskThread
from occle_ros.bags.recorder_folder import recording_folder
from occle_ros.bags.recorder_topic import TopicRecorder
from occle_ros.messages.common import message_class
from occle_ros.system.environment import TransportError
from occle_ros.system.ros_process import ros_node, stop_signals

_LOOK_SECONDS = 0.2
"""How often the recorder looks for new publishers."""
_DRAIN_SECONDS = 0.2
"""What was sent before the signal may still wait in the middleware."""


@dataclass(frozen=True)
class RecordSummary:
    """What was recorded.

    Args:
        messages: number of messages per topic.
        lost: number of messages per topic that came but could not be kept, or whose sequence numbers are missing.
    """

    messages: dict[str, int]
    lost: dict[str, int]

    def lines(self) -> list[str]:
        """A line per topic."""
        return [f"{n:6d}  {t}" + (f"  ({self.lost[t]} lost)" if self.lost[t] else "") for t, n in self.messages.items()]


def record(
    topics: Mapping[str, str | None],
    out: Path,
    stop_after: Mapping[str, int] | None = None,
    idle_timeout: float | None = None,
    best_effort: bool = False,
    discovery_timeout: float = 10.0,
) -> RecordSummary:
    """Write messages with their receive times until SIGINT, SIGTERM or SIGHUP.

    Args:
        topics: topic -> message type such as "sensor_msgs/msg/PointCloud2"; None asks the graph, which loses what is
            published before the topic is found.
        out: the bag's folder; it must not exist, or hold an interrupted recording, which is then moved aside.
        stop_after: also ends when each of these topics has brought so many messages.
        idle_timeout: also ends when nothing has come for so many seconds after the first message.
        best_effort: subscribe best effort whatever the publishers offer.
        discovery_timeout: seconds to ask the graph for.

    Raises:
        BagError: `out` exists, a topic's type is not known or not installed, or the disk is full; what was recorded until then
            is kept. TransportError: no node can be started.
    """
    wanted = {_absolute(topic): kind for topic, kind in topics.items()}
    limits = {_absolute(topic): number for topic, number in (stop_after or {}).items()}
    if unknown := sorted(set(limits) - set(wanted)):
        raise BagError(f"cannot stop after messages of {', '.join(unknown)}: not among the recorded topics {', '.join(wanted)}")
    with stop_signals() as stop, recording_folder(out), _Recording(out) as recording, ros_node("recorder") as node:
        kinds = {topic: kind or "" for topic, kind in wanted.items()} | _find_types(node, wanted, discovery_timeout, stop)
        messages = {topic: _message_class(topic, kind) for topic, kind in kinds.items()}
        for topic, message in messages.items():
            recording.add(node, topic, kinds[topic], message, best_effort)
        print_notice(f"recording {', '.join(wanted)}")
        recording.spin(node, stop, limits, idle_timeout)
    recording.check()
    return recording.summary()


class _Recording:
    """The topics and the bag of a recording; the bag is finished at the end of the `with`."""

    def __init__(self, out: Path) -> None:
        self._writer = BagWriter(out)
        self._topics: dict[str, TopicRecorder] = {}
        self._connections: dict[str, Connection] = {}
        self._disk = DiskThread(self._writer, self._write)

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
        """Begin to record a topic."""
        try:
            self._topics[topic] = TopicRecorder(node, topic, kind, message, self._disk.put, best_effort)
        except NameValidationException as error:
            raise BagError(f"{topic} cannot be recorded: {' '.join(str(error).split())}") from error

    def spin(self, node: Node, stop: Event, limits: Mapping[str, int], idle_timeout: float | None) -> None:
        """Receive until something ends the recording."""
        executor = SingleThreadedExecutor(context=node.context)
        executor.add_node(node)
        looked = time.monotonic()
        while not stop.is_set() and not self._disk.failure:
            executor.spin_once(timeout_sec=0.1)
            now = time.monotonic()
            if now - looked >= _LOOK_SECONDS:
                looked = now
                for topic in self._topics.values():
                    topic.follow()
            if limits and all(self._topics[topic].count >= number for topic, number in limits.items()):
                break
            last = max(topic.last for topic in self._topics.values())
            if idle_timeout is not None and last and now - last > idle_timeout:
                break
        drained = time.monotonic() + _DRAIN_SECONDS
        while stop.is_set() and time.monotonic() < drained:
            executor.spin_once(timeout_sec=0.05)
        executor.shutdown()

    def check(self) -> None:
        """Raise BagError where the disk failed, with what is kept."""
        error, writer = self._disk.failure, self._writer
        if error is None:
            return
        if not isinstance(error, OSError):
            raise error
        why = f"{writer.path}: the recording ended, the disk says: {error.strerror or error}"
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
        """Made at the first message: by then it is known what its publisher offers."""
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
    """The types of the topics that come without one, as the graph knows them."""
    end = time.monotonic() + seconds
    while True:
        known = dict(node.get_topic_names_and_types())
        missing = [topic for topic, kind in topics.items() if kind is None and topic not in known]
        if not missing:
            return {topic: known[topic][0] for topic, kind in topics.items() if kind is None}
        if time.monotonic() > end or stop.wait(0.05):
            break
    there = ", ".join(sorted(known)) or "none"
    raise BagError(
        f"{', '.join(missing)} has no publisher after {seconds:g} s; topics that are there: {there}; with its type "
        f"({missing[0]}=PACKAGE/msg/TYPE) a topic is recorded from its first publisher on"
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """The process: exit code 0 when a bag was written, 1 with a message on stderr otherwise."""
    parser = argparse.ArgumentParser("occle_ros.bags.recorder", description="Record topics into an mcap bag until Ctrl-C.")
    parser.add_argument("out", type=expand_home, help="folder of the bag; must not exist")
    parser.add_argument(
        "topics", nargs="+", metavar="TOPIC[=TYPE]", help="for example /occupancy/voxels=sensor_msgs/msg/PointCloud2"
    )
    parser.add_argument("--stop-after", action="append", default=[], metavar="TOPIC=N", help="end after N messages of a topic")
    parser.add_argument("--idle", type=float, metavar="SECONDS", help="end when nothing came for so long after the first message")
    parser.add_argument("--best-effort", action="store_true", help="subscribe best effort whatever the publishers offer")
    given = parser.parse_args(arguments)
    topics = {name: kind or None for name, _, kind in (text.partition("=") for text in given.topics)}
    try:
        stop_after = {name: int(number) for name, _, number in (text.partition("=") for text in given.stop_after)}
    except ValueError:
        parser.error(f"--stop-after wants TOPIC=N, not {given.stop_after}")
    try:
        summary = record(topics, given.out, stop_after, given.idle, given.best_effort)
    except (BagError, OutputError, TransportError, OSError) as error:
        print_notice(f"recorder: {error}")
        return 1
    for line in summary.lines():
        print_notice(line)
    return 0


if __name__ == "__main__":
    sys.exit(main())
