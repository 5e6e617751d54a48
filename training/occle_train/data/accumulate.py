# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""A voxel truth out of labelled LiDAR scans with poses: occupied, free by ray, unknown elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from occle_core.datasets import Dataset, DatasetError
from occle_core.datasets.base import HasSweeps, ray_origins
from occle_core.datasets.voxels import majority
from occle_core.frame import RayOrigins
from occle_core.geometry.grid import VoxelGrid

THIN_VOTE = 4.0
"""Votes of a point of a thin class: one on a pole wins against three of the wall behind it that share its cell."""

CHUNK = 16_384
"""Rays that are traversed together; bounds the memory."""


def accumulate(
    dataset: Dataset, index: int, grid: VoxelGrid, before: int, after: int, moving: bool = True, sweeps: int = 0
) -> NDArray[np.uint8]:
    """Labels of the cells around scan `index`, from it and its neighbours in time.

    A cell that holds labelled points is occupied, with the label of most of them (thin classes count more). A cell that holds
    unlabelled points only is unknown. Of the others, those that a ray from a sensor to one of its labelled points crosses are
    free (unlabelled points may be reflections), and the rest is unknown. Objects in motion would smear: their points count in
    scan `index` only, though the rays to them always do. Scans between the data set's frames have no labels: their rays to points
    in labelled cells add free space.

    Args:
        dataset: a sequence with point labels and poses.
        index: the reference scan, whose grid frame the result is in.
        grid: the cells.
        before: number of scans before it to add; the sequence's beginning shortens this.
        after: number of scans after it to add; the sequence's end shortens this.
        moving: take the objects in motion from scan `index` only; False treats everything as standing.
        sweeps: how many scans before each frame to add, where the data set has some between its frames (nuScenes: ten).

    Returns:
        (X, Y, Z) uint8 class ids of the data set's taxonomy, 255 unknown.

    Raises:
        DatasetError: a scan has no labels or (with `moving`) knowledge of what moves, or scan `index` has no pose. Other scans
            without one are left out.
    """
    hit = np.zeros(grid.shape, np.bool_)
    free = np.zeros(grid.shape, np.bool_)
    cells, votes = [], []
    for points, labels, origins, counts in _scans(dataset, index, before, after, moving):
        labelled_rows = labels != dataset.taxonomy.ignore
        free |= crossed_cells(origins.of(labelled_rows), points[labelled_rows], grid)
        ijk, inside = grid.index(points)
        inside &= counts
        here = ijk[inside]
        hit[tuple(here.T)] = True
        cells.append(np.ravel_multi_index(tuple(here.T), grid.shape))
        votes.append(labels[inside])
    cell, vote = np.concatenate(cells), np.concatenate(votes)
    known = vote != dataset.taxonomy.ignore
    labelled = np.zeros(grid.size, np.bool_)
    labelled[cell[known]] = True
    for points, origin in placed_sweeps(dataset, index, before, after, sweeps):
        ijk, inside = grid.index(points)
        rows = np.flatnonzero(inside)
        rows = rows[labelled[np.ravel_multi_index(tuple(ijk[rows].T), grid.shape)]]
        free |= traversed(origin, points[rows], grid)
    weights = np.ones(256)
    weights[list(dataset.taxonomy.thin)] = THIN_VOTE
    result = np.where(free & ~hit, dataset.taxonomy.free, dataset.taxonomy.ignore).astype(np.uint8)
    voted, winners = majority(cell[known], vote[known], weights)
    result.reshape(-1)[voted] = winners
    return result


def crossed_cells(origins: RayOrigins, points: NDArray[np.floating], grid: VoxelGrid) -> NDArray[np.bool_]:
    """(X, Y, Z) bool: cells that the rays from each LiDAR to its points (N, 3) cross, see `traversed`; all in the grid frame."""
    found = np.zeros(grid.shape, np.bool_)
    for origin, own in origins.rays(points):
        found |= traversed(origin, own, grid)
    return found


