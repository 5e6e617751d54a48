"""Data set -> rosbag2 (mcap). What a bag holds is read back by `occle_ros.bag_reader`, replayed by `occle_ros.play`.

Topics: /lidar/points, /<camera>/image or /<camera>/image/compressed, /<camera>/camera_info, /tf_static (grid frame ->
LiDAR -> cameras) and, where the data set has poses, /tf (map -> grid frame). Beside the mcap file lies calibration.yaml.

Stamps are the data set's own: an image keeps its shutter time, which in nuScenes differs from its scan's. Two exceptions.
Scans that go back in time or lie more than 10 s apart (keyframes of different drives in one folder) could not be replayed:
such a frame, and all after it, moves to 0.5 s after the one before, scan and images together. And a bag that would begin
before time zero moves to one second.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray
from rclpy.serialization import serialize_message
from rich.progress import track
from rosbags.interfaces import Connection, Qos, QosDurability, QosHistory, QosLiveliness, QosReliability, QosTime
from rosbags.rosbag2 import StoragePlugin, Writer

from occle_core.camera import Camera
from occle_core.datasets import Dataset, open_dataset
from occle_core.frame import Frame
from occle_ros import conversions
from occle_ros.bag_reader import CALIBRATION_FILE, TYPES, BagError, BagReader
from occle_ros.compat import transform_from_matrix

__all__ = ["BagError", "BagReader", "BagSummary", "convert", "new_bag"]

POINTS_TOPIC = "/lidar/points"
MAX_GAP, REPLACED_GAP = 10_000_000_000, 500_000_000  # nanoseconds
_FORMATS = {".jpg": "jpeg", ".jpeg": "jpeg", ".png": "png"}
_TF_STATIC, _TF, _INFO, _IMAGE, _POINTS = range(5)  # order of messages with the same stamp


@dataclass(frozen=True)
class BagSummary:
    """What `convert` wrote.

    Args:
        path: the bag's folder.
        frames: number of scans.
        messages: number of messages per topic.
        duration: seconds from the first to the last message.
        notes: what a user should know: stamps that were moved, calibration that changes within the data set.
    """

    path: Path
    frames: int
    messages: dict[str, int]
    duration: float
    notes: tuple[str, ...]


def convert(
    kind: str | None,
    path: str | Path,
    out: str | Path,
    compressed: bool | None = None,
    limit: int | None = None,
    scene: str | None = None,
) -> BagSummary:
    """Write a sequence of a data set as a rosbag2 folder; on any error nothing stays behind.

    Args:
        kind: semantickitti, kitti, nuscenes or streets; None guesses from the path.
        path: folder of the data set or the sequence.
        out: folder to make; it must not exist.
        compressed: True passes the data set's JPEG and PNG files through as CompressedImage, False decodes to raw rgb8.
            None: compressed for JPEG (nuScenes), raw for PNG (KITTI).
        limit: only the first so many frames.
        scene: which sequence, where the folder has several.

    Raises:
        DatasetError: something in the data set is missing or broken.
        BagError: `out` exists, or there is nothing to write.
    """
    dataset = open_dataset(Path(path), kind, scene)
    count = len(dataset) if limit is None else min(limit, len(dataset))
    if count < 1:
        raise BagError(f"{path}: no frames to write (the data set has {len(dataset)}, limit {limit})")
    if compressed is None:
        first = dataset.image_file(0, dataset.camera_names[0]) if dataset.camera_names else None
        compressed = first is not None and _FORMATS.get(first.suffix.lower()) == "jpeg"
    shifts, moved = stamp_shifts(dataset, count)
    schedule = _schedule(dataset, shifts)
    frames = lru_cache(maxsize=2)(dataset.frame)
    messages: dict[str, int] = {}
    with new_bag(Path(out)) as writer:
        topics = _Topics(writer, dataset, compressed)
        for stamp, order, i, camera in track(schedule, "writing the bag", transient=True):
            connection, data = topics.message(order, frames(i), i, camera, stamp)
            if data is not None:
                writer.write(connection, stamp, data)
                messages[connection.topic] = messages.get(connection.topic, 0) + 1
        (writer.path / CALIBRATION_FILE).write_text(_calibration_yaml(dataset, frames(0)))
    drift = topics.drift
    notes = ([f"the stamps of {moved} frames were moved"] if moved else []) + [
        f"{name}'s calibration moves by up to {metres * 100:.0f} cm between frames (motion between shutter and scan); the bag "
        "carries the first frame's"
        for name, metres in drift.items()
        if metres > 0.01
    ]
    return BagSummary(Path(out), count, messages, (schedule[-1][0] - schedule[0][0]) / 1e9, tuple(notes))


@contextmanager
def new_bag(out: Path) -> Iterator[Writer]:
    """A rosbag2 writer (mcap) whose folder appears at `out` when it is complete; after an error nothing is left.

    Raises:
        BagError: `out` exists already.
    """
    if out.exists():
        raise BagError(f"{out} exists already and is not overwritten; choose another name or remove it")
    out.parent.mkdir(parents=True, exist_ok=True)
    workplace = out.parent / f".{out.name}.partial"
    if workplace.exists():  # left by a process that was killed
        shutil.rmtree(workplace)
    try:
        with Writer(workplace / out.name, version=9, storage_plugin=StoragePlugin.MCAP) as writer:
            yield writer
        (workplace / out.name).rename(out)
    finally:
        shutil.rmtree(workplace, ignore_errors=True)


def offered_qos(latched: bool = False, depth: int = 10) -> Qos:
    """The QoS that a bag's topic says it was published with: reliable; transient_local where `latched`."""
    forever = QosTime(2147483647, 4294967295)
    durability = QosDurability.TRANSIENT_LOCAL if latched else QosDurability.VOLATILE
    keep, reliable, alive = QosHistory.KEEP_LAST, QosReliability.RELIABLE, QosLiveliness.AUTOMATIC
    return Qos(keep, depth, reliable, durability, forever, forever, alive, forever, False)


