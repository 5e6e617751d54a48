# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Poses of the main LiDAR over a scan's duration, from TF, odometry or the scans themselves; and mountings of further LiDARs."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
from numpy.typing import NDArray

from occle_core.geometry.trajectory import PoseGapError, Trajectory
from occle_core.sensors.deskew import SLACK
from occle_core.sensors.lidar_odometry import LidarOdometry
from occle_core.sensors.merge import SensorScan
from occle_core.sensors.transforms import TransformBuffer, frame_name
from occle_ros.calibration.files import CalibrationError, rigid
from occle_ros.calibration.rig import Calibration
from occle_ros.config.node_config import NodeConfig
from occle_ros.config.parameter_group import ConfigError

STEP = 10_000_000
"""Nanoseconds between the times that poses are looked up for."""


class LidarPoses:
    """Poses for motion compensation, and mountings of further LiDARs.

    Args:
        config: the node's configuration.
        calibration: gives TF.
        kept: number of the latest odometry messages that are kept; None: all.

    Raises:
        ConfigError: lidar.deskew kiss_icp without that package, or odometry without a topic.
    """

    def __init__(self, config: NodeConfig, calibration: Calibration, kept: int | None = 1000) -> None:
        self._config, self._calibration = config, calibration
        source = config.lidar.deskew
        if source == "auto":
            source = "odometry" if config.lidar.odometry_topic else "tf"
        if source == "odometry" and not config.lidar.odometry_topic:
            raise ConfigError("parameter lidar.deskew: odometry needs the topic in lidar.odometry_topic")
        self.source = source
        self._odometry = TransformBuffer(kept)
        self._frames: tuple[str, str] | None = None
        self._lock = threading.Lock()
        self._registration: LidarOdometry | None = None
        if source == "kiss_icp":
            try:
                self._registration = LidarOdometry()
            except ImportError as error:
                raise ConfigError(f"parameter lidar.deskew: {error}") from error
        self._mountings = {name: rigid(each.T_lidar, f"lidars.{name}") for name, each in config.lidars.items() if each.T_lidar}

    @property
    def world_frame(self) -> str:
        """Frame of the poses; "" where TF has no name for it (kiss_icp), and before the first odometry."""
        if self.source == "odometry":
            return self._frames[0] if self._frames else ""
        return "" if self.source == "kiss_icp" else frame_name(self._config.tf.world_frame)

    def add_odometry(self, message: Any) -> None:
        """Add a message of lidar.odometry_topic.

        Raises:
            ConversionError: it has no pose.
        """
        self._odometry.add_odometry(message)
        self._frames = frame_name(message.header.frame_id), frame_name(message.child_frame_id)

    def add_scan(self, scan: SensorScan) -> None:
        """Register a scan of the main LiDAR; does nothing unless its poses come from the scans."""
        if self._registration is not None:
            with self._lock:
                self._registration.add(scan.points, scan.stamp, scan.offsets)

    def mounting(self, name: str, main_frame: str, frame: str, stamp: int) -> NDArray[np.float64]:
        """(4, 4), maps points of the further LiDAR `name` into the main LiDAR's frame: parameter T_lidar, else TF.

        Args:
            name: of lidar_names.
            main_frame: frame of the main LiDAR's scans.
            frame: frame_id of its scans.
            stamp: nanoseconds, for a mounting that moves.

        Raises:
            CalibrationError: neither gives it.
        """
        if (given := self._mountings.get(name)) is not None:
            return given
        frame = frame_name(frame)
        if frame == main_frame:
            return np.eye(4)
        try:
            return self._calibration.require_transforms().lookup(main_frame, frame, stamp, SLACK)
        except (LookupError, CalibrationError) as error:
            raise CalibrationError(
                f"where it is on the robot is not known ({error}); publish the transform {main_frame} -> {frame}, or set parameter "
                f"lidars.{name}.T_lidar"
            ) from error

    def trajectory(self, frame: str, first: int, last: int) -> Trajectory:
        """T_world_lidar of the main LiDAR over a time.

        Args:
            frame: of its scans.
            first: nanoseconds; poses may be missing at the ends.
            last: nanoseconds.

        Raises:
            CalibrationError, PoseGapError: there are no poses.
        """
        if self._registration is not None:
            with self._lock:
                return self._registration.trajectory()
        world = self._config.tf.world_frame
        buffer: Any = self._odometry
        if self.source == "odometry":
            if self._frames is None:
                raise PoseGapError(f"no odometry was received on {self._config.lidar.odometry_topic}")
            world, body = self._frames
            mounting = self._on_the_body(body, frame, first)
        else:
            buffer = self._calibration.require_transforms()
            body, mounting = self._calibration.body(frame)
        steps = max(1, -(-(last - first) // STEP))
        stamps = [first + (last - first) * step // steps for step in range(steps + 1)] if last > first else [first]
        known, poses, problem = _look_up(buffer, world, body, stamps)
        if len(known) < min(2, len(stamps)):  # all lie after the newest pose: the last motion continues
            known, poses, problem = _look_up(buffer, world, body, [first - SLACK // 2 * back for back in (2, 1)] + stamps)
        is_covered = known and known[0] - SLACK <= first and last <= known[-1] + SLACK
        if problem and not (is_covered and len(known) >= min(2, len(stamps))):
            raise PoseGapError(problem)
        return Trajectory(known, np.stack(poses) @ mounting)

    def pose(self, frame: str, stamp: int) -> NDArray[np.float64]:
        """T_world_lidar of the main LiDAR at a time.

        Raises:
            CalibrationError, PoseGapError: it is not known.
        """
        return np.asarray(self.trajectory(frame, stamp - STEP, stamp + STEP).at([stamp], SLACK)[0])

    def _on_the_body(self, body: str, frame: str, stamp: int) -> NDArray[np.float64]:
        """T_body_lidar: of the calibration file or the rig file where odometry's body is their frame, else from TF."""
        if body == frame:
            return np.eye(4)
        file = self._calibration.file
        if file is not None and frame_name(file.grid_frame) == body and frame_name(file.lidar_frame) in ("", frame):
            return rigid(file.T_grid_lidar, "T_grid_lidar")
        mounted = self._calibration.mounted
        if mounted is not None and frame_name(mounted[0]) == body:
            return mounted[1]
        try:
            return self._calibration.require_transforms().lookup(body, frame, stamp, SLACK)
        except (LookupError, CalibrationError) as error:
            raise CalibrationError(f"odometry is of {body!r}, and the LiDAR's place on it is not known: {error}") from error


def _look_up(buffer: Any, world: str, body: str, stamps: list[int]) -> tuple[list[int], list[NDArray[np.float64]], str]:
    """The stamps that a pose is known for, the poses T_world_body, and why the first of the others has none."""
    known, poses, problem = [], [], ""
    for stamp in stamps:
        try:
            poses.append(buffer.lookup(world, body, stamp, wait=False))
            known.append(stamp)
        except LookupError as error:
            problem = problem or str(error)
    return known, poses, problem
