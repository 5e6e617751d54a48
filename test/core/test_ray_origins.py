# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Rays of a second LiDAR begin at that LiDAR: in what a frame saw, and in the map."""

from __future__ import annotations

import numpy as np
import pytest

from occle_core import taxonomy
from occle_core.frame import Frame, FrameError, RayOrigins
from occle_core.geometry.grid import VoxelGrid
from occle_core.mapping.config import MapConfig
from occle_core.mapping.rolling_map import RollingMap
from occle_core.occupancy import Occupancy
from occle_core.visibility import VisibilityCaster

GRID = VoxelGrid((-4.0, -4.0, -1.0), (16, 16, 4), 0.5)
SECOND = np.array([0.1, -2.8, 0.1])
"""Of the second LiDAR, metres."""
T_GRID_LIDAR = np.array([[0.0, -1, 0, 0.3], [1, 0, 0, -0.2], [0, 0, 1, 0.1], [0, 0, 0, 1]])


def two_lidars(count: int = 40) -> Frame:
    """Random returns, every second one of the second LiDAR."""
    points = np.random.default_rng(0).uniform((-3, -3, -0.8), (3, 3, 0.8), (count, 3))
    origins = RayOrigins(np.array([np.zeros(3), SECOND]), (np.arange(count) % 2).astype(np.uint8))
    return Frame(0, np.c_[points, np.zeros(count)].astype(np.float32), T_grid_lidar=T_GRID_LIDAR, origins=origins)


def sampled(grid: VoxelGrid, start: np.ndarray, end: np.ndarray) -> set[tuple[int, ...]]:
    """Cells that a fine sampling of one ray meets."""
    along = start + np.linspace(0, 1, 2001)[:, None] * (end - start)
    cells = np.floor((along - grid.origin) / grid.resolution).astype(int)
    inside = (cells >= 0).all(1) & (cells < grid.shape).all(1)
    return set(map(tuple, cells[inside].tolist()))


def moved(points: np.ndarray) -> np.ndarray:
    return points @ T_GRID_LIDAR[:3, :3].T + T_GRID_LIDAR[:3, 3]


def by_brute_force(frame: Frame, origins: RayOrigins) -> np.ndarray:
    """Cells that the rays meet, one after the other."""
    met = np.zeros(GRID.shape, bool)
    for point, lidar in zip(frame.points[:, :3].astype(np.float64), origins.lidar):
        for cell in sampled(GRID, moved(origins.positions[lidar]), moved(point)):
            met[cell] = True
    return met


def test_what_two_lidars_saw_is_what_a_loop_over_their_rays_meets() -> None:
    frame = two_lidars()
    frame.check()
    seen = VisibilityCaster(GRID).seen(frame, np.zeros(GRID.shape, bool))
    right, wrong = (by_brute_force(frame, origins) for origins in (frame.ray_origins, RayOrigins.one(40)))
    # A sampling may step over a corner, and rays that end in one cell share one.
    assert (seen != right).sum() < 0.05 * right.sum() < 0.2 * (wrong != right).sum()


def test_the_map_is_cleared_from_the_lidar_that_saw() -> None:
    """One return of the second LiDAR, straight ahead of it: cells before it are free, those between it and the first unknown."""
    config = MapConfig(size=(8.0, 8.0, 2.0), resolution=0.5)
    classes = taxonomy.load("semantickitti")
    nothing = Occupancy.of_volumes(np.full(GRID.shape, 255, np.uint8), np.zeros(GRID.shape, np.float16), GRID, classes)
    point = np.array([[3.1, -2.8, 0.1, 0]], np.float32)
    for number, free, unknown in ((1, (1.6, -2.8, 0.1), (1.6, -1.4, 0.1)), (0, (1.6, -1.4, 0.1), (1.6, -2.8, 0.1))):
        origins = RayOrigins(np.array([np.zeros(3), SECOND]), np.array([number], np.uint8))
        rolling = RollingMap(classes, config)
        assert rolling.update(nothing, Frame(0, point, origins=origins), np.eye(4)).accepted
        snapshot = rolling.snapshot()
        for place, sign in ((free, -1), (unknown, 0), (point[0, :3], 1)):
            cell = np.floor((np.array(place) - snapshot.grid.origin) / snapshot.grid.resolution).astype(int)
            assert np.sign(snapshot.log_odds[tuple(cell)]) == sign, (number, place)


def test_origins_of_other_points_are_refused() -> None:
    frame = two_lidars()
    with pytest.raises(FrameError, match="origins are of 40 points, and there are 3"):
        Frame(0, frame.points[:3], origins=frame.origins).check()
