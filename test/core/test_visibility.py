# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from occle_core import taxonomy
from occle_core.frame import Frame
from occle_core.geometry.camera import Camera
from occle_core.geometry.grid import VoxelGrid
from occle_core.geometry.raycast import cast
from occle_core.occupancy import Occupancy
from occle_core.visibility import RAY_DISTANCE, VisibilityCaster, camera_paths, lidar_cells, mark_unseen

GRID = VoxelGrid((-1.0, -4.0, -1.0), (20, 16, 8), 0.5)
T_CAMERA_GRID = np.array([[0.0, -1, 0, 0.1], [0, 0, -1, 0.2], [1, 0, 0, 0.3], [0, 0, 0, 1]])


def box_hit(low: np.ndarray, high: np.ndarray, start: np.ndarray, way: np.ndarray, end: float) -> tuple[float, float]:
    """Where start + t way (0 <= t <= end) is inside of a box, one slab after the other."""
    enter, leave = 0.0, end
    for axis in range(3):
        if way[axis] == 0:
            if not low[axis] <= start[axis] <= high[axis]:
                return math.inf, -math.inf
            continue
        a, b = sorted(((low[axis] - start[axis]) / way[axis], (high[axis] - start[axis]) / way[axis]))
        enter, leave = max(enter, a), min(leave, b)
    return enter, leave


def cells_of_ray(
    grid: VoxelGrid, start: np.ndarray, way: np.ndarray, slack: float = 0.0
) -> list[tuple[float, float, tuple[int, ...]]]:
    """(enter, leave, cell) of every cell, grown by `slack` metres, that start + t way with 0 <= t <= 1 touches: asks every cell."""
    found = []
    for cell in itertools.product(*map(range, grid.shape)):
        low = np.asarray(grid.origin) + np.asarray(cell) * grid.resolution
        enter, leave = box_hit(low - slack, low + grid.resolution + slack, start, way, 1.0)
        if enter <= leave:
            found.append((enter, leave, cell))
    return sorted(found)


def passed_cells(grid: VoxelGrid, start: np.ndarray, ways: np.ndarray, reach: float = 1.0) -> np.ndarray:
    """(X, Y, Z) bool: cells that start + t way with 0 <= t <= reach passes: one lies between any two crossings of planes."""
    crossings = [np.tile([0.0, reach], (len(ways), 1))]
    for axis, count in enumerate(grid.shape):
        planes = grid.origin[axis] + grid.resolution * np.arange(count + 1)
        crossings.append((planes - start[axis]) / ways[:, axis, None])
    t = np.sort(np.clip(np.concatenate(crossings, 1), 0, reach), 1)
    between = (t[:, 1:] + t[:, :-1])[..., None] / 2
    cells, inside = grid.index((start + between * ways[:, None])[np.diff(t) > 1e-12])
    passed = np.zeros(grid.shape, bool)
    passed[tuple(cells[inside].T)] = True
    return passed


@pytest.mark.parametrize("eye", [(0.0, 0.0, 0.5), (-1.0, 0.13, 0.4), (-6.0, 1.0, 3.0)])  # inside, on the border, outside
def test_the_cells_between_the_lidar_and_its_returns(eye: tuple[float, ...]) -> None:
    rng = np.random.default_rng(3)
    points = rng.uniform((-3, -6, -2), (11, 6, 4), (12, 3))
    seen = lidar_cells(GRID, points, np.array(eye))
    certain, possible = np.zeros(GRID.shape, bool), np.zeros(GRID.shape, bool)
    ends: dict[tuple[int, ...], np.ndarray] = {}
    for point in points:
        touched = cells_of_ray(GRID, np.array(eye), point - np.array(eye))
        if touched:
            ends[max(touched, key=lambda t: t[0] + t[1])[2]] = touched  # one ray per end cell, the last one
    assert len(ends) > 4
    for touched in ends.values():
        for enter, leave, cell in touched:
            possible[cell] = True
            certain[cell] |= leave - enter > 1e-4  # what a ray only grazes may fall to either side
    assert (seen | ~certain).all()
    assert (possible | ~seen).all()


def test_many_returns_agree_with_the_cells_that_their_rays_pass() -> None:
    rng = np.random.default_rng(5)
    grid = VoxelGrid((0.0, -12.8, -2.0), (64, 64, 16), 0.4)
    points = rng.uniform((0.5, -12, -1.9), (25, 12, 4), (3000, 3))
    seen = lidar_cells(grid, points, np.zeros(3))
    exact = passed_cells(grid, np.zeros(3), points)
    assert not (seen & ~exact).sum() > 3  # rounding at the corners of cells
    # One ray per end cell: what the others pass in addition are cells next to it.
    assert (seen & exact).sum() > 0.93 * exact.sum()


