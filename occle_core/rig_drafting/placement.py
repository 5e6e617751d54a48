# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Where the sensors of a recording are, and where the ground and the grid."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress

import numpy as np
from numpy.typing import NDArray

from occle_core.geometry.affine import transform_points
from occle_core.rig import CameraRig, LidarRig
from occle_core.rig.description import GridRig
from occle_core.rig.pose import pose_rows
from occle_core.rig_drafting.ground import LEVEL, GroundPlane, find_ground
from occle_core.sensors.transforms import TransformBuffer, TransformError, frame_name

Matrix = NDArray[np.float64]
Points = NDArray[np.float32]


def pose_sensors(
    transforms: TransformBuffer,
    base: str,
    lidars: Mapping[str, LidarRig],
    cameras: Mapping[str, CameraRig],
    baselines: Mapping[str, Matrix],
    scans: Mapping[str, Points],
) -> tuple[dict[str, LidarRig], dict[str, CameraRig], list[str]]:
    """The sensors with poses from TF; of LiDARs without one, roll, pitch and height by the ground. And the questions left.

    Args:
        transforms: of the recording.
        base: name of the base frame.
        lidars, cameras: by name, with their frames.
        baselines: camera -> (4, 4) offset of a stereo pair's second camera from the frame that it names.
        scans: LiDAR -> (N, 4) points of some scans, in its frame.
    """
    questions: list[str] = []
    posed_lidars, posed_cameras = {}, {}
    known: dict[str, Matrix] = {}
    for name, lidar in lidars.items():
        with suppress(TransformError):
            known[name] = np.asarray(transforms.lookup(base, frame_name(lidar.frame)))
    _, ground_z = _ground(known, scans) if known else (None, 0.0)
    for name, lidar in lidars.items():
        if (T := known.get(name)) is None:
            T = np.eye(4)
            seen = "nothing is known"
            if (ground := find_ground(scans[name])) is not None:
                T = ground.levelled()
                T[2, 3] += ground_z
                tilt = ground.tilt(np.array([0, 0, 1.0]))
                plane = "the ground" if tilt <= LEVEL else f"a plane {tilt:.0f} degrees off its horizon, if that is the ground,"
                seen = f"{plane} gives height {ground.height:.2f} m, roll and pitch"
            questions.append(f"lidars.{name}.pose: no TF from {base} to {lidar.frame}; {seen}; measure x, y and yaw in {base}")
        posed_lidars[name] = lidar.model_copy(update={"pose": pose_rows(T)})
        same = [other for other in lidars if frame_name(lidars[other].frame) == frame_name(lidar.frame)]
        if name != same[0]:
            questions.append(
                f"lidars.{name}.pose: its scans are in the frame of {same[0]}, {lidar.frame}, so it has the same pose; right only "
                "where the drivers transform their points, not where each has the same default frame_id"
            )
    for name, camera in cameras.items():
        try:
            T = np.asarray(transforms.lookup(base, frame_name(camera.frame)))
        except TransformError:
            questions.append(
                f"cameras.{name}.pose: no TF from {base} to {camera.frame}; measure x, y, z, roll, pitch, yaw of the optical frame "
                "(-90, 0, -90 looks ahead), then `occle rig check`"
            )
            posed_cameras[name] = camera
            continue
        posed_cameras[name] = camera.model_copy(update={"pose": pose_rows(T @ np.linalg.inv(baselines[name]))})
    return posed_lidars, posed_cameras, questions


def place_grid(lidars: Mapping[str, LidarRig], scans: Mapping[str, Points]) -> tuple[GridRig, float, list[str], list[str]]:
    """A grid around what the LiDARs see, the ground in the middle of a layer of cells; and the ground's height, facts, questions.

    Args:
        lidars: by name, with poses.
        scans: as for `pose_sensors`.
    """
    facts: list[str] = []
    questions: list[str] = []
    poses = {name: np.array(lidar.pose) for name, lidar in lidars.items()}
    ground, ground_z = _ground(poses, scans)
    if ground is None:
        questions.append("ground_z: no ground plane was found; how high above the ground is the base frame?")
    elif (tilt := ground.tilt(np.array([0, 0, 1.0]))) > LEVEL:
        questions.append(
            f"ground_z: no level ground was found, but a plane {tilt:.0f} degrees off the base frame's horizon: is a LiDAR tilted "
            "or upside down, and TF does not say so? Then correct lidars.<name>.pose; else how high above the ground is the base "
            "frame?"
        )
    else:
        facts.append(f"ground: {ground.share:.0%} of the near points, at z = {ground_z:.2f} m, {tilt:.1f} degrees off level")
    points = _in_base(poses, scans)
    near = float(np.percentile(np.hypot(points[:, 0], points[:, 1]), 90))
    resolution, half = (0.4, 25.6) if near > 18 else (0.2, 12.8) if near > 6 else (0.1, 6.4)
    ahead = float(np.mean(points[:, 0] > 0))
    low = -half if ahead < 0.9 else 0.0
    across = round(2 * half / resolution)
    origin = (low, -half, round(ground_z - 2.5 * resolution, 3))
    grid = GridRig(origin=origin, shape=(across, across, 16), resolution=resolution)
    facts.append(
        f"grid: {grid.shape[0]} x {grid.shape[1]} x {grid.shape[2]} cells of {resolution} m; 90 % of the points within {near:.0f} m"
    )
    return grid, round(ground_z, 3), facts, questions


def _ground(poses: Mapping[str, Matrix], scans: Mapping[str, Points]) -> tuple[GroundPlane | None, float]:
    """The ground below LiDARs with these poses, and its height in the base frame; 0 where none is level."""
    height = float(next(iter(poses.values()))[2, 3])
    ground = find_ground(_in_base(poses, scans) - [0, 0, height])
    is_level = ground is not None and ground.tilt(np.array([0, 0, 1.0])) <= LEVEL
    return ground, height - ground.height if ground is not None and is_level else 0.0


def _in_base(poses: Mapping[str, Matrix], scans: Mapping[str, Points]) -> NDArray[np.float64]:
    """(N, 3) points of all scans whose LiDAR has a pose, in the base frame."""
    return np.concatenate([transform_points(T, scans[name][:, :3].astype(np.float64)) for name, T in poses.items()])
