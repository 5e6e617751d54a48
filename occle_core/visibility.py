# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Visibility of cells by ray casting: free cells that no sensor can have seen are unknown."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from occle_core.frame import Frame, RayOrigins
from occle_core.geometry.affine import transform_points
from occle_core.geometry.camera import Camera
from occle_core.geometry.grid import VoxelGrid
from occle_core.native.library import loaded
from occle_core.native.rays import pass_rays
from occle_core.occupancy import Occupancy

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Singles = NDArray[np.float32]

MAX_RETURNS = 40_000  # of a scan; more are thinned out evenly, most end in the same cells
RAY_DISTANCE = 2.0  # cells between two rays of a camera at the grid's farthest corner
STRETCH = 16  # cells of a camera's rays that are looked at before those that hit something are left out
NUDGE = 1e-3  # cells by which the LiDAR is moved: it must not stand exactly on a corner between cells
BLOCK = 8  # rays whose number of crossings differs by less than this are worked on together


class VisibilityCaster:
    """Ray casting of one rig's frames. What depends on the calibration alone is computed once and kept.

    A cell is seen when a ray from a LiDAR to one of its returns passes through it or ends in it, or when a ray of a camera that
    delivered an image reaches it before or in the first occupied cell. A LiDAR's returns that end in the same cell share one
    ray (the last one's), and so do those that leave the grid through the same cell.

    Args:
        grid: whose cells are asked about.
    """

    def __init__(self, grid: VoxelGrid) -> None:
        self.grid = grid
        self._paths: dict[int, tuple[bytes, NDArray[np.int64]]] = {}

    def seen(self, frame: Frame, occupied: Bools) -> Bools:
        """Cells that the frame's sensors saw.

        Args:
            frame: points, images (None: the camera saw nothing), cameras and `T_grid_lidar`.
            occupied: (X, Y, Z) bool, what stops the sight of a camera.

        Returns:
            (X, Y, Z) bool.
        """
        T = np.asarray(frame.T_grid_lidar, np.float64)
        # float32 is exact to 1e-5 of a cell.
        thinned = slice(None, None, 1 + len(frame.points) // MAX_RETURNS)
        points = transform_points(T, frame.points[thinned, :3])
        seen = rays_cells(self.grid, points, frame.ray_origins.of(thinned).moved(T))
        flat = np.append(np.ascontiguousarray(occupied).reshape(-1), True)
        for number, (image, camera) in enumerate(zip(frame.images, frame.cameras)):
            if image is not None:
                _mark_first(flat, self._camera_paths(number, camera, T), seen.reshape(-1))
        return seen

    def _camera_paths(self, number: int, camera: Camera, T_grid_lidar: Floats) -> NDArray[np.int64]:
        in_grid = Camera(camera.K, camera.T_camera_lidar @ np.linalg.inv(T_grid_lidar), camera.width, camera.height)
        key = in_grid.K.tobytes() + in_grid.T_camera_lidar.tobytes() + bytes(f"{camera.width} {camera.height}", "ascii")
        known = self._paths.get(number)
        if known is None or known[0] != key:
            known = self._paths[number] = (key, camera_paths(self.grid, in_grid))
        return known[1]


def mark_unseen(occupancy: Occupancy, seen: Bools) -> Occupancy:
    """The occupancy with the label 255 in cells that are called free but were not seen (X, Y, Z) bool; occupied cells stay."""
    unseen = ~seen
    unseen.reshape(-1)[occupancy.sparse.cells] = False
    return replace(occupancy, unseen=unseen)


def rays_cells(grid: VoxelGrid, points: NDArray[np.floating], origins: RayOrigins) -> Bools:
    """(X, Y, Z) bool: the cells between each LiDAR and its points, see `lidar_cells`; all in the grid frame."""
    seen = [lidar_cells(grid, own, eye) for eye, own in origins.rays(points)] or [np.zeros(grid.shape, np.bool_)]
    for other in seen[1:]:
        seen[0] |= other
    return seen[0]


def lidar_cells(grid: VoxelGrid, points: NDArray[np.floating], eye: Floats) -> Bools:
    """(X, Y, Z) bool: the cells between `eye` and the points, both included, one ray per end cell.

    All crossings of a ray with the planes between cells are computed together instead of one after the other: it enters a new
    cell at each of them, and where it is there follows from the plane alone.

    Args:
        points: (N, 3) grid frame, metres.
        eye: (3,) the LiDAR's position in the grid frame, metres.
    """
    start, ways = _rays(grid, points, eye)
    if (library := loaded()) is not None:
        return pass_rays(library, start, ways, grid.shape)
    strides = (grid.shape[1] * grid.shape[2], grid.shape[2], 1)
    ways, inner, outer = _inside(grid.shape, start, ways)
    first = [_cell(start[a] + ways[a] * inner, grid.shape[a]) for a in range(3)]
    last = [_cell(start[a] + ways[a] * outer, grid.shape[a]) for a in range(3)]
    table = np.full(grid.size, -1, np.int32)
    table[sum(cell * stride for cell, stride in zip(last, strides))] = np.arange(len(inner), dtype=np.int32)
    rays = table[table >= 0]
    ways = [way[rays] for way in ways]
    first, last = [cell[rays] for cell in first], [cell[rays] for cell in last]
    seen = np.zeros(grid.size, np.bool_)
    seen[sum(cell * stride for cell, stride in zip(first, strides))] = True
    for axis in range(3):
        _mark_crossings(axis, grid.shape, strides, start, ways, first, last, seen)
    return seen.reshape(grid.shape)


def _rays(grid: VoxelGrid, points: NDArray[np.floating], eye: Floats) -> tuple[list[float], list[Singles]]:
    """Start of all rays and (N,) ways to the points, per axis, in cells: numpy is slow along an axis of three."""
    start = [float(at - low) / grid.resolution + NUDGE for at, low in zip(eye, grid.origin)]
    ways: list[Singles] = []
    for axis in range(3):
        way = np.asarray(points[:, axis], np.float32) * np.float32(1 / grid.resolution)
        way -= np.float32(grid.origin[axis] / grid.resolution + start[axis])
        way[way == 0] = 1e-9  # no division by zero
        ways.append(way)
    return start, ways


def _inside(shape: tuple[int, int, int], start: list[float], ways: list[Singles]) -> tuple[list[Singles], Singles, Singles]:
    """The ways of rays that have a part inside the grid, and where that part begins and ends (0..1)."""
    inner, outer = np.zeros(len(ways[0]), np.float32), np.ones(len(ways[0]), np.float32)
    for axis, way in enumerate(ways):
        near, far = -start[axis] / way, (shape[axis] - start[axis]) / way
        inner, outer = np.maximum(inner, np.minimum(near, far)), np.minimum(outer, np.maximum(near, far))
    rays = np.flatnonzero(inner < outer)
    return [way[rays] for way in ways], inner[rays], outer[rays]


def _cell(at: Singles, count: int) -> NDArray[np.int64]:
    return np.clip(at, 0, count - 1).astype(np.int64)


def _mark_crossings(
    axis: int,
    shape: tuple[int, int, int],
    strides: tuple[int, int, int],
    start: list[float],
    ways: list[Singles],
    first: list[NDArray[np.int64]],
    last: list[NDArray[np.int64]],
    seen: Bools,
) -> None:
    """Mark the cells that rays enter through planes perpendicular to `axis`."""
    counts = np.abs(last[axis] - first[axis])
    order = np.argsort(counts, kind="stable")
    order = order[np.searchsorted(counts[order], 1) :]
    for rays in np.split(order, np.flatnonzero(np.diff((counts[order] - 1) // BLOCK)) + 1):
        if not len(rays):
            continue
        step = np.where(ways[axis][rays] > 0, 1, -1)
        # (crossings, rays); past its end a ray repeats its last cell.
        k = np.minimum(np.arange(counts[rays].max())[:, None], counts[rays] - 1) * step
        entered = first[axis][rays] + step
        plane = entered + (step < 0) - start[axis]
        moved = k.astype(np.float32)
        flat = (k + entered) * strides[axis]
        for other in range(3):
            if other != axis:
                slope = ways[other][rays] / ways[axis][rays]
                at = moved * slope
                at += (start[other] + plane * slope).astype(np.float32)
                np.clip(at, 0, shape[other] - 1, out=at)
                flat += at.astype(np.int64) * strides[other]
        seen[flat.reshape(-1)] = True


def camera_paths(grid: VoxelGrid, camera: Camera) -> NDArray[np.int64]:
    """The cells along a fan of rays over a camera's image, in the order in which the rays pass them.

    Args:
        camera: its `T_camera_lidar` maps from the grid frame.

    Returns:
        (L, R) flat cell indices in C order of the grid, a column for each ray; the rest of a column, once its ray has left the
        grid, is `grid.size`. Rays that never enter the grid are left out. Two neighbouring rays are at most `RAY_DISTANCE` cells
        apart anywhere in the grid.
    """
    shape = np.asarray(grid.shape, np.float64)
    start = (camera.position - grid.origin) / grid.resolution
    corners = np.stack(np.meshgrid(*[(0.0, n) for n in shape], indexing="ij"), -1).reshape(-1, 3)
    farthest = np.linalg.norm(corners - start, axis=1).max()
    across = max(1, round(camera.width * farthest / RAY_DISTANCE / camera.K[0, 0]))
    upwards = max(1, round(camera.height * farthest / RAY_DISTANCE / camera.K[1, 1]))
    fan = camera.resized(across, upwards)
    ways = fan.rays().reshape(-1, 3)
    ways[ways == 0] = 1e-12
    near, far = -start / ways, (shape - start) / ways
    inner = np.maximum(np.minimum(near, far).max(axis=1), 0)
    outer = np.maximum(near, far).min(axis=1)
    rays = np.flatnonzero(inner < outer)
    paths = [np.full((0, 1), grid.size, np.int64)]
    for part in np.array_split(rays, max(1, len(rays) // 1024)):
        planes = [(np.arange(1, n) - start[axis]) / ways[part, axis, None] for axis, n in enumerate(grid.shape)]
        t = np.concatenate([inner[part, None], *planes, outer[part, None]], axis=1)
        t = np.sort(np.clip(t, inner[part, None], outer[part, None]), axis=1)
        middle = (t[:, 1:] + t[:, :-1]) / 2
        cells = np.clip((start + middle[..., None] * ways[part, None]).astype(np.int32), 0, np.asarray(grid.shape) - 1)
        flat = (cells[..., 0] * grid.shape[1] + cells[..., 1]) * grid.shape[2] + cells[..., 2]
        # Planes outside the grid fell on its border: nothing lies between them.
        flat[np.diff(t, axis=1) <= 0] = grid.size
        inside = flat < grid.size
        packed = np.full((len(part), int(inside.sum(axis=1).max(initial=1))), grid.size, np.int64)
        packed[np.arange(packed.shape[1]) < inside.sum(axis=1)[:, None]] = flat[inside]
        paths.append(packed)
    longest = max(p.shape[1] for p in paths)
    padded = [np.pad(p, ((0, 0), (0, longest - p.shape[1])), constant_values=grid.size) for p in paths]
    return np.ascontiguousarray(np.concatenate(padded).T)


def _mark_first(solid: Bools, paths: NDArray[np.int64], seen: Bools) -> None:
    """Mark the cells of each path up to its first solid one; `solid` has one cell more than the grid, True, for the padding."""
    marks = np.zeros(len(solid), np.bool_)
    rays = np.arange(paths.shape[1])
    for begin in range(0, len(paths), STRETCH):
        cells = paths[begin : begin + STRETCH, rays]
        stopped = np.logical_or.accumulate(solid[cells], axis=0)
        marks[cells[0]] = True
        marks[cells[1:][~stopped[:-1]]] = True
        rays = rays[~stopped[-1]]
    seen |= marks[:-1]
