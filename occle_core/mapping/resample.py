# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""An occupancy in the sensor's grid, read at the cells of a map that is turned against it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from occle_core.geometry.grid import VoxelGrid

Columns = NDArray[np.intp]


def source_cells(
    grid: VoxelGrid, T_map_grid: NDArray[np.float64], shape: tuple[int, int, int], resolution: float
) -> tuple[Columns, NDArray[np.int32]]:
    """For the map's cells, the grid's cell in which their centre lies.

    Args:
        grid: the occupancy's.
        T_map_grid: (4, 4), maps points of the grid's frame into the map's window, whose lowest corner is (0, 0, 0).
        shape: the map's cells along x, y, z.
        resolution: the map's, metres.

    Returns:
        columns (N,): numbers x * Y + y of the map's columns that the grid reaches; cells (N, Z) int32: flat numbers of the grid's
        cells, `grid.size` where a centre lies outside the grid.
    """
    columns_y, heights = shape[1:]
    turn, shift = from_map_numbers(grid, T_map_grid, resolution)
    low, high = columns_in_reach(grid, T_map_grid, shape, resolution)
    x, y = np.arange(low[0], high[0], dtype=np.float32), np.arange(low[1], high[1], dtype=np.float32)
    z = np.arange(heights, dtype=np.float32)

    # The column's middle, per axis of the grid, and how far its ends lie from there: columns beyond that have no cell inside.
    lowest = [np.add.outer(x * np.float32(turn[a, 0]), y * np.float32(turn[a, 1]) + np.float32(shift[a])) for a in range(3)]
    near = np.ones((len(x), len(y)), np.bool_)
    for axis in range(3):
        ends = lowest[axis], lowest[axis] + np.float32(turn[axis, 2] * (heights - 1))
        near &= (np.maximum(*ends) >= 0) & (np.minimum(*ends) < grid.shape[axis])
    at_x, at_y = np.nonzero(near)

    cells = np.zeros((len(at_x), heights), np.int32)
    inside = np.ones(cells.shape, np.bool_)
    for axis, count in enumerate(grid.shape):
        source = lowest[axis][near][:, None] + z * np.float32(turn[axis, 2])
        index = np.floor(source, out=source).astype(np.int32)
        inside &= index.view(np.uint32) < count  # negative numbers become huge ones
        cells *= count
        cells += index
    cells[~inside] = grid.size
    return (at_x + low[0]) * columns_y + at_y + low[1], cells


def from_map_numbers(
    grid: VoxelGrid, T_map_grid: NDArray[np.float64], resolution: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """turn (3, 3), shift (3,): the centre of the map's cell with a number lies at turn @ number + shift, in cells of the grid."""
    T = np.linalg.inv(T_map_grid)
    turn = np.asarray(T[:3, :3] * (resolution / grid.resolution), np.float64)
    return turn, (T[:3, 3] - grid.origin) / grid.resolution + turn.sum(axis=1) / 2


def columns_in_reach(
    grid: VoxelGrid, T_map_grid: NDArray[np.float64], shape: tuple[int, int, int], resolution: float
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Numbers x, y of the map's lowest column that the grid may reach, and of the first one beyond the highest."""
    corners = np.array([[(grid.origin, grid.upper)[b >> a & 1][a] for a in range(3)] for b in range(8)])
    reach = corners @ T_map_grid[:2, :3].T + T_map_grid[:2, 3]
    low = np.clip(np.floor(reach.min(axis=0) / resolution), 0, shape[:2]).astype(np.intp)
    return low, np.clip(np.ceil(reach.max(axis=0) / resolution) + 1, 0, shape[:2]).astype(np.intp)
