# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Pipeline from synchronised messages to an Occupancy."""

from __future__ import annotations

import itertools
import os
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from occle_core.frame import Frame, FrameError
from occle_core.geometry.trajectory import PoseGapError
from occle_core.occupancy import Occupancy
from occle_core.plausibility import frame_warnings
from occle_core.predictor import Predictor
from occle_core.sensors.transforms import frame_name
from occle_ros.calibration.files import CalibrationError
from occle_ros.calibration.lidars import LidarPoses
from occle_ros.calibration.rig import Calibration
from occle_ros.config.node_config import NodeConfig
from occle_ros.config.parameter_group import ConfigError
from occle_ros.config.rig_parameters import rig_grid_problem
from occle_ros.pipeline.assemble import AssembledFrame, assemble
from occle_ros.pipeline.scans import lidar_frame
from occle_ros.pipeline.statistics import Statistics
from occle_ros.sync.lidar_led import SyncedMessages

_IDENTITY = np.eye(4)
_IDENTITY.setflags(write=False)
CHECKED = 16
"""The first frame and every n-th after it are checked for a plausible calibration."""


@dataclass(frozen=True)
class ProcessedFrame:
    """Input and output of the network for one frame.

    Args:
        assembled: the input.
        occupancy: the prediction; `timings` are "convert" and the network's stages.
        body: frame whose motion TF has, and the main LiDAR's pose in it, as of `Calibration.body`.
        world_frame: frame of the scan's pose, where it has one, as `LidarPoses.world_frame`.
    """

    assembled: AssembledFrame
    occupancy: Occupancy
    body: tuple[str, NDArray[np.float64]] = ("", _IDENTITY)
    world_frame: str = ""


class Pipeline:
    """Conversion and prediction of synchronised messages.

    Args:
        predictor: the network.
        config: the node's configuration.
        calibration: the rig's calibration.
        poses: for motion compensation; None: those that `config` names, without an odometry topic's messages.

    Raises:
        ConfigError: more cameras are configured than the network was trained for.
    """

    def __init__(self, predictor: Predictor, config: NodeConfig, calibration: Calibration, poses: LidarPoses | None = None) -> None:
        if len(config.camera_names) > predictor.num_cameras:
            raise ConfigError(
                f"parameter camera_names has {len(config.camera_names)} cameras, bundle {predictor.bundle_id} was trained for "
                f"{predictor.num_cameras}; name fewer cameras or use a bundle of this rig (`occle-train fit` makes one)"
            )
        self._predictor, self._config, self._calibration = predictor, config, calibration
        self._poses = poses or LidarPoses(config, calibration)
        self._grid_problem = rig_grid_problem(config.rig, predictor.grid)
        self._numbers = itertools.count()
        self._lidar_frame = ""
        # Cores that a frame may use beside those that run at the same time.
        spare = (config.threads or len(os.sched_getaffinity(0))) // predictor.max_concurrent
        workers = min(spare, len(config.camera_names))
        self._mapped = ThreadPoolExecutor(workers, "decode").map if workers > 1 else map

    def process(self, synced: SyncedMessages[Any, Any]) -> ProcessedFrame:
        """Process one scan with its images.

        Raises:
            ConversionError: the scan cannot be read.
            CalibrationError: the calibration of the rig is not complete (yet).
            FrameError: no points are left, none is inside the grid, or every camera is left out and the network needs one.
        """
        began = time.perf_counter()
        frame = self._lidar_frame = self._frame_of(synced)
        needs_pose = self._predictor.num_frames > 1
        rig = self._calibration.rig(frame, synced.stamp, pose=needs_pose and self._poses.source in ("tf", "off"))
        main_frame = frame_name(self._config.tf.lidar_frame or frame)
        size = self._predictor.image_size
        assembled = assemble(synced, rig, self._config, self._poses, main_frame, size, self._mapped)
        if needs_pose and self._poses.source not in ("tf", "off"):
            assembled = self._with_pose(assembled, frame)
        if next(self._numbers) % CHECKED == 0:
            assembled = replace(assembled, warnings={**assembled.warnings, **self._warnings(assembled.frame)})
        converted = (time.perf_counter() - began) * 1e3
        try:
            occupancy = self._predictor.predict(assembled.frame, rig.grid_frame)
        except FrameError as error:
            masked = ", ".join(f"{name} ({reason})" for name, reason in assembled.masked.items())
            raise FrameError(f"{error}; left out: {masked}" if masked else str(error)) from error
        occupancy = replace(occupancy, timings={"convert": converted, **occupancy.timings})
        return ProcessedFrame(assembled, occupancy, self._calibration.body(main_frame), self._poses.world_frame)

    def posed_frame(self, synced: SyncedMessages[Any, Any], processed: ProcessedFrame) -> Frame:
        """The frame that was processed, with the scan's pose where it is known, also where the network needs none."""
        frame = self._frame_of(synced)
        if self._poses.source not in ("tf", "off"):
            return self._with_pose(processed.assembled, frame).frame
        rig = self._calibration.rig(frame, synced.stamp, pose=True)
        return replace(processed.assembled.frame, T_world_lidar=rig.T_world_lidar)

    def _frame_of(self, synced: SyncedMessages[Any, Any]) -> str:
        """Name of the main LiDAR's frame."""
        file = self._calibration.file
        return lidar_frame(synced, self._config, self._lidar_frame, file.lidar_frame if file else "")

    def _warnings(self, frame: Frame) -> dict[str, str]:
        found = frame_warnings(frame, self._predictor.grid, self._config.camera_names)
        return {**found, "grid": self._grid_problem} if self._grid_problem else found

    def _with_pose(self, assembled: AssembledFrame, frame: str) -> AssembledFrame:
        """The frame with the pose that its scan was compensated with, for networks with a history."""
        try:
            pose = self._poses.pose(frame_name(self._config.tf.lidar_frame or frame), assembled.frame.stamp)
        except (CalibrationError, PoseGapError) as error:
            return replace(assembled, pose_problem=str(error))
        return replace(assembled, frame=replace(assembled.frame, T_world_lidar=pose))


def count_losses(processed: ProcessedFrame, statistics: Statistics) -> None:
    """Count what was lost, for /diagnostics and the summary of an offline run.

    Masked cameras and LiDARs, dropped points, scans that are not compensated for motion, overflow and missing history.
    """
    for reason, points in processed.assembled.dropped_points.items():
        statistics.count("points", reason, points)
    for table, cells in processed.occupancy.overflow.items():
        statistics.count("overflow", table, cells)
    for name, reason in processed.assembled.masked.items():
        statistics.count("masked", f"{name}:{reason}")
    if processed.assembled.deskew:
        statistics.count("deskew", processed.assembled.deskew)
    if processed.occupancy.short_history:
        statistics.count("history", processed.occupancy.short_history)
