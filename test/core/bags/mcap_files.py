# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""mcap files by our writer and reader, and by those of the format's official library."""

from __future__ import annotations

from pathlib import Path

from mcap.reader import make_reader
from mcap.writer import Writer as OfficialWriter

from occle_core.bags.mcap_reader import McapFile
from occle_core.bags.writer import BagWriter

Content = list[tuple[str, int, bytes]]


def read(path: Path, topics: set[str] | None = None) -> Content:
    """(topic, time, data) as our reader gives them."""
    file = McapFile(path)
    try:
        numbers = [number for number, channel in file.channels.items() if topics is None or channel.topic in topics]
        return [(file.channels[number].topic, time, data) for number, time, data in file.messages(numbers)]
    finally:
        file.close()


def official(path: Path) -> Content:
    """The same from the official library, checksums and all."""
    with path.open("rb") as file:
        return [(c.topic, m.log_time, m.data) for _, c, m in make_reader(file, validate_crcs=True).iter_messages()]


def write(bag: Path, content: Content, flush_every: int = 0) -> Path:
    """The mcap file of a new bag."""
    with BagWriter(bag) as writer:
        topics = {}
        for at, (topic, time, data) in enumerate(content):
            if topic not in topics:
                topics[topic] = writer.add_connection(topic, "std_msgs/msg/String")
            writer.write(topics[topic], time, data)
            if flush_every and at % flush_every == flush_every - 1:
                writer.flush()
    return writer.file


def write_official(path: Path, content: Content, **options: object) -> None:
    with path.open("wb") as file:
        writer = OfficialWriter(file, **options)  # type: ignore[arg-type]
        writer.start("ros2", "other")
        channels: dict[str, int] = {}
        for topic, time, data in content:
            if topic not in channels:
                schema = writer.register_schema("demo_msgs/msg/T", "ros2msg", b"uint8[] data")
                channels[topic] = writer.register_channel(topic, "cdr", schema)
            writer.add_message(channels[topic], time, data, time)
        writer.finish()


DRIVE: Content = [
    (topic, 10**18 + i * 10**8 + k, bytes([i, k]) * (20 + 7 * k)) for i in range(12) for k, topic in enumerate(("/a", "/b/ü", "/c"))
]
