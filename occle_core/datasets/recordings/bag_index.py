# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Index of a bag: stamp and place of every message of some topics, and what describes the rig, in one pass."""

from __future__ import annotations

import struct
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from occle_core.bags.bag_file import open_bag
from occle_core.bags.storage import TYPES, BagError
from occle_core.console import one_line
from occle_core.sensors.messages import ConversionError
from occle_core.sensors.transforms import TransformBuffer

CLOUD, IMAGE, COMPRESSED, INFO, ODOMETRY, TF = (
    "sensor_msgs/msg/PointCloud2",
    "sensor_msgs/msg/Image",
    "sensor_msgs/msg/CompressedImage",
    "sensor_msgs/msg/CameraInfo",
    "nav_msgs/msg/Odometry",
    "tf2_msgs/msg/TFMessage",
)


@dataclass(eq=False)
class TopicIndex:
    """Messages of one topic, in the order of their stamps.

    Args:
        kind: message type.
        stamps: (N,) int64, of the headers, nanoseconds.
        recorded: (N,) int64, when they were recorded.
        places: as `BagFile.located` gives them.
    """

    kind: str
    stamps: NDArray[np.int64]
    recorded: NDArray[np.int64]
    places: list[Any]


@dataclass(eq=False)
class BagIndex:
    """What one pass over a bag finds.

    Args:
        kinds: all topics with their types.
        topics: the messages of those that were asked for.
        infos: first CameraInfo by topic.
        tf: TF's topics; True where a topic's transforms hold at all times.
        transforms: those of these topics.
        odometry: messages of nav_msgs Odometry by topic, as transforms; with the frames of the first.
    """

    kinds: dict[str, str]
    topics: dict[str, TopicIndex] = field(default_factory=dict)
    infos: dict[str, Any] = field(default_factory=dict)
    tf: dict[str, bool] = field(default_factory=dict)
    transforms: TransformBuffer = field(default_factory=lambda: TransformBuffer(kept=None))
    odometry: dict[str, tuple[TransformBuffer, str, str]] = field(default_factory=dict)


def index_bag(bag: Path, stamped: Collection[str], infos: Collection[str] = (), odometry: Collection[str] = ()) -> BagIndex:
    """Read a bag once.

    Args:
        bag: a rosbag2 folder, or an mcap, db3 or ROS 1 file.
        stamped: topics of scans and images, a LiDAR's first.
        infos: topics of CameraInfos.
        odometry: topics of odometry.

    Raises:
        BagError: it cannot be read, or a message is damaged.
    """
    with open_bag(bag) as reader:
        index = BagIndex({each.topic: each.msgtype for each in reader.connections})
        index.tf = tf_topics(index.kinds, next(iter(stamped), ""))
        stamps: dict[str, list[tuple[int, int, Any]]] = {}
        wanted = [each for each in reader.connections if each.topic in {*stamped, *infos, *odometry, *index.tf}]
        left = set(infos)
        for each, time, place, data in reader.located(wanted) if wanted else ():
            topic = each.topic
            if topic in stamped:
                stamps.setdefault(topic, []).append((header_stamp(data), time, place))
            elif topic in left and each.msgtype == INFO:
                index.infos[topic] = read_message(bag, data, each.msgtype, topic)
                left.remove(topic)
            elif topic in odometry and each.msgtype == ODOMETRY:
                _add_odometry(index, topic, read_message(bag, data, each.msgtype, topic))
            elif topic in index.tf and each.msgtype == TF:
                _add_transforms(index, read_message(bag, data, each.msgtype, topic), index.tf[topic])
    for topic, rows in stamps.items():
        rows.sort(key=lambda row: row[:2])
        times = np.array([row[:2] for row in rows], np.int64)
        index.topics[topic] = TopicIndex(index.kinds[topic], times[:, 0], times[:, 1], [row[2] for row in rows])
    return index


def tf_topics(kinds: Mapping[str, str], sensor: str) -> dict[str, bool]:
    """TF's topics of a robot; True for that whose transforms hold at all times.

    A robot with a namespace has a tf and a tf_static of its own there: of those around the sensor the innermost counts. A single
    robot's count wherever its sensors are.

    Args:
        kinds: all topics of a bag with their types.
        sensor: topic of one of the robot's sensors.
    """
    spaces = {
        name: [topic.removesuffix(name) for topic, kind in kinds.items() if kind == TF and topic.endswith(f"/{name}")]
        for name in ("tf_static", "tf")
    }
    is_alone = len({space for each in spaces.values() for space in each}) == 1
    around = {name: [space for space in each if is_alone or sensor.startswith(space)] for name, each in spaces.items()}
    return {max(each, key=len) + name: name == "tf_static" for name, each in around.items() if each}


def header_stamp(data: bytes) -> int:
    """Stamp of a CDR message that begins with a header, nanoseconds."""
    if len(data) < 12:
        return 0
    seconds, fraction = struct.unpack_from("<iI" if data[1] & 1 else ">iI", data, 4)
    return int(seconds) * 1_000_000_000 + int(fraction)


def read_message(bag: Path, data: bytes, kind: str, topic: str) -> Any:
    """A message of a standard type.

    Raises:
        BagError: the bytes are no such message.
    """
    try:
        return TYPES.deserialize_cdr(data, kind)
    except Exception as error:  # rosbags lets through whatever the bytes provoke
        raise BagError(f"{bag}: a message of {topic} is no {kind}: {one_line(error)}; it is damaged: record it again") from error


def _add_odometry(index: BagIndex, topic: str, message: Any) -> None:
    if topic not in index.odometry:
        index.odometry[topic] = (TransformBuffer(kept=None), message.header.frame_id, message.child_frame_id)
    try:
        index.odometry[topic][0].add_odometry(message)
    except ConversionError as error:
        index.transforms.notes.add(f"a message of {topic} was ignored: {error}")


def _add_transforms(index: BagIndex, message: Any, fixed: bool) -> None:
    try:
        index.transforms.add(message, fixed)
    except ConversionError as error:
        index.transforms.notes.add(f"a transform was ignored: {error}")
