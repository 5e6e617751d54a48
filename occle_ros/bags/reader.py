# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Reader of the synchronised messages of a bag, without a running ROS graph and without dropping frames.

It uses the synchronizer and the calibration of the live node, so that both process the same frames.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from rclpy.serialization import deserialize_message
from rosbags.interfaces import Connection
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, PointCloud2

from occle_core.bags.bag_file import open_bag
from occle_core.bags.storage import TYPES, BagError
from occle_core.console import one_line
from occle_core.datasets.recordings.bag_index import tf_topics
from occle_core.sensors.messages import ConversionError, stamp_of
from occle_core.sensors.transforms import LazyTransformBuffer, TransformBuffer
from occle_ros.calibration.files import CALIBRATION_FILE, read_calibration
from occle_ros.calibration.lidars import LidarPoses
from occle_ros.calibration.rig import Calibration
from occle_ros.config.node_config import NodeConfig, absolute_topic, resolve_topics
from occle_ros.sync.lidar_led import SyncedMessages
from occle_ros.sync.policy import make_offline_synchronizer

_MESSAGES = {f"sensor_msgs/msg/{kind.__name__}": kind for kind in (CameraInfo, CompressedImage, Image, PointCloud2)}


class BagReader:
    """Synchronised messages of a bag, in the order of the scans.

    Args:
        bag: a rosbag2 folder, or a single mcap or db3 file.
        config: topics, cameras, tolerance and calibration, as the node takes them. None: /lidar/points and every camera
            that has /<camera>/image or /<camera>/image/compressed and /<camera>/camera_info, in the order of the bag's
            calibration.yaml if there is one, else of the bag.

    Raises:
        BagError: not a readable bag, or the required topics are not in it; the message lists its topics.
        CalibrationError: the pose of the grid is not known.
    """

    def __init__(self, bag: Path, config: NodeConfig | None = None) -> None:
        self.bag = bag
        with open_bag(bag) as reader:
            self.topics = {connection.topic: connection.msgtype for connection in reader.connections}
            self._counts = {name: info.msgcount for name, info in reader.topics.items()}
        self.synchronizer_counts: Counter[str] = Counter()
        """`FrameSynchronizer.counts` of the last `synced`."""
        self.config = resolve_topics(config or self._own_config(), absolute_topic)
        self._check_topics()
        self.calibration = Calibration(self.config, LazyTransformBuffer(self._read_transforms))
        self.poses = LidarPoses(self.config, self.calibration, kept=None)
        """Poses for motion compensation."""
        self._read_odometry()

    def __len__(self) -> int:
        """Number of scans of the main LiDAR; where it has none, of the first further one that has."""
        topics = (self.config.lidar.topic, *(self.config.lidars[name].topic for name in self.config.lidar_names))
        return next((count for topic in topics if (count := self._counts[topic])), 0)

    def synced(self) -> Iterator[SyncedMessages[Any, Any]]:
        """Scans with their images; `calibration` has the CameraInfos up to the returned scan.

        Raises:
            BagError: a message cannot be read.
        """
        names, cameras = self.config.camera_names, self.config.cameras
        images = {cameras[name].topic: number for number, name in enumerate(names)}
        infos = {cameras[name].info_topic: name for name in names if cameras[name].info_topic}
        self._add_first_infos(infos)
        further = {self.config.lidars[name].topic: number for number, name in enumerate(self.config.lidar_names)}
        synchronizer = make_offline_synchronizer(self.config)
        self.synchronizer_counts = synchronizer.counts
        for topic, message in self._messages({self.config.lidar.topic, *further, *images, *infos}):
            if topic in infos:
                self.calibration.add_camera_info(infos[topic], message)
            elif topic in images:
                yield from synchronizer.add_image(images[topic], stamp_of(message), message, 0)
            elif topic in further:
                yield from synchronizer.add_lidar(further[topic], stamp_of(message), message, 0)
            else:
                yield from synchronizer.add_scan(stamp_of(message), message, 0)
        yield from synchronizer.flush()

    def _messages(self, topics: Collection[str]) -> Iterator[tuple[str, Any]]:
        with open_bag(self.bag) as reader:
            connections = [c for c in reader.connections if c.topic in topics and c.msgtype in _MESSAGES]
            for connection, time, data in reader.messages(connections):
                try:
                    yield connection.topic, deserialize_message(data, _MESSAGES[connection.msgtype])
                except Exception as error:  # rclpy's own exceptions have no common base
                    raise self._unreadable(connection, time, error) from error

    def _add_first_infos(self, infos: Mapping[str, str]) -> None:
        """Read the first CameraInfo of each camera, which may be recorded after its first image."""
        waiting = set(infos)
        for topic, message in self._messages(infos) if infos else ():
            if topic in waiting:
                self.calibration.add_camera_info(infos[topic], message)
                waiting.remove(topic)
            if not waiting:
                return

    def _own_config(self) -> NodeConfig:
        calibration = (self.bag if self.bag.is_dir() else self.bag.parent) / CALIBRATION_FILE
        cameras: dict[str, dict[str, object]] = {}
        for topic, kind in self.topics.items():
            name, _, rest = topic.strip("/").partition("/")
            if rest in ("image", "image/compressed") and kind in ("sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage"):
                cameras[name] = {
                    "compressed": kind.endswith("CompressedImage"),
                    "topic": topic,
                    "info_topic": f"/{name}/camera_info",
                }
        names = list(cameras)
        if calibration.exists():
            order = list(read_calibration(calibration).cameras)
            names.sort(key=lambda name: order.index(name) if name in order else len(order))
        return NodeConfig.model_validate(
            {
                "camera_names": names,
                "cameras": cameras,
                "sync": {"tolerance_ms": 60.0},
                "calibration_file": str(calibration.resolve()) if calibration.exists() else "",
                "tf": {"grid_frame": "" if calibration.exists() else "base_link"},
            }
        )

    def _check_topics(self) -> None:
        wanted = {self.config.lidar.topic: "sensor_msgs/msg/PointCloud2"}
        wanted |= {lidar.topic: "sensor_msgs/msg/PointCloud2" for lidar in self.config.lidars.values()}
        if self.poses_topic:
            wanted[self.poses_topic] = "nav_msgs/msg/Odometry"
        for camera in self.config.cameras.values():
            wanted[camera.topic] = f"sensor_msgs/msg/{'CompressedImage' if camera.compressed else 'Image'}"
            if camera.info_topic:
                wanted[camera.info_topic] = "sensor_msgs/msg/CameraInfo"
        missing = [f"{topic} ({kind})" for topic, kind in wanted.items() if self.topics.get(topic) != kind]
        if missing:
            there = "\n  ".join(f"{topic} ({kind}, {self._counts[topic]} messages)" for topic, kind in sorted(self.topics.items()))
            raise BagError(f"{self.bag} lacks {', '.join(missing)}; its topics are\n  {there or 'none'}")
        scans = (self.config.lidar, *self.config.lidars.values())
        if not any(self._counts[lidar.topic] for lidar in scans):
            raise BagError(f"{self.bag} has no message of {' or '.join(lidar.topic for lidar in scans)}")

    @property
    def poses_topic(self) -> str:
        """lidar.odometry_topic, where it is used."""
        lidar = self.config.lidar
        return lidar.odometry_topic if lidar.deskew in ("auto", "odometry") else ""

    def _read_odometry(self) -> None:
        """Read all odometry, as the poses of a scan's end are recorded after its stamp."""
        if not self.poses_topic:
            return
        with open_bag(self.bag) as reader:
            connections = [c for c in reader.connections if c.topic == self.poses_topic]
            for connection, time, data in reader.messages(connections):
                try:
                    self.poses.add_odometry(TYPES.deserialize_cdr(data, connection.msgtype))
                except ConversionError:
                    continue  # a pose that is missing is said where a scan needs it
                except Exception as error:  # rosbags lets through whatever the bytes provoke
                    raise self._unreadable(connection, time, error) from error

    def _read_transforms(self) -> TransformBuffer:
        """Read all of /tf_static and /tf, as a scan's transforms may be recorded after it."""
        transforms, topics = TransformBuffer(kept=None), tf_topics(self.topics, self.config.lidar.topic)
        with open_bag(self.bag) as reader:
            connections = [c for c in reader.connections if c.topic in topics]
            for connection, time, data in reader.messages(connections) if connections else ():
                try:
                    message = TYPES.deserialize_cdr(data, connection.msgtype)
                except Exception as error:  # rosbags lets through whatever the bytes provoke
                    raise self._unreadable(connection, time, error) from error
                try:
                    transforms.add(message, fixed=topics[connection.topic])
                except ConversionError as error:
                    transforms.notes.add(f"a transform of {connection.topic} was ignored: {error}")
        return transforms

    def _unreadable(self, connection: Connection, time: int, error: Exception) -> BagError:
        what = f"the message of {connection.topic} at {time} ns is no {connection.msgtype}"
        why = f"{one_line(error)}; it is damaged, or the type had other fields then"
        return BagError(f"{self.bag}: {what}: {why}; record it again")
