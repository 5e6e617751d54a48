# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Rays through a voxel grid by the compiled library, equal to `geometry.raycast` and `visibility` to the bit."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from occle_core.geometry.grid import VoxelGrid
from occle_core.native.library import Library, address


def end_rays(
    library: Library, grid: VoxelGrid, occupied: NDArray[np.bool_], origin: NDArray[np.float64], directions: NDArray[np.float64]
) -> tuple[NDArray[np.int32], NDArray[np.bool_], NDArray[np.float64]]:
    """First occupied cells along rays from one origin.

    Args:
        library: see `occle_core.native.library.load`.
        grid: where the cells lie.
        occupied: (X, Y, Z) bool.
        origin: (3,) grid frame, metres.
        directions: (R, 3), any length but zero.

    Returns:
        cell (R,) int32: number, in C order, of the cell in which the ray ends, -1 if it never enters the grid; hit (R,) bool: that
        cell is occupied; exit (R,) float64: metres to where the ray leaves it, -1 if it never enters.
    """
    ways = np.ascontiguousarray(directions / np.linalg.norm(directions, axis=1)[:, None] / grid.resolution)
    start = np.ascontiguousarray((origin - np.asarray(grid.origin)) / grid.resolution)
    count = len(ways)
    cell, hit, leaves = np.empty(count, np.int32), np.empty(count, np.bool_), np.empty(count)
    solid = np.ascontiguousarray(occupied)
    library.call(
        "end_rays",
        address(solid, np.bool_, *grid.shape),
        *grid.shape,
        address(start, np.float64, 3),
        address(ways, np.float64, count, 3),
        count,
        address(cell, np.int32, count),
        address(hit, np.bool_, count),
        address(leaves, np.float64, count),
    )
    return cell, hit, leaves


def pass_rays(
    library: Library, start: list[float], ways: list[NDArray[np.float32]], shape: tuple[int, int, int]
) -> NDArray[np.bool_]:
    """Cells that rays pass or end in, one ray per end cell, as `occle_core.visibility.lidar_cells`.

    Args:
        library: see `occle_core.native.library.load`.
        start: of all rays, per axis, in cells.
        ways: per axis (N,) from there to the rays' ends, in cells; none is 0.
        shape: cells of the grid.

    Returns:
        (X, Y, Z) bool.
    """
    seen = np.empty(shape, np.bool_)
    along, begin = np.stack(ways), np.array(start)
    library.call(
        "pass_rays",
        address(begin, np.float64, 3),
        address(along, np.float32, 3, None),
        along.shape[1],
        *shape,
        address(seen, np.bool_, *shape),
    )
    return seen
