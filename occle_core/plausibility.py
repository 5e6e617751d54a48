# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Plausibility of a calibration, by a scan: its ground has to be in the grid, and cameras have to see some of its points."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from occle_core.frame import Frame
from occle_core.geometry.affine import transform_points
from occle_core.geometry.camera import Camera
from occle_core.geometry.grid import VoxelGrid

EVERY = 61
"""Every n-th point is looked at; a prime, for scans list their beams in turn, and another number would look at few beams."""

FEW = 20
"""Points over the grid's area, of those looked at, below which nothing is said."""

BELOW = 0.25
"""Share of them below the grid: less of KITTI's and nuScenes' scans is below their own grids, more of KITTI's below nuScenes' grid,
which begins 1 m below a vehicle's frame on the ground (tested on real scans)."""

LOWEST, ABOVE = 5, 1.3
"""Percentile of the points' heights that stands for the ground; metres above the grid's bottom from which it is too high. Of
KITTI's and nuScenes' scans it is below 0.9 m in their own grids (tested on real scans)."""

SEEN = 0.001
"""Share of a scan's points below which a camera sees none: KITTI's and nuScenes' cameras see more, one whose body frame stands
for its optical frame less (tested on real scans)."""


def frame_warnings(frame: Frame, grid: VoxelGrid, names: Sequence[str]) -> dict[str, str]:
    """Subject -> what is implausible in a frame's calibration, and the remedy.

    Args:
        frame: a scan and its images.
        grid: the network's.
        names: of the cameras.
    """
    seen = (name for name, image in zip(names, frame.images) if image is not None)
    cameras = (camera for image, camera in zip(frame.images, frame.cameras) if image is not None)
    found = {f"view:{name}": view_problem(frame.points, camera, name) for name, camera in zip(seen, cameras)}
    found["placement"] = placement_problem(frame.points, frame.T_grid_lidar, grid)
    return {subject: problem for subject, problem in found.items() if problem}


def view_problem(points: NDArray[np.float32], camera: Camera, name: str) -> str | None:
    """What is wrong with a camera into whose image no point of a scan falls, and the remedy; None where some do.

    Args:
        points: (N, 3 or more) in the LiDAR frame, metres.
        camera: with its pose.
        name: of the camera.
    """
    if len(points) < EVERY * FEW or any(camera.project(part)[2].mean() >= SEEN for part in (points[::EVERY], points)):
        return None
    return (
        f"no point of the scan falls into the image of {name}: its pose is not that of the optical frame (x right, y down, z "
        "forward), or it looks where the LiDAR does not; correct T_camera_lidar, the frame_id of its CameraInfo, or TF"
    )


def placement_problem(points: NDArray[np.float32], T_grid_lidar: NDArray[np.float64], grid: VoxelGrid) -> str | None:
    """What is wrong with a grid under which much of a scan lies, or far above whose bottom all of it; None where nothing is.

    Args:
        points: (N, 3 or more) in the LiDAR frame, metres.
        T_grid_lidar: (4, 4).
        grid: the network's.
    """
    placed = transform_points(T_grid_lidar, points[::EVERY])
    lowest, highest = np.asarray(grid.origin), np.asarray(grid.upper)
    over = ((placed[:, :2] >= lowest[:2]) & (placed[:, :2] < highest[:2])).all(axis=1)
    if np.count_nonzero(over) < FEW:
        return None
    bottom = f"the voxel grid, which begins at z = {grid.origin[2]:g} m"
    if np.mean(placed[over, 2] < lowest[2]) > BELOW:
        return (
            f"much of the scan lies below {bottom}: the ground is not in it. Check T_grid_lidar (the LiDAR's height in the grid's "
            "frame), or use a bundle that was trained for this mounting"
        )
    ground = float(np.percentile(placed[over, 2], LOWEST) - lowest[2])
    if ground <= ABOVE:
        return None
    return (
        f"the scan's ground lies {ground:.1f} m above the bottom of {bottom}: networks that were trained with less below it put "
        "voxels there that do not exist. Check T_grid_lidar; or give a grid frame (tf.grid_frame, base_frame) that lies "
        f"{ground - 0.3:.1f} m higher, or a bundle that was trained for this frame"
    )
