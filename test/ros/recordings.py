# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Publishers to record, recorders, and what is in their bags."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rclpy.serialization import deserialize_message
from ros_process import Process
from rosbags.interfaces import Qos, QosDurability, QosReliability
from std_msgs.msg import String

from occle_core.bags.bag_file import open_bag

TALKER = str(Path(__file__).with_name("talker.py"))
TYPE = "std_msgs/msg/String"


def texts(bag: Path, topic: str = "/t") -> list[str]:
    with open_bag(bag) as reader:
        connections = [c for c in reader.connections if c.topic == topic]
        return [deserialize_message(data, String).data for _, _, data in reader.messages(connections)]


def numbers(bag: Path, topic: str = "/t") -> list[int]:
    return [int(text[:6]) for text in texts(bag, topic)]


def offers(bag: Path, topic: str = "/t") -> list[tuple[QosReliability, QosDurability]]:
    with open_bag(bag) as reader:
        profiles: list[Qos] = next(c.ext.offered_qos_profiles for c in reader.connections if c.topic == topic)
    return [(qos.reliability, qos.durability) for qos in profiles]


def talk(start: Any, topic: str = "/t", reliability: str = "reliable", durability: str = "volatile", hz: float = 20,
         seconds: float = 30, size: int = 10) -> Process:  # fmt: skip
    talker: Process = start(TALKER, topic, reliability, durability, str(hz), str(seconds), str(size))
    talker.wait_for("talking")
    return talker


def record(start: Any, out: Path, *options: str | Path, topics: tuple[str, ...] = (f"/t={TYPE}",)) -> Process:
    recorder: Process = start("-m", "occle_ros.cli", "record", out, *topics, *options)
    recorder.wait_for("recording /", 20)
    return recorder
