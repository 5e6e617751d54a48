# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Data set as ROS messages in time order, for `occle bag` and `occle play`.

Topics: /lidar/points, /<camera>/image or /<camera>/image/compressed, /<camera>/camera_info, /tf_static (grid frame ->
LiDAR -> cameras) and, where the data set has poses, /tf (map -> grid frame).

Stamps are the data set's own: an image keeps its shutter time, which in nuScenes differs from its scan's. Two exceptions.
Scans that go back in time or lie more than 10 s apart (keyframes of different drives in one folder) could not be replayed:
such a frame, and all after it, moves to 0.5 s after the one before, scan and images together. And a recording that would
begin before time zero moves to one second.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rclpy.serialization import serialize_message

from occle_core.bags.storage import TYPES, BagError
from occle_core.datasets import Dataset
from occle_core.datasets.completeness import require_frames
from occle_core.frame import Frame
from occle_core.geometry.camera import Camera
from occle_core.sensors.messages import NANOSECONDS
from occle_ros.messages.camera_info import info_from_camera
from occle_ros.messages.clouds import cloud_from_points
from occle_ros.messages.images import compressed_message, message_from_image
from occle_ros.messages.transforms import transform_from_matrix

POINTS_TOPIC = "/lidar/points"
MAX_GAP, REPLACED_GAP = 10_000_000_000, 500_000_000  # nanoseconds
_FORMATS = {".jpg": "jpeg", ".jpeg": "jpeg", ".png": "png"}
_TF_STATIC, _TF, _INFO, _IMAGE, _POINTS = range(5)  # order of messages with the same stamp


class DatasetMessages:
    """Messages of a data set.

    Args:
        dataset: source of the frames.
        compressed: True passes the data set's JPEG and PNG files through as CompressedImage, False decodes to raw rgb8.
            None: compressed for JPEG (nuScenes), raw for PNG (KITTI).
        limit: maximum number of frames.

    Raises:
        BagError: there are no frames.
        DatasetError: files are missing or empty.
    """

    def __init__(self, dataset: Dataset, compressed: bool | None = None, limit: int | None = None) -> None:
        self.dataset, self.frames = dataset, len(dataset) if limit is None else min(limit, len(dataset))
        if self.frames < 1:
            raise BagError(f"{dataset.name}: no frames to write (the data set has {len(dataset)}, limit {limit})")
        require_frames((dataset, i) for i in range(self.frames))
        if compressed is None and dataset.kind == "occle":
            compressed = False  # its files are as distorted as they were recorded; frames have rectified images
        if compressed is None:
            first = dataset.image_file(0, dataset.camera_names[0]) if dataset.camera_names else None
            compressed = first is not None and _FORMATS.get(first.suffix.lower()) == "jpeg"
        self.compressed = compressed
        shifts, self.shifted_frames = stamp_shifts(dataset, self.frames)
        self.schedule = _schedule(dataset, shifts)
        self.calibration_drift: dict[str, float] = {}
        self._frame = lru_cache(maxsize=2)(dataset.frame)
        ending, image = ("/compressed", "CompressedImage") if compressed else ("", "Image")
        self._images = [f"/{name}/image{ending}" for name in dataset.camera_names]
        self._infos = [f"/{name}/camera_info" for name in dataset.camera_names]
        self.topics = {POINTS_TOPIC: "sensor_msgs/msg/PointCloud2"}
        for topic, info in zip(self._images, self._infos):
            self.topics |= {topic: f"sensor_msgs/msg/{image}", info: "sensor_msgs/msg/CameraInfo"}
        self.topics |= {"/tf_static": "tf2_msgs/msg/TFMessage", "/tf": "tf2_msgs/msg/TFMessage"}

    @property
    def start(self) -> int:
        """Time of the first message, nanoseconds."""
        return self.schedule[0][0]

    @property
    def end(self) -> int:
        """Time of the last message, nanoseconds."""
        return self.schedule[-1][0]

    @property
    def first_frame(self) -> Frame:
        """First frame, whose calibration is used for all."""
        return self._frame(0)

    def is_latched(self, topic: str) -> bool:
        """True if late subscribers get the topic's last message (transient_local)."""
        return topic == "/tf_static"

    def messages(self, topics: Collection[str] | None = None) -> Iterator[tuple[int, str, bytes]]:
        """(stamp, topic, CDR bytes) in time order; only of `topics` where they are given.

        Raises:
            DatasetError: something on disk is missing or broken.
            BagError: an image file cannot be passed through.
        """
        first = self.first_frame.cameras
        for stamp, order, i, camera in self.schedule:
            topic = self._topic(order, camera)
            if topics is None or topic in topics:
                data = self._message(order, i, camera, stamp, first)
                if data is not None:
                    yield stamp, topic, data

    def _topic(self, order: int, camera: int) -> str:
        if order in (_INFO, _IMAGE):
            return (self._infos if order == _INFO else self._images)[camera]
        return {_TF_STATIC: "/tf_static", _TF: "/tf", _POINTS: POINTS_TOPIC}[order]

    def _message(self, order: int, i: int, camera: int, stamp: int, first: Sequence[Camera]) -> bytes | None:
        """Message of a schedule entry; None where the data set has none."""
        data = self.dataset
        if order == _TF_STATIC:
            return _tf_bytes(_static_transforms(data, self.first_frame), stamp)
        if order == _TF:
            T_map_lidar = data.pose(i)
            if T_map_lidar is None:
                return None
            return _tf_bytes([("odom", data.grid_frame, T_map_lidar @ np.linalg.inv(data.T_grid_lidar))], stamp)
        frame = self._frame(i)
        if order == _POINTS:
            return serialize_message(cloud_from_points(frame.points, stamp, data.lidar_frame))
        name = data.camera_names[camera]
        frame_id = f"{name}_optical"
        if order == _INFO:
            moved = np.linalg.norm(frame.cameras[camera].position - first[camera].position)
            self.calibration_drift[name] = max(self.calibration_drift.get(name, 0.0), float(moved))
            return serialize_message(info_from_camera(frame.cameras[camera], stamp, frame_id))
        return self._image(frame, i, camera, stamp, frame_id)

    def _image(self, frame: Frame, i: int, camera: int, stamp: int, frame_id: str) -> bytes | None:
        image = frame.images[camera]
        if image is None:
            return None
        if not self.compressed:
            return serialize_message(message_from_image(image, stamp, frame_id))
        name = self.dataset.camera_names[camera]
        file = self.dataset.image_file(i, name)
        image_format = _FORMATS.get(file.suffix.lower()) if file else None
        if file is None or image_format is None:
            raise BagError(f"{file or name}: only JPEG and PNG files can be passed through; convert with compressed=False")
        return serialize_message(compressed_message(file.read_bytes(), image_format, stamp, frame_id))


