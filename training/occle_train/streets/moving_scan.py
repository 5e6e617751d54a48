# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Motion-distorted scans: each firing of a turn from where the LiDAR is at its time, as a real sensor measures."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from occle_core.geometry.trajectory import Trajectory
from occle_train.streets.drive import Drive
from occle_train.streets.sensors.caster import SceneSnapshot
from occle_train.streets.sensors.lidar import SimulatedScan, scan
from occle_train.streets.sensors.rigs import Lidar


def moving_scan(
    snapshot: SceneSnapshot,
    lidar: Lidar,
    trajectory: Trajectory,
    start: int,
    duration: float,
    rng: np.random.Generator,
) -> tuple[SimulatedScan, NDArray[np.float32]]:
    """One turn of a LiDAR in motion. What moves in the scene stands still meanwhile.

    Args:
        snapshot: the scene.
        lidar: the sensor.
        trajectory: of the sensor.
        start: time of the first firing, nanoseconds.
        duration: of the turn, seconds.
        rng: as for `scan`.

    Returns:
        The scan, each point in the sensor's frame at its own time; and these times (N,), seconds after the start.
    """
    seconds = np.arange(lidar.columns) * (duration / lidar.columns)
    poses = trajectory.at(start + np.round(seconds * 1e9).astype(np.int64))
    found = scan(snapshot, lidar, poses, rng)
    return found, seconds[found.column].astype(np.float32)


def lidar_trajectory(drive: Drive, i: int, duration: float, margin: float = 0.1, steps: int = 20) -> Trajectory:
    """T_world_lidar of the drive's own motion around frame `i`, at that frame's speed; stamps are the drive's, nanoseconds.

    Args:
        drive: the drive.
        i: the frame, at which the turn begins.
        duration: of the turn, seconds.
        margin: how far before and after the turn the poses reach, seconds.
        steps: number of poses.
    """
    seconds = np.linspace(-margin, duration + margin, steps)
    poses = [drive.base_pose(i, float(second)) @ drive.rig.T_base_lidar for second in seconds]
    return Trajectory(np.round((drive.times[i] + seconds) * 1e9).astype(np.int64), np.stack(poses))