def traversed(origin: NDArray[np.floating], points: NDArray[np.floating], grid: VoxelGrid) -> NDArray[np.bool_]:
    """Cells that the rays from a sensor to its points pass through before they reach the point's own cell.

    Args:
        origin: (3,) the sensor, grid frame, metres; may lie outside the grid.
        points: (N, 3) grid frame, metres; may lie outside the grid.
        grid: the cells.

    Returns:
        (X, Y, Z) bool.
    """
    crossed = np.zeros(grid.size, np.bool_)
    scale, low = grid.resolution, np.asarray(grid.origin)
    start = (np.asarray(origin, np.float64) - low) / scale
    ends = (np.asarray(points, np.float64)[:, :3] - low) / scale
    if (start >= 0).all() and (start < grid.shape).all():
        crossed[np.ravel_multi_index(tuple(start.astype(np.int64)), grid.shape)] = True
    for first in range(0, len(ends), CHUNK):
        _cross(start, ends[first : first + CHUNK] - start, np.asarray(grid.shape), crossed)
    return crossed.reshape(grid.shape)


def _cross(start: NDArray[np.float64], rays: NDArray[np.float64], shape: NDArray[np.integer], crossed: NDArray[np.bool_]) -> None:
    """Mark the cell behind every cell wall that a ray passes. All in units of cells.

    A ray enters a new cell exactly where it passes a wall, so the walls of each axis can be listed and looked up for all rays
    together: no stepping, no order.
    """
    stride = (shape[1] * shape[2], shape[2], 1)
    enter, leave = _clip(start, rays, np.zeros(3), shape)
    # Up to the wall of the point's own cell; 1e-7 of a ray is far below a cell.
    goal = np.floor(start + rays)
    leave = np.minimum(leave, _clip(start, rays, goal, goal + 1)[0] - 1e-7)
    for axis, p, q in ((0, 1, 2), (1, 0, 2), (2, 0, 1)):
        use = np.flatnonzero((leave > enter) & (rays[:, axis] != 0))
        ray = rays[use]
        a, b = start[axis] + ray[:, axis] * enter[use], start[axis] + ray[:, axis] * leave[use]
        ahead = ray[:, axis] > 0
        # Walls between a and b, without the one that leads out of the grid; the tolerance keeps the grid's own wall where
        # rounding put `a` just behind it.
        lowest = np.maximum(np.ceil(np.minimum(a, b) - 1e-9).astype(np.int64), ~ahead)
        highest = np.minimum(np.floor(np.maximum(a, b) + 1e-9).astype(np.int64), shape[axis] - ahead)
        count = np.maximum(highest - lowest + 1, 0)
        which = np.repeat(np.arange(len(use)), count)
        wall = np.arange(len(which)) + (lowest - np.cumsum(count) + count)[which]
        t = (wall - start[axis]) * (1 / ray[:, axis])[which]
        flat = (wall - ~ahead[which]) * stride[axis]
        for other in (p, q):
            # Inside the grid up to rounding, which the bounds take back.
            at = (t * ray[which, other] + start[other]).astype(np.int64)
            flat += np.clip(at, 0, shape[other] - 1, out=at) * stride[other]
        crossed[flat] = True


