# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Plausibility of where a grid lies: a scan's ground has to be in it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from occle_core.geometry.affine import transform_points
from occle_core.geometry.grid import VoxelGrid

EVERY = 16
"""Of so many points one is looked at."""

FEW = 50
"""Points over the grid's area, of those looked at, below which nothing is said."""

BELOW = 0.25
"""Share of them below the grid: at most 0.09 of real KITTI and nuScenes scans on their own grids, 0.43 to 0.70 of KITTI's on
nuScenes' grid, which begins at z -1.0 m of the vehicle on the ground (2026-11-27)."""


def placement_problem(points: NDArray[np.float32], T_grid_lidar: NDArray[np.float64], grid: VoxelGrid) -> str | None:
    """What is wrong with a grid under which much of a scan lies, and the remedy; None where nothing is.

    Args:
        points: (N, 3 or more) in the LiDAR frame, metres.
        T_grid_lidar: (4, 4).
        grid: the network's.
    """
    placed = transform_points(T_grid_lidar, points[::EVERY])
    lowest, highest = np.asarray(grid.origin), np.asarray(grid.upper)
    over = ((placed[:, :2] >= lowest[:2]) & (placed[:, :2] < highest[:2])).all(axis=1)
    if np.count_nonzero(over) < FEW or np.mean(placed[over, 2] < lowest[2]) <= BELOW:
        return None
    return (
        f"much of the scan lies below the voxel grid, which begins at z = {grid.origin[2]:g} m: the ground is not in it. Check "
        "T_grid_lidar (the LiDAR's height in the grid's frame), or use a bundle that was trained for this mounting"
    )
