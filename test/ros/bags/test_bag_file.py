# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Bags as they are found: with a metadata.yaml that says something else, mixed with other tools' topics, killed, or damaged."""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from bag_frames import bag_frames
from documented import assert_rows
from hypothesis import given
from hypothesis import strategies as st
from mcap.writer import CompressionType
from mcap.writer import Writer as OfficialWriter
from node_rig import SECOND, write_bag
from rclpy.serialization import deserialize_message
from rosbags.interfaces import QosDurability, QosReliability
from rosbags.rosbag2 import CompressionFormat, CompressionMode, Reader, StoragePlugin, Writer
from sensor_msgs.msg import PointCloud2
from typer.testing import CliRunner

from occle_core import console
from occle_core.bags.bag_file import open_bag
from occle_core.bags.storage import TYPES, BagError
from occle_core.bags.writer import BagWriter
from occle_ros.bags.reader import BagReader
from occle_ros.cli import app

FRAMES = 4
STAMPS = [SECOND + number * SECOND // 10 for number in range(FRAMES)]
Content = list[tuple[str, int, bytes]]


@pytest.fixture(scope="module")
def drive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bag of four frames."""
    return write_bag(tmp_path_factory.mktemp("drive") / "drive", STAMPS)


@pytest.fixture
def bag(drive: Path, tmp_path: Path) -> Path:
    """A copy to damage."""
    console.print_notice_once.cache_clear()
    return Path(shutil.copytree(drive, tmp_path / "drive"))


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


FORMATS = [
    (StoragePlugin.MCAP, CompressionMode.NONE),
    (StoragePlugin.MCAP, CompressionMode.STORAGE),
    (StoragePlugin.MCAP, CompressionMode.FILE),
    (StoragePlugin.MCAP, CompressionMode.MESSAGE),
    (StoragePlugin.SQLITE3, CompressionMode.NONE),
    (StoragePlugin.SQLITE3, CompressionMode.FILE),
    (StoragePlugin.SQLITE3, CompressionMode.MESSAGE),
]


@pytest.mark.parametrize(("plugin", "mode"), FORMATS, ids=lambda value: value.name.lower())
def test_every_format_gives_the_same_messages(drive: Path, tmp_path: Path, plugin: StoragePlugin, mode: CompressionMode) -> None:
    made = converted(drive, tmp_path / "made", plugin, mode)
    with Reader(made) as reader:
        expected = [(c.topic, time, bytes(data)) for c, time, data in reader.messages()]
    assert content(made) == expected == content(drive)
    assert stamps(made) == STAMPS


def test_rosbags_reads_what_we_write(drive: Path) -> None:
    with Reader(drive) as reader:
        assert [(c.topic, time, bytes(data)) for c, time, data in reader.messages()] == content(drive)
        assert {name: topic.msgcount for name, topic in reader.topics.items()} == dict.fromkeys(
            ("/lidar/points", "/cam2/image", "/cam2/camera_info"), FRAMES
        )
        assert {c.msgdef.data for c in reader.connections} == {
            TYPES.generate_msgdef(f"sensor_msgs/msg/{kind}", ros_version=2)[0] for kind in ("PointCloud2", "Image", "CameraInfo")
        }


V5_QOS = (
    "- history: 1\n  depth: 5\n  reliability: 2\n  durability: 1\n  deadline: {sec: 0, nsec: 0}\n  lifespan: {sec: 0, nsec: 0}\n"
    "  liveliness: 1\n  liveliness_lease_duration: {sec: 0, nsec: 0}\n  avoid_ros_namespace_conventions: false"
)


def other_qos(info: dict[str, Any]) -> None:
    info["version"] = 5
    for topic in info["topics_with_message_count"]:
        topic["topic_metadata"]["offered_qos_profiles"] = V5_QOS


def other_counts(info: dict[str, Any]) -> None:
    info["message_count"] = 99
    for topic in info["topics_with_message_count"]:
        topic["message_count"] = 33


def other_type_hash(info: dict[str, Any]) -> None:
    for topic in info["topics_with_message_count"]:
        topic["topic_metadata"]["type_description_hash"] = "RIHS01_0"


def topic_twice(info: dict[str, Any]) -> None:
    info["topics_with_message_count"] += [{**topic, "message_count": 0} for topic in info["topics_with_message_count"]]


def topic_missing(info: dict[str, Any]) -> None:
    del info["topics_with_message_count"][0]
    info["message_count"] = sum(topic["message_count"] for topic in info["topics_with_message_count"])


DISAGREEMENTS = {
    "metadata.yaml with another QoS than the storage": (other_qos, ""),
    "metadata.yaml with other counts than the storage": (other_counts, "counts 99 messages, the files hold 12"),
    "metadata.yaml with another type hash": (other_type_hash, ""),
    "metadata.yaml with a topic twice": (topic_twice, ""),
    "metadata.yaml that lacks a topic": (topic_missing, "counts 8 messages, the files hold 12"),
}


@pytest.mark.parametrize("kind", DISAGREEMENTS)
@pytest.mark.parametrize("plugin", [StoragePlugin.MCAP, StoragePlugin.SQLITE3], ids=["mcap", "db3"])
def test_the_storage_says_what_is_in_the_bag(
    bag: Path, tmp_path: Path, kind: str, plugin: StoragePlugin, capsys: pytest.CaptureFixture[str]
) -> None:
    change, said = DISAGREEMENTS[kind]
    made = converted(bag, tmp_path / "made", plugin)
    set_metadata(made, change)
    assert len(content(made)) == 3 * FRAMES
    reader = BagReader(made)
    assert len(reader) == FRAMES and stamps(made) == STAMPS
    err = capsys.readouterr().err
    assert err.count("\n") == bool(said) and said in err


def test_the_qos_of_the_metadata_is_the_bags(bag: Path) -> None:
    set_metadata(bag, other_qos)
    with open_bag(bag) as reader:
        for connection in reader.connections:
            (qos,) = connection.ext.offered_qos_profiles
            assert (qos.depth, qos.reliability, qos.durability) == (5, QosReliability.BEST_EFFORT, QosDurability.TRANSIENT_LOCAL)
    (bag / "metadata.yaml").unlink()
    with open_bag(bag) as reader:  # the file's own
        assert [c.ext.offered_qos_profiles[0].reliability for c in reader.connections] == [QosReliability.RELIABLE] * 3


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


def test_a_killed_recording_is_read_to_its_last_whole_chunk(bag: Path, capsys: pytest.CaptureFixture[str]) -> None:
    messages, kinds = content(bag), types(bag)
    shutil.rmtree(bag)
    with pytest.raises(ZeroDivisionError), BagWriter(bag) as writer:
        topics = {topic: writer.add_connection(topic, kind) for topic, kind in kinds.items()}
        for topic, time, data in messages[:9]:
            writer.write(topics[topic], time, data)
        writer.flush()
        killed = Path(shutil.copytree(bag, bag.parent / "killed"))  # what kill -9 would leave
        for topic, time, data in messages[9:]:
            writer.write(topics[topic], time, data)
        raise ZeroDivisionError
    assert content(bag) == messages, "an error that Python sees loses nothing"
    assert content(killed) == messages[:9]
    err = capsys.readouterr().err
    assert "drive.mcap was not finished" in err and "the 9 messages before are read" in err and err.count("\n") == 1
    assert "`mcap recover" in err and "`ros2 bag reindex" in err and "metadata.yaml counts" not in err


def test_a_folder_that_may_not_be_read(bag: Path) -> None:
    is_root = os.geteuid() == 0
    bag.chmod(0)
    if is_root:
        os.seteuid(65534)
    try:
        with pytest.raises(BagError, match=r"cannot be read: Permission denied; `ls -ld "):
            BagReader(bag)
    finally:
        if is_root:
            os.seteuid(0)
        bag.chmod(0o755)


def test_splits_are_read_in_their_order(bag: Path) -> None:
    messages, kinds = content(bag), types(bag)
    for number in (2, 10, 1):
        with BagWriter(bag / f"part_{number}") as writer:
            topics = {topic: writer.add_connection(topic, kind) for topic, kind in kinds.items()}
            order = sorted((1, 2, 10)).index(number)
            for topic, time, data in messages[order * 4 : order * 4 + 4]:
                writer.write(topics[topic], time, data)
        (bag / f"part_{number}" / f"part_{number}.mcap").rename(bag / f"part_{number}.mcap")
        shutil.rmtree(bag / f"part_{number}")
    (bag / "drive.mcap").unlink()
    (bag / "metadata.yaml").unlink()
    assert content(bag) == messages


@pytest.mark.parametrize("name", ["drive #1", "a?b&c=d", "100% größe", "ひ ら", 'it\'s "here"'])
@pytest.mark.parametrize("plugin", [StoragePlugin.MCAP, StoragePlugin.SQLITE3], ids=["mcap", "db3"])
def test_names_of_any_script(drive: Path, tmp_path: Path, name: str, plugin: StoragePlugin) -> None:
    made = converted(drive, tmp_path / "made", plugin).rename(tmp_path / name)
    assert content(made) == content(drive)
    (file,) = [file for file in made.iterdir() if file.suffix in (".mcap", ".db3")]
    assert content(file) == content(drive)


def test_a_bag_of_a_name_of_any_script_is_written_and_read(drive: Path, tmp_path: Path) -> None:
    for name in ("drive #1", "größe ひ", os.fsdecode(b"not \xff utf-8")):
        with BagWriter(tmp_path / name) as writer:
            writer.write(writer.add_connection("/lidar/points", "sensor_msgs/msg/PointCloud2"), 5, b"abcd")
        assert content(tmp_path / name) == [("/lidar/points", 5, b"abcd")]


@pytest.mark.parametrize("mask", [0o022, 0o002, 0o077])
def test_the_modes_are_what_the_umask_asks_for(tmp_path: Path, mask: int) -> None:
    before = os.umask(mask)
    try:
        with BagWriter(tmp_path / "new" / "bag") as writer:
            writer.add_connection("/t", "std_msgs/msg/String")
    finally:
        os.umask(before)
    made = {path.name: path.stat().st_mode & 0o777 for path in (tmp_path / "new").rglob("*")}
    assert made == {"bag": 0o777 & ~mask, "bag.mcap": 0o666 & ~mask, "metadata.yaml": 0o666 & ~mask}


def test_what_is_no_bag_at_all(tmp_path: Path) -> None:
    for name, message in (
        ("x.bag", "is no whole ROS 1 bag"),
        ("x.txt", "is no bag: give a bag's folder"),
    ):
        (tmp_path / name).write_bytes(b"#ROSBAG V2.0")
        with pytest.raises(BagError, match=message):
            content(tmp_path / name)
    with pytest.raises(BagError, match="there is no bag at"):
        content(tmp_path / "none")


@pytest.fixture(scope="module")
def small_db3(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, Content]:
    folder = tmp_path_factory.mktemp("small")
    with Writer(folder / "x", version=9, storage_plugin=StoragePlugin.SQLITE3) as writer:
        topic = writer.add_connection("/t", "std_msgs/msg/String", typestore=TYPES)
        for number in range(20):
            writer.write(topic, number, bytes([number]) * 400)
    return (folder / "x" / "x.db3").read_bytes(), content(folder / "x")


def db3_messages(path: Path, data: bytes) -> Content | None:
    """None: refused."""
    path.unlink(missing_ok=True)
    path.write_bytes(data)
    got: Content = []
    try:
        with open_bag(path) as reader:
            for connection, time, message in reader.messages():
                got.append((connection.topic, time, message))
    except BagError as error:
        assert "\n" not in str(error) and str(path) in str(error)
        return None
    return got


def test_every_truncation_of_a_db3_is_refused(tmp_path: Path, small_db3: tuple[bytes, Content]) -> None:
    data, whole = small_db3
    assert db3_messages(tmp_path / "x.db3", data) == whole
    for size in [*range(0, 120), *range(120, len(data), 7), *range(len(data) - 20, len(data))]:
        assert db3_messages(tmp_path / "x.db3", data[:size]) is None, size


@given(st.data())
def test_overwritten_bytes_of_a_db3_never_end_in_a_traceback(
    small_db3: tuple[bytes, Content], tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    broken = bytearray(small_db3[0])
    for _ in range(data.draw(st.integers(1, 4))):
        at, new = data.draw(st.integers(0, len(broken) - 1)), data.draw(st.binary(min_size=1, max_size=100))
        broken[at : at + len(new)] = new[: len(broken) - at]
    db3_messages(tmp_path_factory.mktemp("broken") / "x.db3", bytes(broken))


@pytest.mark.parametrize(
    ("text", "damaged"),
    [
        (b"topic_id INTEGER NOT NULL", b"topic_id INTEGER NOT \x80ULL"),  # SQLite's error quotes it
        (b"string data\n", b"\x80tring data\n"),  # a text of two lines
        (b"std_msgs/msg/Stringcdr", b"std_msgs\x80msg/Stringcdr"),
    ],
)
def test_texts_of_a_db3_that_are_no_utf8(tmp_path: Path, small_db3: tuple[bytes, Content], text: bytes, damaged: bytes) -> None:
    assert text in small_db3[0]
    assert db3_messages(tmp_path / "x.db3", small_db3[0].replace(text, damaged)) is None


@given(st.binary(max_size=400))
def test_any_metadata_is_read_or_done_without(drive: Path, tmp_path_factory: pytest.TempPathFactory, text: bytes) -> None:
    bag = tmp_path_factory.mktemp("bag")
    os.link(drive / "drive.mcap", bag / "drive.mcap")
    (bag / "metadata.yaml").write_bytes(text)
    assert len(content(bag)) == 3 * FRAMES


def test_a_log_that_sqlite_left_is_read_too(tmp_path: Path, small_db3: tuple[bytes, Content]) -> None:
    """A recorder that was killed in WAL mode: the newest messages are in x.db3-wal only."""
    source = tmp_path / "source.db3"
    source.write_bytes(small_db3[0])
    database = sqlite3.connect(source)
    database.execute("PRAGMA journal_mode=WAL")
    database.execute("INSERT INTO messages VALUES (500, 1, 50, ?)", (b"new",))
    database.commit()
    for end in ("", "-wal"):
        shutil.copy(f"{source}{end}", tmp_path / f"x.db3{end}")
    database.close()
    assert content(tmp_path / "x.db3") == [*small_db3[1], ("/t", 50, b"new")]


def test_every_kind_has_its_row() -> None:
    assert_rows("Bags, player and recorder", [*DISAGREEMENTS, *REFUSED, *READ])


def test_the_deserialized_message_is_the_message(drive: Path) -> None:
    data = next(data for topic, _, data in content(drive) if topic == "/lidar/points")
    assert deserialize_message(data, PointCloud2).header.frame_id == "velodyne"
