# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""The recorder's subscriptions follow every publisher, and what it loses is counted."""

from __future__ import annotations

import os
import signal
import threading
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from documented import assert_rows, rows_of
from recordings import TYPE, numbers, offers, record, talk, texts
from ros_process import wait_for_size
from rosbags.interfaces import QosDurability, QosReliability

from occle_core.bags.bag_file import open_bag
from occle_core.bags.writer import BagWriter
from occle_ros.bags.recorder_disk import WriterThread
from occle_ros.bags.recorder_topic import RecentMessages, SequenceCounter

pytestmark = [pytest.mark.ros, pytest.mark.timeout(120)]
RCLPY = int(version("rclpy").split(".")[0])
KINDS: list[str] = []
"""Ways in which a recorder finds its publishers."""
kind = rows_of(KINDS)


@kind("latched topic (transient_local publisher)")
def test_a_latched_message_from_before_is_recorded(ros_domain: int, start: Any, tmp_path: Path) -> None:
    talk(start, "/map", durability="transient_local", hz=0)
    time.sleep(0.5)
    recorder = record(start, tmp_path / "drive", topics=(f"/map={TYPE}",))
    wait_for_size(tmp_path / "drive", 500)
    recorder.interrupt()
    assert recorder.result(10) == 0, recorder.output
    assert texts(tmp_path / "drive", "/map") == ["latched"]
    assert offers(tmp_path / "drive", "/map") == [(QosReliability.RELIABLE, QosDurability.TRANSIENT_LOCAL)]


@kind("best-effort publisher")
def test_a_best_effort_driver_is_recorded(ros_domain: int, start: Any, tmp_path: Path) -> None:
    talk(start, reliability="best_effort")
    recorder = record(start, tmp_path / "drive", topics=("/t",))  # the type from the graph
    wait_for_size(tmp_path / "drive", 1500)
    recorder.interrupt()
    assert recorder.result(10) == 0, recorder.output
    assert len(numbers(tmp_path / "drive")) >= 10
    assert offers(tmp_path / "drive") == [(QosReliability.BEST_EFFORT, QosDurability.VOLATILE)]


@kind("publishers that come later, with another QoS")
def test_publishers_that_come_later_are_heard_and_nothing_comes_twice(ros_domain: int, start: Any, tmp_path: Path) -> None:
    """A latched one after the recorder has begun, then a best-effort one: two changes of the subscription."""
    recorder = record(start, tmp_path / "drive")
    latched = talk(start, durability="transient_local")
    wait_for_size(tmp_path / "drive", 1500)
    other = talk(start, reliability="best_effort", hz=50, seconds=5, size=12)
    assert other.result(20) == 0
    latched.interrupt()
    assert latched.result(10) == 0, latched.output
    recorder.interrupt()
    assert recorder.result(10) == 0, recorder.output
    for size in (10, 12):  # discovery takes from a tenth of a second to three
        got = [int(text[:6]) for text in texts(tmp_path / "drive") if len(text) == size]
        assert len(got) == len(set(got)) > 40, (size, got)
        assert size == 12 or sorted(got) == list(range(min(got), max(got) + 1)), got  # a best-effort one may lose some
    assert set(offers(tmp_path / "drive")) == {
        (QosReliability.RELIABLE, QosDurability.TRANSIENT_LOCAL),
        (QosReliability.BEST_EFFORT, QosDurability.VOLATILE),
    }
    assert "not all publishers are transient_local" in recorder.output and "lost" not in recorder.output


@kind("publisher of another type")
def test_a_publisher_of_another_type_is_reported(ros_domain: int, start: Any, tmp_path: Path) -> None:
    talk(start, "/t")
    recorder = record(start, tmp_path / "drive", topics=("/t=std_msgs/msg/Int32",))
    recorder.wait_for("recorder: /t: it is also published as std_msgs/msg/String, which is not recorded", 10)
    recorder.interrupt()
    assert recorder.result(10) == 0 and "     0  /t" in recorder.output


@kind("queue that overflows")
def test_what_does_not_fit_into_memory_is_counted(tmp_path: Path) -> None:
    """A disk that does not move while fifty messages come, and room for ten of them."""
    moves = threading.Event()
    with BagWriter(tmp_path / "drive") as writer:
        topic = writer.add_connection("/t", TYPE)

        def write(name: str, stamp: int, data: bytes) -> None:
            moves.wait(20)
            writer.write(topic, stamp, data)

        disk = WriterThread(writer, write, waiting_bytes=1000)
        taken = [disk.put("/t", number, bytes(100)) for number in range(50)]
        moves.set()
        disk.finish()
    assert disk.failure is None and sum(taken) == 10 and all(taken[:10])
    with open_bag(tmp_path / "drive") as reader:
        assert [time for _, time, _ in reader.messages()] == list(range(10))


@pytest.mark.skipif(RCLPY < 9, reason="rclpy before Kilted does not name a message's publisher")
def test_messages_that_the_middleware_drops_are_counted(ros_domain: int, start: Any, tmp_path: Path) -> None:
    """The recorder stands still while more comes than its queue of the middleware holds."""
    talk(start, reliability="best_effort", hz=2000, seconds=12)
    recorder = record(start, tmp_path / "drive")
    wait_for_size(tmp_path / "drive", 20_000)
    os.kill(recorder.pid, signal.SIGSTOP)
    time.sleep(3)
    os.kill(recorder.pid, signal.SIGCONT)
    time.sleep(2)
    recorder.interrupt()
    assert recorder.result(20) == 0, recorder.output
    got = numbers(tmp_path / "drive")
    missing = got[-1] - got[0] + 1 - len(got)
    assert missing > 500 and f"{len(got):6d}  /t  ({missing} lost)" in recorder.output
    assert recorder.output.count("recorder: /t: messages are lost") == 1


def test_sequence_numbers() -> None:
    """A late subscription to a latched topic, asked twice, with two messages that never came."""
    sequence = SequenceCounter(7)
    taken = [number for number in (7, 8, 3, 4, 5, 6, 7, 8, 9, 12, 12, 5, 13) if sequence.is_new(number)]
    assert taken == [7, 8, 3, 4, 5, 6, 9, 12, 13]
    assert sequence.take_lost() == 2 and sequence.take_lost() == 0


def test_messages_of_publishers_without_a_name() -> None:
    """Two subscriptions hear two publishers, as Jazzy's rclpy tells it; what has no source timestamp is never a duplicate."""
    recent = RecentMessages(4)
    heard = [(100, 1, 8), (100, 1, 8), (100, 1, 9), (101, 1, 8), (101, 2, 8), (100, 1, 8), (0, None, 8), (0, None, 8)]
    assert [recent.is_new(key) for key in heard] == [True, False, True, True, True, False, True, True]
    assert recent.is_new((102, None, 8)) and recent.is_new((100, 1, 8)), "the oldest is forgotten"


def test_every_kind_has_its_row() -> None:
    assert_rows("Bags, player and recorder", KINDS)
