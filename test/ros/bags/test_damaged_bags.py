# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Bags that are damaged or foreign: refused with one line, or read as far as they can be, with a line."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest
from bag_files import STAMPS, Content, content, converted, set_metadata, stamps, types
from bag_frames import bag_frames
from documented import assert_rows
from mcap.writer import CompressionType
from mcap.writer import Writer as OfficialWriter
from rosbags.rosbag2 import CompressionMode, StoragePlugin
from typer.testing import CliRunner

from occle_core import console
from occle_core.bags.bag_file import open_bag
from occle_core.bags.storage import BagError
from occle_core.bags.writer import BagWriter
from occle_ros.cli import app


def without_messages(bag: Path) -> None:
    """The storage is empty, the metadata says twelve."""
    info = (bag / "metadata.yaml").read_text()
    shutil.rmtree(bag)
    with BagWriter(bag) as writer:
        writer.add_connection("/lidar/points", "sensor_msgs/msg/PointCloud2")
    (bag / "metadata.yaml").write_text(info)


def cut_db3(bag: Path) -> None:
    make_db3(bag)
    file = bag / "drive.db3"
    file.write_bytes(file.read_bytes()[:-5000])


def make_db3(bag: Path) -> None:
    made = converted(bag, bag.parent / "made", StoragePlugin.SQLITE3)
    shutil.rmtree(bag)
    made.rename(bag)
    (bag / "made.db3").rename(bag / "drive.db3")
    set_metadata(bag, lambda info: info.update(relative_file_paths=["drive.db3"]))