def stamp_shifts(dataset: Dataset, count: int) -> tuple[list[int], int]:
    """Shift in nanoseconds of each of the first `count` frames (see the module's docstring), and the number of shifted frames."""
    shifts: list[int] = []
    shift, before = 0, None
    for stamp in dataset.stamps[:count]:
        if before is not None and not 0 < stamp + shift - before <= MAX_GAP:
            shift = before + REPLACED_GAP - stamp
        shifts.append(shift)
        before = stamp + shift
    cameras = dataset.camera_names
    earliest = min(min([dataset.stamps[i], *(dataset.image_stamp(i, name) for name in cameras)]) + shifts[i] for i in range(count))
    if earliest < 0:
        shifts = [shift + 1_000_000_000 - earliest for shift in shifts]
    return shifts, sum(shift != 0 for shift in shifts)


def _schedule(dataset: Dataset, shifts: Sequence[int]) -> list[tuple[int, int, int, int]]:
    """(stamp, order, frame, camera) of every message, sorted by time."""
    entries = []
    for i, shift in enumerate(shifts):
        stamp = dataset.stamps[i] + shift
        entries += [(stamp, _TF, i, 0), (stamp, _POINTS, i, 0)]
        for camera, name in enumerate(dataset.camera_names):
            shutter = dataset.image_stamp(i, name) + shift
            entries += [(shutter, _INFO, i, camera), (shutter, _IMAGE, i, camera)]
    entries.sort()
    return [(entries[0][0], _TF_STATIC, 0, 0), *entries]


def _static_transforms(dataset: Dataset, frame: Frame) -> list[tuple[str, str, NDArray[np.float64]]]:
    """(parent, child, T_parent_child) of the rig."""
    transforms: list[tuple[str, str, NDArray[np.float64]]] = []
    if dataset.grid_frame != dataset.lidar_frame:
        transforms.append((dataset.grid_frame, dataset.lidar_frame, dataset.T_grid_lidar))
    for name, camera in zip(dataset.camera_names, frame.cameras):
        transforms.append((dataset.lidar_frame, f"{name}_optical", np.asarray(np.linalg.inv(camera.T_camera_lidar), np.float64)))
    return transforms


def _tf_bytes(transforms: Sequence[tuple[str, str, NDArray[np.float64]]], stamp: int) -> bytes:
    """CDR bytes of a TFMessage, by rosbags: tf2_msgs has no PyPI wheel."""
    types = TYPES.types
    sec, nanosec = divmod(stamp, NANOSECONDS)

    def one(parent: str, child: str, T: NDArray[np.float64]) -> Any:
        rigid = transform_from_matrix(T)
        t, q = rigid.translation, rigid.rotation
        head = types["std_msgs/msg/Header"](types["builtin_interfaces/msg/Time"](sec, nanosec), parent)
        vector = types["geometry_msgs/msg/Vector3"](t.x, t.y, t.z)
        rotation = types["geometry_msgs/msg/Quaternion"](q.x, q.y, q.z, q.w)
        return types["geometry_msgs/msg/TransformStamped"](head, child, types["geometry_msgs/msg/Transform"](vector, rotation))

    message = types["tf2_msgs/msg/TFMessage"]([one(*transform) for transform in transforms])
    return bytes(TYPES.serialize_cdr(message, "tf2_msgs/msg/TFMessage"))
