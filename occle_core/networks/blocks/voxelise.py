# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Points -> voxels: which points each voxel keeps, and the features of a point."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from occle_core.geometry.grid import VoxelGrid
from occle_core.native import prepare as native
from occle_core.sensors.returns import no_return

POINT_FEATURES = 10


def drop_own_vehicle(points: NDArray[np.float32], min_range: float) -> NDArray[np.float32]:
    """Drop the rows of a scan (N, 4) on the vehicle itself and those without a return.

    Args:
        points: (N, 4) x, y, z in metres, intensity.
        min_range: horizontal distance up to which points are the vehicle itself, metres.
    """
    if min_range:
        return points[points[:, 0] ** 2 + points[:, 1] ** 2 >= min_range**2]
    lost = no_return(points)
    return points[~lost] if lost.any() else points


def voxelise(
    points: NDArray[np.float32], grid: VoxelGrid, max_points: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Sort points into voxels, at most `max_points` each, evenly spread over the voxel's points in scan order.

    Args:
        points: (N, 3) float32 in the grid frame, metres.

    Returns:
        rows (P,) of `points` that were kept, voxel (P,) of each kept point, table (V, max_points) of positions in `rows`
        (P where a voxel has fewer), cells (V, 3) int64 in C order.
    """
    if (space := native.workspace()) is not None:
        return native.voxelise(space, points, grid, max_points)
    ijk, inside = grid.index(points)
    candidates = np.flatnonzero(inside)
    _, ny, nz = grid.shape
    key = (ijk[candidates, 0].astype(np.int64) * ny + ijk[candidates, 1]) * nz + ijk[candidates, 2]
    # Key and position in one number: sorting plain numbers is several times faster than a stable argsort, and as stable.
    key = np.sort(key << 32 | np.arange(len(key)))
    order, key = key & 0xFFFFFFFF, key >> 32
    starts = np.flatnonzero(np.diff(key, prepend=-1))
    counts = np.diff(starts, append=len(key))
    kept = np.minimum(counts, max_points)
    slot = np.arange(max_points)[None]
    filled = slot < kept[:, None]
    picked = starts[:, None] + slot * counts[:, None] // np.maximum(kept, 1)[:, None]
    rows = candidates[order[picked[filled]]]
    table = np.full(filled.shape, len(rows), np.int64)
    table[filled] = np.arange(len(rows))
    voxel = np.broadcast_to(np.arange(len(starts))[:, None], filled.shape)[filled]
    first = key[starts]
    cells = np.stack([first // (ny * nz), first // nz % ny, first % nz], 1)
    return rows, voxel, table, cells


def point_features(
    points: NDArray[np.float32], intensity: NDArray[np.float32], voxel: NDArray[np.int64], cells: NDArray[np.int64], grid: VoxelGrid
) -> NDArray[np.float32]:
    """(P, 10) float32: position scaled to -1..1 over the grid, intensity, offset from the voxel's mean point and from its centre.

    Offsets are in voxels (MVX-Net's VFE input, Sindagi et al., Sec. 3.1, with the centre offset of dynamic voxelisation).
    """
    if (space := native.workspace()) is not None:
        return native.point_features(space, points, intensity, voxel, cells, grid)
    count = np.bincount(voxel, minlength=len(cells)).astype(np.float32)
    mean = np.stack([np.bincount(voxel, points[:, axis], len(cells)) for axis in range(3)], 1).astype(np.float32) / count[:, None]
    lower, upper = np.asarray(grid.origin, np.float32), np.asarray(grid.upper, np.float32)
    size = np.float32(grid.resolution)
    position = (points - lower) / (upper - lower) * 2 - 1
    from_mean = (points - mean[voxel]) / size
    from_center = (points - grid.centers(cells)[voxel]) / size
    return np.concatenate([position, intensity[:, None], from_mean, from_center], 1, dtype=np.float32)
