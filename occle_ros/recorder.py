"""Record topics into a bag, as they come. `python -m occle_ros.recorder OUT TOPIC...` is a process of its own."""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from threading import Event

from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rosbags.rosbag2 import Writer

from occle_ros.bag import new_bag, offered_qos
from occle_ros.bag_reader import TYPES, BagError
from occle_ros.play import message_class
from occle_ros.transport import ros_node, stop_signals

DEPTH = 1000
"""Messages per topic that wait while the disk is slow."""


def record(
    topics: Mapping[str, str | None],
    out: Path,
    stop_after: Mapping[str, int] | None = None,
    idle_timeout: float | None = None,
    best_effort: bool = False,
    discovery_timeout: float = 10.0,
) -> dict[str, int]:
    """Write messages with their receive times until SIGINT or SIGTERM; the bag appears, complete, at the end.

    Args:
        topics: topic -> message type such as "sensor_msgs/msg/PointCloud2"; None asks the graph, which loses what is
            published before the topic is found.
        out: the bag's folder; it must not exist.
        stop_after: also ends when each of these topics has brought so many messages.
        idle_timeout: also ends when nothing has come for so many seconds after the first message.
        best_effort: subscribe best effort (for publishers that are), else reliable.
        discovery_timeout: seconds to ask the graph for.

    Returns:
        Number of messages per topic.

    Raises:
        BagError: `out` exists, or a topic's type is not known or not installed.
    """
    counts: Counter[str] = Counter(dict.fromkeys(topics, 0))
    unknown = sorted(set(stop_after or ()) - set(topics))
    if unknown:
        raise BagError(f"cannot stop after messages of {', '.join(unknown)}: not among the recorded topics {', '.join(topics)}")
    with stop_signals() as stop, ros_node("recorder") as node, new_bag(out) as writer:
        last = [0.0]
        for topic, kind in topics.items():
            _subscribe(node, writer, topic, kind or _find_type(node, topic, discovery_timeout, stop), best_effort, counts, last)
        print(f"recording {', '.join(topics)}", file=sys.stderr, flush=True)
        executor = SingleThreadedExecutor(context=node.context)
        executor.add_node(node)
        while not stop.is_set():
            executor.spin_once(timeout_sec=0.1)
            if stop_after and all(counts[topic] >= number for topic, number in stop_after.items()):
                break
            if idle_timeout is not None and last[0] and time.monotonic() - last[0] > idle_timeout:
                break
        executor.shutdown()
    return dict(counts)


def _subscribe(
    node: Node, writer: Writer, topic: str, kind: str, best_effort: bool, counts: Counter[str], last: list[float]
) -> None:
    message = message_class(kind)
    if message is None or kind not in TYPES.types:
        raise BagError(f"{topic} cannot be recorded: {kind} is not an installed standard message type")
    latched = topic == "/tf_static"
    connection = writer.add_connection(topic, kind, typestore=TYPES, offered_qos_profiles=[offered_qos(latched)])

    def take(data: bytes) -> None:
        writer.write(connection, time.time_ns(), data)
        counts[topic] += 1
        last[0] = time.monotonic()

    qos = QoSProfile(
        depth=DEPTH,
        reliability=ReliabilityPolicy.BEST_EFFORT if best_effort else ReliabilityPolicy.RELIABLE,
        durability=DurabilityPolicy.TRANSIENT_LOCAL if latched else DurabilityPolicy.VOLATILE,
    )
    node.create_subscription(message, topic, take, qos, raw=True)


def _find_type(node: Node, topic: str, seconds: float, stop: Event) -> str:
    end = time.monotonic() + seconds
    known: dict[str, list[str]] = {}
    while time.monotonic() < end and not stop.is_set():
        known = dict(node.get_topic_names_and_types())
        if topic in known:
            return known[topic][0]
        stop.wait(0.05)
    raise BagError(f"{topic} has no publisher after {seconds:g} s; topics that are there: {', '.join(sorted(known)) or 'none'}")


def main(arguments: Sequence[str] | None = None) -> int:
    """The process: exit code 0 when a bag was written, 1 with a message on stderr otherwise."""
    parser = argparse.ArgumentParser("occle_ros.recorder", description="Record topics into an mcap bag until Ctrl-C.")
    parser.add_argument("out", type=Path, help="folder of the bag; must not exist")
    parser.add_argument(
        "topics", nargs="+", metavar="TOPIC[=TYPE]", help="for example /occupancy/voxels=sensor_msgs/msg/PointCloud2"
    )
    parser.add_argument("--stop-after", action="append", default=[], metavar="TOPIC=N", help="end after N messages of a topic")
    parser.add_argument("--idle", type=float, metavar="SECONDS", help="end when nothing came for so long after the first message")
    parser.add_argument("--best-effort", action="store_true", help="subscribe best effort instead of reliable")
    given = parser.parse_args(arguments)
    topics = {name: kind or None for name, _, kind in (text.partition("=") for text in given.topics)}
    try:
        stop_after = {name: int(number) for name, _, number in (text.partition("=") for text in given.stop_after)}
    except ValueError:
        parser.error(f"--stop-after wants TOPIC=N, not {given.stop_after}")
    try:
        counts = record(topics, given.out, stop_after, given.idle, given.best_effort)
    except BagError as error:
        print(f"recorder: {error}", file=sys.stderr)
        return 1
    for topic, count in counts.items():
        print(f"{count:6d}  {topic}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