def stamp_shifts(dataset: Dataset, count: int) -> tuple[list[int], int]:
    """How many nanoseconds each of the first `count` frames moves (see the module's text), and how many frames moved."""
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


class _Topics:
    """The bag's connections and the serialised messages for them."""

    def __init__(self, writer: Writer, dataset: Dataset, compressed: bool) -> None:
        self.dataset, self.compressed = dataset, compressed
        self.drift: dict[str, float] = {}

        def add(topic: str, message_type: str, latched: bool = False) -> Connection:
            return writer.add_connection(topic, message_type, typestore=TYPES, offered_qos_profiles=[offered_qos(latched)])

        self.points = add(POINTS_TOPIC, "sensor_msgs/msg/PointCloud2")
        self.images, self.infos = [], []
        for name in dataset.camera_names:
            kind = ("image/compressed", "CompressedImage") if compressed else ("image", "Image")
            self.images.append(add(f"/{name}/{kind[0]}", f"sensor_msgs/msg/{kind[1]}"))
            self.infos.append(add(f"/{name}/camera_info", "sensor_msgs/msg/CameraInfo"))
        self.tf_static = add("/tf_static", "tf2_msgs/msg/TFMessage", latched=True)
        self.tf = add("/tf", "tf2_msgs/msg/TFMessage")
        self._first_cameras: Sequence[Camera] = ()

    def message(self, order: int, frame: Frame, i: int, camera: int, stamp: int) -> tuple[Connection, bytes | None]:
        """One entry of the schedule; None where the data set has no such message."""
        data = self.dataset
        if order == _TF_STATIC:
            self._first_cameras = frame.cameras
            return self.tf_static, _tf_bytes(_static_transforms(data, frame), stamp)
        if order == _TF:
            T_map_lidar = data.pose(i)
            if T_map_lidar is None:
                return self.tf, None
            return self.tf, _tf_bytes([("map", data.grid_frame, T_map_lidar @ np.linalg.inv(data.T_grid_lidar))], stamp)
        if order == _POINTS:
            return self.points, serialize_message(conversions.cloud_from_points(frame.points, stamp, data.lidar_frame))
        name = data.camera_names[camera]
        frame_id = f"{name}_optical"
        if order == _INFO:
            moved = np.linalg.norm(frame.cameras[camera].position - self._first_cameras[camera].position)
            self.drift[name] = max(self.drift.get(name, 0.0), float(moved))
            return self.infos[camera], serialize_message(conversions.info_from_camera(frame.cameras[camera], stamp, frame_id))
        return self.images[camera], self._image(frame, i, camera, stamp, frame_id)

    def _image(self, frame: Frame, i: int, camera: int, stamp: int, frame_id: str) -> bytes | None:
        image = frame.images[camera]
        if image is None:
            return None
        if not self.compressed:
            return serialize_message(conversions.message_from_image(image, stamp, frame_id))
        name = self.dataset.camera_names[camera]
        file = self.dataset.image_file(i, name)
        image_format = _FORMATS.get(file.suffix.lower()) if file else None
        if file is None or image_format is None:
            raise BagError(f"{file or name}: only JPEG and PNG files can be passed through; convert with compressed=False")
        return serialize_message(conversions.compressed_message(file.read_bytes(), image_format, stamp, frame_id))


