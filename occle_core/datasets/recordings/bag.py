# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Bags as data sets: each scan of the leading LiDAR with the nearest images and scans of the others, merged and compensated."""

from __future__ import annotations

import os
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from occle_core import taxonomy
from occle_core.bags.bag_file import BagFile, open_bag
from occle_core.bags.metadata import METADATA_FILE
from occle_core.bags.storage import BagError
from occle_core.datasets.base import DatasetError, Unlabelled
from occle_core.datasets.files import warn_once
from occle_core.datasets.recordings.bag_index import TopicIndex, index_bag, read_message
from occle_core.datasets.recordings.checks import check_clocks, check_topics
from occle_core.datasets.recordings.resolve import base_trajectory, resolve_rig
from occle_core.frame import Frame, RayOrigins
from occle_core.geometry.camera import Camera
from occle_core.geometry.trajectory import PoseGapError, Trajectory
from occle_core.rig import LidarRig, RigError, read_rig
from occle_core.rig.files import RIG_FILE, read_taxonomy
from occle_core.sensors.camera_info import lens_from_rig
from occle_core.sensors.clouds import MAX_INTENSITY, full_intensity, scan_from_cloud
from occle_core.sensors.images import halved_on_arrival, image_from_message
from occle_core.sensors.merge import SensorScan, merge_scans
from occle_core.sensors.messages import ConversionError
from occle_core.sensors.returns import inside_box

LAYOUT = "ROS bag: FOLDER/metadata.yaml, or an .mcap, .db3 or (ROS 1) .bag file; with rig=rig.yaml"
SUFFIXES = (".mcap", ".db3", ".bag")
MILLISECOND = 1_000_000


@dataclass(frozen=True, eq=False)
class MergedScan:
    """Points of all LiDARs of one frame.

    Args:
        points: (N, 4) float32 in the leading LiDAR's frame at the frame's stamp.
        sensor: (N,) uint8 number of each point's LiDAR.
        time: (N,) float32 seconds after the frame's stamp.
        masked: LiDAR -> why it is left out, or not compensated.
    """

    points: NDArray[np.float32]
    sensor: NDArray[np.uint8]
    time: NDArray[np.float32]
    masked: dict[str, str]


def scenes(path: Path) -> dict[str, Path]:
    """The bag at `path`; empty where it is none."""
    is_folder = path.is_dir() and ((path / METADATA_FILE).is_file() or any(path.glob("*.mcap")) or any(path.glob("*.db3")))
    is_file = path.is_file() and (path.suffix in SUFFIXES or path.suffixes[-2:-1] in ([".mcap"], [".db3"]))
    return {path.resolve().name.removesuffix(path.suffix if path.is_file() else ""): path} if is_folder or is_file else {}