def test_no_returns_see_nothing() -> None:
    assert not lidar_cells(GRID, np.zeros((0, 3)), np.zeros(3)).any()
    assert not lidar_cells(GRID, np.array([[-5.0, 0, 0]]), np.array([-3.0, 0, 0])).any()


def test_the_paths_of_a_camera_are_the_cells_that_its_rays_pass() -> None:
    camera = Camera(np.array([[60.0, 0, 40], [0, 60, 25], [0, 0, 1]]), T_CAMERA_GRID, 80, 50)
    paths = camera_paths(GRID, camera)
    for path in paths.T[:: max(1, paths.shape[1] // 60)]:
        cells = path[path < GRID.size]
        assert (path[len(cells) :] == GRID.size).all()
        ijk = np.stack(np.unravel_index(cells, GRID.shape), 1)
        # Neighbours share a face, up to corners that a ray passes exactly.
        assert np.abs(np.diff(ijk, axis=0)).sum(axis=1).max(initial=1) <= 2
        assert len(set(cells.tolist())) == len(cells)
    corners = np.stack(np.meshgrid(*[(0, 1)] * 3, indexing="ij"), -1).reshape(-1, 3) * np.asarray(GRID.shape) * GRID.resolution
    farthest = np.linalg.norm(corners + np.asarray(GRID.origin) - camera.position, axis=1).max() / GRID.resolution
    fan = camera.resized(round(80 * farthest / RAY_DISTANCE / 60), round(50 * farthest / RAY_DISTANCE / 60))
    ways = fan.rays().reshape(-1, 3)
    exact = passed_cells(GRID, camera.position, ways, reach=1000.0)
    mine = np.zeros(GRID.size + 1, bool)
    mine[paths] = True
    assert (mine[:-1].reshape(GRID.shape) != exact).sum() <= 2


def test_a_wall_hides_what_is_behind_it_from_a_camera() -> None:
    camera = Camera(np.array([[60.0, 0, 40], [0, 60, 25], [0, 0, 1]]), T_CAMERA_GRID, 80, 50)
    wall = np.zeros(GRID.shape, bool)
    wall[8, 4:12] = True
    image = np.zeros((50, 80, 3), np.uint8)
    frame = Frame(0, np.zeros((0, 4), np.float32), [image], [camera])
    seen = VisibilityCaster(GRID).seen(frame, wall)
    assert seen[8, 6:10, 2:5].all()
    assert not seen[10:, 7:9, 2:4].any()
    # The centre of every cell that is seen lies near a line of sight.
    centres = GRID.centers(np.argwhere(seen)).astype(float) - camera.position
    hits = cast(GRID, wall, camera.position, centres)
    blocked = hits.hit & (hits.entry < np.linalg.norm(centres, axis=1)) & (np.abs(hits.cell - np.argwhere(seen)).max(axis=1) > 1)
    assert blocked.mean() < 0.03
    # A camera without an image sees nothing.
    assert not VisibilityCaster(GRID).seen(Frame(0, frame.points, [None], [camera]), wall).any()


def test_the_lidar_stands_where_T_grid_lidar_says_and_a_new_calibration_counts() -> None:
    T = np.eye(4)
    T[:3, 3] = (1.1, 2.1, 0.6)
    frame = Frame(0, np.array([[4.0, 0, 0, 0]], np.float32), T_grid_lidar=T)
    seen = VisibilityCaster(GRID).seen(frame, np.zeros(GRID.shape, bool))
    assert np.array_equal(np.argwhere(seen), [[x, 12, 3] for x in range(4, 13)])
    camera = Camera(np.array([[60.0, 0, 40], [0, 60, 25], [0, 0, 1]]), T_CAMERA_GRID, 80, 50)
    sight, image, free = VisibilityCaster(GRID), np.zeros((50, 80, 3), np.uint8), np.zeros(GRID.shape, bool)
    none = np.zeros((0, 4), np.float32)
    before = sight.seen(Frame(0, none, [image], [camera]), free)
    after = sight.seen(Frame(0, none, [image], [camera], T), free)
    assert (before != after).any()
    assert np.array_equal(before, sight.seen(Frame(0, none, [image], [camera]), free))


def test_unknown_is_what_is_free_and_was_not_seen() -> None:
    kitti = taxonomy.load("semantickitti")
    labels = np.zeros(GRID.shape, np.uint8)
    labels[3:5] = 9
    seen = np.zeros(GRID.shape, bool)
    seen[4:8] = True
    marked = mark_unseen(Occupancy.of_volumes(labels, labels.astype(np.float16), GRID, kitti), seen)
    assert (marked.labels[3:5] == 9).all()
    assert (marked.labels[5:8] == 0).all()
    assert (marked.labels[:3] == 255).all()
    assert (marked.labels[8:] == 255).all()
    assert (labels != 255).all()
    assert marked.occupied.sum() == (labels == 9).sum()
