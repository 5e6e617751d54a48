# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Copies of a bag in other storages, with topics left out or changed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from rosbags.rosbag1 import Writer as Ros1Writer
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.rosbag2.enums import CompressionFormat, CompressionMode
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

from occle_core.bags.bag_file import open_bag
from occle_core.bags.new_bag import new_bag
from occle_core.bags.storage import TYPES

Change = Callable[[str, Any], Any]


def copy_bag(
    source: Path, out: Path, drop: tuple[str, ...] = (), change: Change = lambda topic, message: message, namespace: str = ""
) -> Path:
    """An mcap bag of the messages of the topics that do not begin with one of `drop`, each changed; None leaves one out.

    All topics are in the namespace.
    """
    with open_bag(source) as bag, new_bag(out) as writer:
        connections: dict[str, Any] = {}
        for connection, time, data in bag.messages([each for each in bag.connections if not each.topic.startswith(drop or ("?",))]):
            message = change(connection.topic, TYPES.deserialize_cdr(data, connection.msgtype))
            if message is None:
                continue
            kind = message.__msgtype__
            if connection.topic not in connections:
                connections[connection.topic] = writer.add_connection(namespace + connection.topic, kind, typestore=TYPES)
            writer.write(connections[connection.topic], time, bytes(TYPES.serialize_cdr(message, kind)))
    return out


def as_sqlite(source: Path, out: Path) -> Path:
    return _rosbag2(source, Writer(out, version=9, storage_plugin=StoragePlugin.SQLITE3), out)


def as_compressed_mcap(source: Path, out: Path) -> Path:
    writer = Writer(out, version=9, storage_plugin=StoragePlugin.MCAP)
    writer.set_compression(CompressionMode.STORAGE, CompressionFormat.ZSTD)
    return _rosbag2(source, writer, out)


def as_ros1(source: Path, out: Path) -> Path:
    """With ROS 1's own types: their Header has a seq."""
    types = get_typestore(Stores.ROS1_NOETIC)
    types.register(get_types_from_msg("geometry_msgs/TransformStamped[] transforms", "tf2_msgs/msg/TFMessage"))
    file = out.with_suffix(".bag")
    with open_bag(source) as bag, Ros1Writer(file) as writer:
        connections = {each.topic: writer.add_connection(each.topic, each.msgtype, typestore=types) for each in bag.connections}
        for connection, time, data in bag.messages():
            message = _with_sequence(TYPES.deserialize_cdr(data, connection.msgtype), types)
            writer.write(connections[connection.topic], time, types.serialize_ros1(message, connection.msgtype))
    return file


def _with_sequence(message: Any, types: Any) -> Any:
    kind = getattr(message, "__msgtype__", "")
    if not kind:
        return [_with_sequence(each, types) for each in message] if isinstance(message, list) else message
    fields = {name: _with_sequence(getattr(message, name), types) for name in message.__dataclass_fields__ if name != "__msgtype__"}
    if kind == "std_msgs/msg/Header":
        fields["seq"] = 0
    if kind == "sensor_msgs/msg/CameraInfo":
        fields = {name.upper() if name in "dkrp" else name: value for name, value in fields.items()}
    return types.types[kind](**fields)


def _rosbag2(source: Path, writer: Any, out: Path) -> Path:
    with open_bag(source) as bag, writer:
        connections = {each.topic: writer.add_connection(each.topic, each.msgtype, typestore=TYPES) for each in bag.connections}
        for connection, time, data in bag.messages():
            writer.write(connections[connection.topic], time, data)
    return out