class BagDataset(Unlabelled):
    """A bag. See `occle_core.datasets.Dataset`. Opening reads the bag once; frames are read where they lie.

    Args:
        bag: a rosbag2 folder, or an mcap, db3 or ROS 1 file.
        name: of the sequence.
        rig: rig file; None: rig.yaml beside the bag.

    Raises:
        DatasetError: the bag or the rig cannot be read, or they do not fit; one line that names the field or command.
    """

    kind = "bag"
    image_size: tuple[int, int] | None = None
    """(width, height) of images that is enough, see `open_dataset`."""

    def __init__(self, bag: Path, name: str, rig: Path | None = None) -> None:
        self.name, self.bag = name, bag
        self._rig_file = rig or (bag if bag.is_dir() else bag.parent) / RIG_FILE
        self._open: tuple[int, BagFile, ExitStack] | None = None
        if rig is None and not self._rig_file.exists():
            raise DatasetError(
                f"{bag} is a bag: its sensors need a rig file, `occle rig {bag} -o rig.yaml` drafts one; give rig=rig.yaml"
            )
        try:
            self._read_bag()
        except (RigError, BagError) as error:
            raise DatasetError(str(error)) from error

    def _read_bag(self) -> None:
        given = read_rig(self._rig_file)
        own = read_taxonomy(given, self._rig_file)
        self.taxonomy = own or taxonomy.load("semantickitti")
        stamped = [*(lidar.topic for lidar in given.lidars.values()), *(camera.topic for camera in given.cameras.values())]
        infos = [camera.info_topic for camera in given.cameras.values() if camera.info_topic]
        index = index_bag(self.bag, stamped, infos, [given.odometry.topic] if given.odometry.topic else [])
        check_topics(given, index, self.bag, self._rig_file)
        self._topics = index.topics
        frames = {topic: self._message(topic, 0).header.frame_id for topic in stamped}
        self.rig = resolve_rig(given, index, frames, self.bag, self._rig_file)
        lidar_frame = self.rig.lead.frame or frames[self.rig.lead.topic]
        self._trajectory, problem = base_trajectory(self.rig, index, lidar_frame)
        offsets = {each.topic: round(each.time_offset_ms * MILLISECOND) for each in self.rig.lidars.values()}
        offsets |= {each.topic: round(each.time_offset_ms * MILLISECOND) for each in self.rig.cameras.values()}
        self._stamps = {topic: entry.stamps + offsets[topic] for topic, entry in self._topics.items()}
        notes = check_clocks(given, self._topics, self._stamps, self.bag, self._rig_file)
        self.notes: tuple[str, ...] = (*([problem] if problem else []), *notes, *sorted(index.transforms.notes))
        for note in self.notes:
            warn_once(f"{self.bag}: {note}")
        self.camera_names = tuple(self.rig.cameras)
        self.lidar_frame = lidar_frame
        self.grid_frame = self.rig.base_frame
        self._cameras = [
            (name, camera, lens_from_rig(camera.lens, camera.width, camera.height, name), np.linalg.inv(np.array(camera.pose)))
            for name, camera in self.rig.cameras.items()
            if camera.lens and camera.width and camera.height
        ]
        lead = self._stamps[self.rig.lead.topic]
        self._scans = np.flatnonzero(np.append(True, np.diff(lead) > 0))  # a stamp that comes again is left out
        self.stamps: list[int] = lead[self._scans].tolist()
        self.numbers = list(range(len(self.stamps)))
        poses = self._trajectory
        self._lead_trajectory = poses and Trajectory(poses.stamps, poses.poses @ self.T_grid_lidar)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_open": None}

    def __len__(self) -> int:
        return len(self.stamps)

    @property
    def T_grid_lidar(self) -> NDArray[np.float64]:
        """(4, 4), the leading LiDAR's pose in the base frame."""
        T = self.rig.lead.T_base_lidar
        assert T is not None  # resolve_rig
        return T

    def frame(self, i: int) -> Frame:
        """Points of all LiDARs in the leading one's frame, and rectified images."""
        images, cameras = [], []
        for name, given, lens, T_camera_base in self._cameras:
            image = None
            if (found := self.image_message(i, name)) is not None:
                halved = halved_on_arrival(found[0], (lens.width, lens.height), self.image_size)
                lens = lens.halved if halved else lens
                try:
                    image = lens.rectify(image_from_message(found[0], given.topic, halved), given.topic)
                except ConversionError as error:
                    raise DatasetError(f"{self.bag}: frame {i}: {error}") from error
            images.append(image)
            cameras.append(lens.camera(T_camera_base @ self.T_grid_lidar, own_frame=True))
        scan = self.merged_scan(i)
        origins = self._origins(scan)
        return Frame(self.stamps[i], scan.points, images, cameras, self.T_grid_lidar, self.pose(i), origins=origins)

    def camera(self, name: str) -> Camera:
        """The pinhole camera of a camera's rectified images."""
        _, _, lens, T_camera_base = self._cameras[self.camera_names.index(name)]
        return lens.camera(T_camera_base @ self.T_grid_lidar, own_frame=True)

    def files(self, i: int) -> list[Path]:
        """The bag."""
        return [self.bag]

    def points(self, i: int) -> NDArray[np.float32]:
        """(N, 4) of frame `i`, in the leading LiDAR's frame at its stamp."""
        return self.merged_scan(i).points

    def origins(self, i: int) -> RayOrigins | None:
        """Where the rays begin, for the rows of `points`; None with one LiDAR."""
        return self._origins(self.merged_scan(i)) if len(self.rig.lidars) > 1 else None

    def _origins(self, scan: MergedScan) -> RayOrigins | None:
        positions = self.rig.lidar_positions
        return RayOrigins(positions, scan.sensor) if len(positions) > 1 else None

    def merged_scan(self, i: int) -> MergedScan:
        """The points with their LiDARs and times.

        Raises:
            DatasetError: a scan cannot be read.
        """
        reference, scans, masked = self.stamps[i], [], {}
        sources: list[int] = []
        for number, (name, lidar) in enumerate(self.rig.lidars.items()):
            row = int(self._scans[i]) if number == 0 else self._nearest(lidar.topic, reference, self.rig.tolerances.lidar_ms)
            if row is None:
                masked[name] = "out_of_tolerance"
                continue
            scans.append(self._scan(lidar, row))
            sources.append(number)
        try:
            points = merge_scans(scans, reference, self._lead_trajectory)
        except PoseGapError:
            masked["motion"] = "no_pose"
            points = merge_scans(scans, reference)
        sensor = np.repeat(np.array(sources, np.uint8), [len(scan.points) for scan in scans])
        times = [
            (np.zeros(len(scan.points), np.float32) if scan.offsets is None else scan.offsets)
            + np.float32((scan.stamp - reference) / 1e9)
            for scan in scans
        ]
        return MergedScan(points, sensor, np.concatenate(times), masked)

    def image_message(self, i: int, camera: str) -> tuple[Any, int] | None:
        """The message nearest to frame `i` within the tolerance, Image or CompressedImage, and its stamp; None without one."""
        topic = self.rig.cameras[camera].topic
        row = self._nearest(topic, self.stamps[i], self.rig.tolerances.camera_ms)
        return None if row is None else (self._message(topic, row), int(self._stamps[topic][row]))

    def pose(self, i: int) -> NDArray[np.float64] | None:
        """T_world_lidar (4, 4) of frame `i`, or None where no pose is known."""
        if self._lead_trajectory is None:
            return None
        try:
            pose = self._lead_trajectory.at([self.stamps[i]], round(self.rig.tolerances.transform_ms * MILLISECOND))[0]
            return np.asarray(pose, np.float64)
        except PoseGapError:
            return None

    def image_file(self, i: int, camera: str) -> None:
        """None: images lie in the bag."""

    def image_stamp(self, i: int, camera: str) -> int:
        """The image's stamp, its camera's offset added."""
        topic = self.rig.cameras[camera].topic
        row = self._nearest(topic, self.stamps[i], self.rig.tolerances.camera_ms)
        return self.stamps[i] if row is None else int(self._stamps[topic][row])

    def _nearest(self, topic: str, stamp: int, tolerance_ms: float) -> int | None:
        stamps = self._stamps[topic]
        at = int(np.searchsorted(stamps, stamp))
        row = min(
            (row for row in (at - 1, at) if 0 <= row < len(stamps)), key=lambda row: abs(int(stamps[row]) - stamp), default=None
        )
        return row if row is not None and abs(int(stamps[row]) - stamp) <= tolerance_ms * MILLISECOND else None

    def _scan(self, lidar: LidarRig, row: int) -> SensorScan:
        try:
            found = scan_from_cloud(
                self._message(lidar.topic, row), lidar.intensity_scale, lidar.topic, lidar.time_field, lidar.stamp
            )
        except ConversionError as error:
            raise DatasetError(f"{self.bag}: {error}") from error
        if (highest := float(found.points[:, 3].max(initial=0))) > MAX_INTENSITY:
            full = full_intensity(highest / lidar.intensity_scale)
            warn_once(f"{self.bag}: {lidar.topic}: intensities are 0 to {full:g}; set its intensity_scale to {1 / full:.6g}")
        if found.time_problem:
            warn_once(f"{self.bag}: {lidar.topic}: {found.time_problem}")
        T_base_lidar = lidar.T_base_lidar
        assert T_base_lidar is not None
        for box in {lidar.exclude_box, self.rig.lead.exclude_box} - {()}:
            found = found.without(inside_box(found.points, T_base_lidar, box))
        T = None if lidar is self.rig.lead else np.asarray(np.linalg.solve(self.T_grid_lidar, T_base_lidar), np.float64)
        stamp, times = int(self._stamps[lidar.topic][row]), found.times
        if times is None:
            return SensorScan(found.points, stamp, T_body_sensor=T)
        return SensorScan(found.points, stamp, times.offsets, times.first, times.last, T)

    def _message(self, topic: str, row: int) -> Any:
        entry: TopicIndex = self._topics[topic]
        if self._open is None or self._open[0] != os.getpid():  # a forked process would share the place in the file
            stack = ExitStack()
            self._open = (os.getpid(), stack.enter_context(open_bag(self.bag)), stack)
        try:
            return read_message(self.bag, self._open[1].read(entry.places[row]), entry.kind, topic)
        except BagError as error:
            raise DatasetError(str(error)) from error
