# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""What is in a bag, and the same bag in another format."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml
from bag_frames import bag_frames
from node_rig import SECOND
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer

from occle_core.bags.bag_file import open_bag
from occle_core.bags.storage import TYPES

FRAMES = 4
STAMPS = [SECOND + number * SECOND // 10 for number in range(FRAMES)]
Content = list[tuple[str, int, bytes]]


def content(bag: Path) -> Content:
    with open_bag(bag) as reader:
        return [(connection.topic, time, data) for connection, time, data in reader.messages()]


def types(bag: Path) -> dict[str, str]:
    with open_bag(bag) as reader:
        return {connection.topic: connection.msgtype for connection in reader.connections}


def stamps(bag: Path) -> list[int]:
    return [frame.stamp for frame in bag_frames(bag)]


def metadata(bag: Path) -> dict[str, Any]:
    return yaml.safe_load((bag / "metadata.yaml").read_text())["rosbag2_bagfile_information"]


def set_metadata(bag: Path, change: Callable[[dict[str, Any]], None]) -> None:
    info = metadata(bag)
    change(info)
    (bag / "metadata.yaml").write_text(yaml.safe_dump({"rosbag2_bagfile_information": info}))


def converted(source: Path, out: Path, plugin: StoragePlugin, mode: CompressionMode = CompressionMode.NONE) -> Path:
    """The same bag as rosbags writes it."""
    writer = Writer(out, version=9, storage_plugin=plugin)
    writer.set_compression(mode, CompressionFormat.ZSTD)
    with writer, open_bag(source) as reader:
        topics = {c.topic: writer.add_connection(c.topic, c.msgtype, typestore=TYPES) for c in reader.connections}
        for connection, time, data in reader.messages():
            writer.write(topics[connection.topic], time, data)
    shutil.copy(source / "calibration.yaml", out)
    return out