def _clip(
    start: NDArray[np.float64], rays: NDArray[np.float64], low: NDArray[Any], high: NDArray[Any]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The stretch enter..leave of 0..1 of every ray that lies in the box low..high; leave < enter where none does."""
    with np.errstate(divide="ignore", invalid="ignore"):
        one, other = (low - start) / rays, (high - start) / rays
    parallel = rays == 0
    misses = parallel & ((start < low) | (start >= high))
    near = np.where(parallel, np.where(misses, np.inf, -np.inf), np.minimum(one, other))
    far = np.where(parallel, np.where(misses, -np.inf, np.inf), np.maximum(one, other))
    return np.maximum(near.max(axis=1), 0.0), np.minimum(far.min(axis=1), 1.0)


def T_grid_world(dataset: Dataset, index: int) -> NDArray[np.float64]:
    """(4, 4), maps the world of the poses into the grid frame of scan `index`.

    Raises:
        DatasetError: the scan has no pose.
    """
    T_world_reference = dataset.pose(index)
    if T_world_reference is None:
        raise DatasetError(f"{dataset.kind} {dataset.name}, frame {index} has no pose: scans cannot be accumulated")
    return np.asarray(dataset.T_grid_lidar @ np.linalg.inv(T_world_reference))


def placed(dataset: Dataset, i: int, T_grid_world: NDArray[np.float64]) -> tuple[NDArray[np.float64], RayOrigins]:
    """Points (N, 3) of scan `i`, and where the rays to them begin, in a grid frame.

    Raises:
        DatasetError: the scan has no pose.
    """
    pose = dataset.pose(i)
    if pose is None:
        raise DatasetError(f"{dataset.kind} {dataset.name} frame {i} has no pose")
    T_grid_lidar = T_grid_world @ pose
    points = dataset.points(i)[:, :3] @ T_grid_lidar[:3, :3].T + T_grid_lidar[:3, 3]
    return points, ray_origins(dataset, i).moved(T_grid_lidar)


def in_motion(dataset: Dataset, i: int) -> NDArray[np.bool_]:
    """(N,) which points of scan `i` are on objects in motion.

    Raises:
        DatasetError: the data set does not know.
    """
    found = dataset.moving(i)
    if found is None:
        raise DatasetError(
            f"{dataset.kind} {dataset.name} does not know what moves; set moving points to rays, which find it, or keep, which "
            "treats all as standing (occle-train fit: --set recipe.moving_points=rays; from Python moving=False or 'keep')"
        )
    return found


def _scans(
    dataset: Dataset, index: int, before: int, after: int, moving: bool
) -> Iterator[tuple[NDArray[np.float64], NDArray[np.uint8], RayOrigins, NDArray[np.bool_]]]:
    """Per scan: points (N, 3), labels (N,), origins of the rays in the reference's grid frame, which points count (N,)."""
    T = T_grid_world(dataset, index)
    for i in range(max(index - before, 0), min(index + after, len(dataset) - 1) + 1):
        labels = dataset.point_labels(i)
        if labels is None:
            raise DatasetError(f"{dataset.kind} {dataset.name} frame {i} has no point labels")
        if dataset.pose(i) is None:
            continue  # nobody knows where it was taken
        counts = ~in_motion(dataset, i) if moving and i != index else np.ones(len(labels), np.bool_)
        points, origins = placed(dataset, i, T)
        yield points, labels, origins, counts


def placed_sweeps(
    dataset: Dataset, index: int, before: int, after: int, count: int, min_range: float = 0.0
) -> Iterator[tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """Points (N, 3) and sensor position (3,) of each scan between frames, in the reference's grid frame.

    Args:
        dataset: the frames; one without scans between them gives none.
        index: the reference frame.
        before: frames before it whose preceding scans are given.
        after: frames after it whose preceding scans are given.
        count: of these scans of each frame.
        min_range: points within this horizontal distance of the sensor are left out, metres.
    """
    if not count or not isinstance(dataset, HasSweeps):
        return
    T = T_grid_world(dataset, index)
    done = set(dataset.stamps)
    for i in range(max(index - before, 0), min(index + after, len(dataset) - 1) + 1):
        for frame in dataset.sweeps(i, count):
            if frame.stamp in done or frame.T_world_lidar is None:
                continue
            done.add(frame.stamp)
            T_grid_lidar = T @ frame.T_world_lidar
            points = frame.points[np.hypot(*frame.points[:, :2].T) >= min_range]
            yield points[:, :3] @ T_grid_lidar[:3, :3].T + T_grid_lidar[:3, 3], T_grid_lidar[:3, 3]
