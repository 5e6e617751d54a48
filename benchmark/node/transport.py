# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Latency and loss of clouds and images between two processes: `python -m benchmark.node.transport`.

A sender in a process of its own sends what a KITTI or nuScenes rig sends, best effort and reliable, with and without the shared
memory profile; printed are the messages that arrived and their latency.
"""

from __future__ import annotations

import argparse
import os
import struct
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.qos import QoSProfile
from rclpy.serialization import serialize_message
from rclpy.signals import SignalHandlerOptions
from sensor_msgs.msg import Image

from occle_core.paths import share_file
from occle_ros.system.environment import PROFILE_VARIABLES, profile_variable
from occle_ros.topics.qos import qos_profile


@dataclass(frozen=True)
class Payload:
    """Messages of a rig: `size` bytes on each of `count` topics, `hz` times a second."""

    name: str
    size: int
    hz: float
    count: int = 1


PAYLOADS = (
    Payload("KITTI scan, 120k points", 1_920_000, 10),
    Payload("nuScenes scan, 35k points", 694_000, 20),
    Payload("KITTI image, 1242 x 375", 1242 * 375 * 3, 10),
    Payload("6 images, 1600 x 900", 1600 * 900 * 3, 12, 6),
    Payload("6 JPEG images", 180_000, 12, 6),
)


@dataclass(frozen=True)
class Arrived:
    """Messages received of those sent, and the median of their latency (NaN: nothing came)."""

    received: int
    sent: int
    latency_ms: float


def measure(payload: Payload, reliability: str, shared_memory: bool, seconds: float) -> Arrived:
    """Receive what a child process sends.

    Args:
        payload: what.
        reliability: "reliable" or "best_effort", of both sides.
        shared_memory: with config/fastdds_shm.xml on both sides, else with Fast DDS's defaults.
        seconds: how long it sends.
    """
    for name in PROFILE_VARIABLES:
        os.environ.pop(name, None)
    if shared_memory:
        os.environ[profile_variable()] = str(share_file("config/fastdds_shm.xml"))
    latencies: list[float] = []

    def take(raw: bytes) -> None:
        latencies.append((time.time_ns() - stamp_of(raw)) / 1e6)

    context = rclpy.Context()
    rclpy.init(context=context, signal_handler_options=SignalHandlerOptions.NO)
    node = rclpy.create_node("receiver", context=context)
    executor = SingleThreadedExecutor(context=context)
    executor.add_node(node)
    for topic in topics(payload.count):
        node.create_subscription(Image, topic, take, profile(reliability), raw=True)
    numbers = [str(number) for number in (payload.size, payload.hz, payload.count, seconds)]
    sender = subprocess.Popen(
        [sys.executable, "-m", "benchmark.node.transport", "--send", reliability, *numbers], stdout=subprocess.PIPE
    )
    while sender.poll() is None:
        executor.spin_once(timeout_sec=0.05)
    end = time.monotonic() + 1
    while time.monotonic() < end:
        executor.spin_once(timeout_sec=0.05)
    executor.shutdown()
    node.destroy_node()
    rclpy.shutdown(context=context)
    assert sender.stdout is not None
    return Arrived(len(latencies), int(sender.stdout.read()), median(latencies) if latencies else float("nan"))


def send(reliability: str, size: int, hz: float, count: int, seconds: float) -> int:
    """The other side: sends when somebody listens; returns the number of messages."""
    rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
    node = rclpy.create_node("sender")
    publishers = [node.create_publisher(Image, topic, profile(reliability)) for topic in topics(count)]
    data = bytearray(serialize_message(Image(height=1, width=size, step=size, encoding="mono8", data=bytes(size))))
    end = time.monotonic() + 10
    while not all(publisher.get_subscription_count() for publisher in publishers) and time.monotonic() < end:
        time.sleep(0.02)
    time.sleep(0.3)
    began, sent = time.monotonic(), 0
    for tick in range(int(seconds * hz)):
        time.sleep(max(0.0, began + tick / hz - time.monotonic()))
        for publisher in publishers:
            struct.pack_into("<iI", data, 4, *divmod(time.time_ns(), 1_000_000_000))
            publisher.publish(bytes(data))
            sent += 1
    time.sleep(1.0)
    node.destroy_node()
    rclpy.shutdown()
    return sent


def topics(count: int) -> list[str]:
    """A topic for each of the messages of one instant."""
    return [f"/payload_{number}" for number in range(count)]


def profile(reliability: str) -> QoSProfile:
    """As the node's inputs."""
    return qos_profile(reliability, 5)


def stamp_of(raw: bytes) -> int:
    """Nanoseconds, of a serialised message that begins with its header."""
    seconds, nanoseconds = struct.unpack_from("<iI", raw, 4)
    return int(seconds) * 1_000_000_000 + int(nanoseconds)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print a table in Markdown."""
    parser = argparse.ArgumentParser(prog="python -m benchmark.node.transport", description="What the transport costs.")
    parser.add_argument("--seconds", type=float, default=3.0, help="of each measurement")
    parser.add_argument("--only", default="", help="payloads whose name contains this")
    parser.add_argument("--send", nargs=5, help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    if given.send:
        reliability, size, hz, count, seconds = given.send
        print(send(reliability, int(size), float(hz), int(count), float(seconds)))
        return 0
    os.environ.setdefault("ROS_DOMAIN_ID", str(1 + os.getpid() % 100))
    print("received/sent (median latency, ms)\n")
    print("| payload | default, best effort | default, reliable | shared memory, best effort | shared memory, reliable |")
    print("|---|---|---|---|---|")
    for payload in PAYLOADS:
        if given.only in payload.name:
            cells = []
            for shared_memory in (False, True):
                for reliability in ("best_effort", "reliable"):
                    found = measure(payload, reliability, shared_memory, given.seconds)
                    cells.append(f"{found.received}/{found.sent} ({found.latency_ms:.1f})")
            print(f"| {payload.name}, {payload.hz:g} Hz | {' | '.join(cells)} |", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