def overwrite_db3(bag: Path) -> None:
    make_db3(bag)
    data = bytearray((bag / "drive.db3").read_bytes())
    data[len(data) // 2 : len(data) // 2 + 8192] = b"\xff" * 8192
    (bag / "drive.db3").write_bytes(data)


def foreign_db3(bag: Path) -> None:
    make_db3(bag)
    (bag / "drive.db3").unlink()
    with sqlite3.connect(bag / "drive.db3") as database:
        database.execute("CREATE TABLE places (name TEXT)")


def zstd_chunk(bag: Path) -> None:
    made = converted(bag, bag.parent / "made", StoragePlugin.MCAP, CompressionMode.STORAGE)
    data = bytearray((made / "made.mcap").read_bytes())
    at = data.find(b"\x28\xb5\x2f\xfd")
    data[at + 4 : at + 40] = b"\xff" * 36
    (bag / "drive.mcap").write_bytes(data)


def zstd_file(bag: Path) -> None:
    made = converted(bag, bag.parent / "made", StoragePlugin.MCAP, CompressionMode.FILE)
    shutil.rmtree(bag)
    made.rename(bag)
    data = bytearray((bag / "made.mcap.zstd").read_bytes())
    data[4:40] = b"\xff" * 36
    (bag / "made.mcap.zstd").write_bytes(data)


def zstd_message(bag: Path) -> None:
    """Metadata that says the messages are compressed, and they are not."""
    set_metadata(bag, lambda info: info.update(compression_mode="MESSAGE", compression_format="zstd"))


def overwrite_chunk(bag: Path) -> None:
    data = bytearray((bag / "drive.mcap").read_bytes())
    at = data.find(b"velodyne")
    data[at : at + 8] = b"VELODYNE"  # a legal message, which only the checksum can tell from the right one
    (bag / "drive.mcap").write_bytes(data)


def short_message(bag: Path) -> None:
    messages = content(bag)
    rewrite(bag, [(topic, time, data[:40] if time == STAMPS[2] and "points" in topic else data) for topic, time, data in messages])


def rewrite(bag: Path, messages: Content) -> None:
    kinds = types(bag)
    (bag / "drive.mcap").unlink()
    (bag / "metadata.yaml").unlink()
    with BagWriter(bag / "new") as writer:
        topics = {topic: writer.add_connection(topic, kind) for topic, kind in kinds.items()}
        for topic, time, data in messages:
            writer.write(topics[topic], time, data)
    (bag / "new" / "new.mcap").rename(bag / "drive.mcap")
    shutil.rmtree(bag / "new")


def foreign_mcap(bag: Path) -> None:
    (bag / "drive.mcap").write_bytes(b"PK\x03\x04" * 100)


def empty_file(bag: Path) -> None:
    (bag / "drive.mcap").write_bytes(b"")


def missing_file(bag: Path) -> None:
    (bag / "drive.mcap").rename(bag / "renamed.mcap")


def no_files(bag: Path) -> None:
    (bag / "drive.mcap").unlink()
    (bag / "metadata.yaml").unlink()


def two_formats(bag: Path) -> None:
    (bag / "metadata.yaml").unlink()
    (bag / "drive.db3").write_bytes(b"x")


def other_storage(bag: Path) -> None:
    (bag / "drive.mcap").rename(bag / "drive.bin")
    set_metadata(bag, lambda info: info.update(relative_file_paths=["drive.bin"], storage_identifier="mine"))


def ros1_channels(bag: Path) -> None:
    (bag / "metadata.yaml").unlink()
    with (bag / "drive.mcap").open("wb") as file:
        writer = OfficialWriter(file, compression=CompressionType.NONE)
        writer.start("ros1")
        schema = writer.register_schema("sensor_msgs/PointCloud2", "ros1msg", b"uint8[] data")
        writer.add_message(writer.register_channel("/lidar/points", "ros1", schema), 1, b"x", 1)
        writer.finish()


def cut_before_the_first_message(bag: Path) -> None:
    (bag / "drive.mcap").write_bytes((bag / "drive.mcap").read_bytes()[:60])


REFUSED: dict[str, tuple[Callable[[Path], None], str]] = {
    "storage without messages, metadata.yaml with": (without_messages, r"(lacks|has no message)"),
    "cut off db3": (cut_db3, r"drive.db3 is cut off: it has \d+ of \d+ bytes; .*recover"),
    "damaged db3": (overwrite_db3, r"drive.db3 is damaged: database disk image is malformed; .*recover"),
    "SQLite database that is no bag": (foreign_db3, r"is an SQLite database but not a bag"),
    "damaged zstd chunk": (zstd_chunk, r"drive.mcap is damaged at byte \d+: zstd cannot decompress it .*`mcap recover"),
    "damaged zstd file": (zstd_file, r"made.mcap.zstd is damaged: zstd cannot decompress it"),
    "message that is not zstd where the bag says so": (zstd_message, r"is damaged: the message of \S+ at \d+ ns is not zstd"),
    "overwritten chunk": (overwrite_chunk, r"drive.mcap is damaged at byte \d+: its checksum does not fit; `mcap recover"),
    "message shorter than its type": (short_message, r"the message of /lidar/points at \d+ ns is no sensor_msgs/msg/PointCloud2"),
    "foreign file named .mcap": (foreign_mcap, r"drive.mcap is not an mcap file: it begins with b'PK"),
    "file of zero bytes": (empty_file, r"drive.mcap is empty \(0 bytes\)"),
    "metadata.yaml that names missing files": (missing_file, r"lacks drive.mcap .* there is renamed.mcap; .*ros2 bag reindex"),
    "folder without storage and metadata.yaml": (no_files, r"is not a rosbag2 folder: it has no metadata.yaml"),
    "folder with mcap and db3 and no metadata.yaml": (two_formats, r"its files are drive.db3, drive.mcap; `ros2 bag reindex"),
    "storage of another format": (other_storage, r"files that are neither mcap nor db3: drive.bin; convert it"),
    "mcap of ROS 1": (ros1_channels, r"has no ROS 2 messages: /lidar/points .*ros1.*`rosbags-convert`"),
    "mcap that is cut off before its first message": (cut_before_the_first_message, r"is cut off after 60 bytes: no message"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_cannot_be_read_is_one_line(bag: Path, kind: str, tmp_path: Path) -> None:
    damage, message = REFUSED[kind]
    damage(bag)
    with pytest.raises(BagError, match=message) as caught:
        list(bag_frames(bag))
    assert "\n" not in str(caught.value) or "its topics are" in str(caught.value)
    before = sorted(tmp_path.rglob("*"))
    words = ["run", "--bag", str(bag), "--out", str(tmp_path / "out"), "--pictures", "0", "--engine", "torch"]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 1 and "error: " in result.stderr and "Traceback" not in result.output
    assert sorted(tmp_path.rglob("*")) == before, "something was left behind"


def garbage_metadata(bag: Path) -> None:
    (bag / "metadata.yaml").write_bytes(b"\x00\xff{[" * 50)


def empty_metadata(bag: Path) -> None:
    (bag / "metadata.yaml").write_bytes(b"")


def list_metadata(bag: Path) -> None:
    (bag / "metadata.yaml").write_text("- 1\n- 2\n")


def deep_metadata(bag: Path) -> None:
    (bag / "metadata.yaml").write_text("[" * 5000)


def half_metadata(bag: Path) -> None:
    text = (bag / "metadata.yaml").read_text()
    (bag / "metadata.yaml").write_text(text[: text.index("relative_file_paths")])


def later_metadata(bag: Path) -> None:
    set_metadata(bag, lambda info: info.update(version=12))


def no_metadata(bag: Path) -> None:
    (bag / "metadata.yaml").unlink()


def extra_file(bag: Path) -> None:
    shutil.copy(bag / "drive.mcap", bag / "drive_1.mcap")


def json_channel(bag: Path) -> None:
    """A JSON topic beside the others, written by the official library."""
    with open_bag(bag) as reader:
        given = [(c, time, data) for c, time, data in reader.messages()]
    (bag / "metadata.yaml").unlink()
    with (bag / "drive.mcap").open("wb") as file:
        writer = OfficialWriter(file, compression=CompressionType.LZ4)
        writer.start("ros2")
        schema = writer.register_schema("Event", "jsonschema", b'{"type":"object"}')
        writer.add_message(writer.register_channel("/events", "json", schema), STAMPS[0], b"{}", 0)
        idl = writer.register_schema("geometry_msgs/msg/Point", "ros2idl", b"module geometry_msgs {}")
        writer.add_message(writer.register_channel("/point", "cdr", idl), STAMPS[0], b"\0\1\0\0" + bytes(24), 0)
        writer.add_message(writer.register_channel("/raw", "", 0), STAMPS[0], b"x", 0)
        channels: dict[str, int] = {}
        for connection, time, data in given:
            if connection.topic not in channels:
                schema = writer.register_schema(connection.msgtype, "ros2msg", connection.msgdef.data.encode())
                channels[connection.topic] = writer.register_channel(connection.topic, "cdr", schema)
            writer.add_message(channels[connection.topic], time, data, time)
        writer.finish()


def unknown_type(bag: Path) -> None:
    """A type of somebody's own beside the others."""
    make_db3(bag)
    with sqlite3.connect(bag / "drive.db3") as database:
        database.execute("INSERT INTO topics SELECT 99, '/mine', 'my_msgs/msg/Mine', 'cdr', '', '' FROM topics LIMIT 1")
        database.execute("INSERT INTO messages VALUES (999, 99, ?, ?)", (STAMPS[0], b"\0\1\0\0"))
    set_metadata(bag, lambda info: info.update(topics_with_message_count=[], message_count=0))
    (bag / "metadata.yaml").unlink()


READ: dict[str, tuple[Callable[[Path], None], str]] = {
    "metadata.yaml that is garbage": (garbage_metadata, "has a metadata.yaml that is not YAML"),
    "metadata.yaml that is empty": (empty_metadata, "has a metadata.yaml that is empty; drive.mcap is read without"),
    "metadata.yaml that is something else": (list_metadata, "has a metadata.yaml that is damaged"),
    "metadata.yaml that is nested without end": (deep_metadata, "has a metadata.yaml that is not YAML"),
    "metadata.yaml that is cut off": (half_metadata, "has a metadata.yaml that is damaged (KeyError: 'relative_file_paths')"),
    "metadata.yaml of a later version": (later_metadata, "has a metadata.yaml that has version 12, and 9 is the newest"),
    "no metadata.yaml": (no_metadata, "has no metadata.yaml; drive.mcap is read without"),
    "file that metadata.yaml does not name": (extra_file, "drive_1.mcap is not read: its metadata.yaml does not name it"),
    "channel that is not CDR": (json_channel, "/events is left out: its messages are json, not CDR"),
    "unknown message type": (unknown_type, "has no metadata.yaml"),
}


@pytest.mark.parametrize("kind", READ)
def test_what_can_be_read_is_read_and_the_rest_is_said_once(bag: Path, kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    damage, message = READ[kind]
    damage(bag)
    console.print_notice_once.cache_clear()
    capsys.readouterr()
    assert stamps(bag) == STAMPS
    err = capsys.readouterr().err
    assert message in err and err.count(message) == 1 and "Traceback" not in err


def test_every_kind_has_its_row() -> None:
    assert_rows("Bags, player and recorder", [*REFUSED, *READ])