def _static_transforms(dataset: Dataset, frame: Frame) -> list[tuple[str, str, NDArray[np.float64]]]:
    """(parent, child, T_parent_child) of the rig."""
    transforms = []
    if dataset.grid_frame != dataset.lidar_frame:
        transforms.append((dataset.grid_frame, dataset.lidar_frame, dataset.T_grid_lidar))
    for name, camera in zip(dataset.camera_names, frame.cameras):
        transforms.append((dataset.lidar_frame, f"{name}_optical", np.linalg.inv(camera.T_camera_lidar)))
    return transforms


def _tf_bytes(transforms: Sequence[tuple[str, str, NDArray[np.float64]]], stamp: int) -> bytes:
    """A TFMessage through rosbags: tf2_msgs has no PyPI wheel."""
    types = TYPES.types
    sec, nanosec = divmod(stamp, conversions.NANOSECONDS)

    def one(parent: str, child: str, T: NDArray[np.float64]) -> Any:
        rigid = transform_from_matrix(T)
        t, q = rigid.translation, rigid.rotation
        head = types["std_msgs/msg/Header"](types["builtin_interfaces/msg/Time"](sec, nanosec), parent)
        vector = types["geometry_msgs/msg/Vector3"](t.x, t.y, t.z)
        rotation = types["geometry_msgs/msg/Quaternion"](q.x, q.y, q.z, q.w)
        return types["geometry_msgs/msg/TransformStamped"](head, child, types["geometry_msgs/msg/Transform"](vector, rotation))

    message = types["tf2_msgs/msg/TFMessage"]([one(*transform) for transform in transforms])
    return bytes(TYPES.serialize_cdr(message, "tf2_msgs/msg/TFMessage"))


def _calibration_yaml(dataset: Dataset, frame: Frame) -> str:
    """The rig of the first frame, for the node's parameter `calibration_file`."""
    cameras = {
        name: {
            "T_camera_lidar": camera.T_camera_lidar.tolist(),
            "K": camera.K.tolist(),
            "width": int(camera.width),
            "height": int(camera.height),
        }
        for name, camera in zip(dataset.camera_names, frame.cameras)
    }
    content = {
        "lidar_frame": dataset.lidar_frame,
        "grid_frame": dataset.grid_frame,
        "T_grid_lidar": np.asarray(dataset.T_grid_lidar).tolist(),
        "cameras": cameras,
    }
    text = "# T_a_b maps points from frame b to frame a (metres); K and sizes in pixels.\n"
    return text + yaml.safe_dump(content, sort_keys=False, default_flow_style=None, width=200)
