# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Bags as they are found: of every format, with a metadata.yaml that says something else, killed, split, of any name."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from bag_files import FRAMES, STAMPS, content, converted, set_metadata, stamps, types
from documented import assert_rows
from hypothesis import given
from hypothesis import strategies as st
from rclpy.serialization import deserialize_message
from rosbags.interfaces import QosDurability, QosReliability
from rosbags.rosbag2 import CompressionMode, Reader, StoragePlugin
from sensor_msgs.msg import PointCloud2

from occle_core.bags.bag_file import open_bag
from occle_core.bags.storage import TYPES, BagError
from occle_core.bags.writer import BagWriter
from occle_ros.bags.reader import BagReader

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
    (file,) = (path for path in made.iterdir() if path.suffix != ".yaml")
    assert content(file) == expected
    (made / "metadata.yaml").unlink()  # of a recorder that was killed
    assert content(made) == expected


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


@given(st.binary(max_size=400))
def test_any_metadata_is_read_or_done_without(drive: Path, tmp_path_factory: pytest.TempPathFactory, text: bytes) -> None:
    bag = tmp_path_factory.mktemp("bag")
    os.link(drive / "drive.mcap", bag / "drive.mcap")
    (bag / "metadata.yaml").write_bytes(text)
    assert len(content(bag)) == 3 * FRAMES


def test_every_kind_has_its_row() -> None:
    assert_rows("Bags, player and recorder", DISAGREEMENTS)


def test_the_deserialized_message_is_the_message(drive: Path) -> None:
    data = next(data for topic, _, data in content(drive) if topic == "/lidar/points")
    assert deserialize_message(data, PointCloud2).header.frame_id == "velodyne"
