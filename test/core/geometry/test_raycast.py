# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Ray casting against a slab test of every ray with every cell."""

from __future__ import annotations

import numpy as np
import pytest

from occle_core.geometry.grid import VoxelGrid
from occle_core.geometry.raycast import cast

GRID = VoxelGrid((-1.0, 2.0, -0.5), (7, 5, 4), 0.4)


def crossings(grid: VoxelGrid, origin, direction):
    """t of entry and exit of one ray in every cell, (X, Y, Z) each; inf where it misses."""
    unit = np.asarray(direction, float) / np.linalg.norm(direction)
    low = np.moveaxis(np.indices(grid.shape), 0, -1) * grid.resolution + np.array(grid.origin)
    entry, leave = np.zeros(grid.shape), np.full(grid.shape, np.inf)
    for axis in range(3):
        a, b = low[..., axis], low[..., axis] + grid.resolution
        if unit[axis] == 0:
            missed = (origin[axis] < a) | (origin[axis] >= b)
            entry[missed] = np.inf
        else:
            t = np.sort(np.stack([(a - origin[axis]) / unit[axis], (b - origin[axis]) / unit[axis]]), axis=0)
            entry, leave = np.maximum(entry, t[0]), np.minimum(leave, t[1])
    missed = entry >= leave
    return np.where(missed, np.inf, entry), np.where(missed, np.inf, leave)


def random_rays(rng: np.random.Generator, count: int):
    span = np.array(GRID.upper) - np.array(GRID.origin)
    origins = np.array(GRID.origin) + span * rng.uniform(-0.7, 1.7, (count, 3))
    toward = np.array(GRID.origin) + span * rng.uniform(0, 1, (count, 3))
    directions = np.where(rng.random((count, 1)) < 0.8, toward - origins, rng.normal(size=(count, 3)))
    directions[: count // 5, rng.integers(0, 3)] = 0  # parallel to a plane of the grid
    directions[count // 5 : count // 4, :2] = 0
    return origins, directions


@pytest.mark.parametrize("density", [0.0, 0.05, 0.3, 1.0])
def test_first_hits_match_a_test_of_every_cell(density):
    rng = np.random.default_rng(int(density * 100))
    occupied = rng.random(GRID.shape) < density
    origins, directions = random_rays(rng, 400)
    hits = cast(GRID, occupied, origins, directions)
    for r in range(len(directions)):
        entry, leave = crossings(GRID, origins[r], directions[r])
        if not np.isfinite(entry).any():
            assert not hits.hit[r] and (hits.cell[r] == -1).all() and hits.entry[r] == hits.exit[r] == hits.axis[r] == -1
            continue
        among = np.where(occupied, entry, np.inf)
        assert hits.hit[r] == np.isfinite(among).any()
        cell = np.unravel_index(among.argmin() if hits.hit[r] else np.where(np.isfinite(entry), entry, -1).argmax(), GRID.shape)
        assert tuple(hits.cell[r]) == cell
        assert hits.entry[r] == pytest.approx(entry[cell], abs=1e-12)
        assert hits.exit[r] == pytest.approx(leave[cell], abs=1e-12)
        # The face: it holds the point of entry, and the ray runs against its normal.
        if entry[cell] == 0:
            assert (hits.axis[r], hits.sign[r]) == (-1, 0)
        else:
            point = origins[r] + entry[cell] * directions[r] / np.linalg.norm(directions[r])
            axis, sign = hits.axis[r], hits.sign[r]
            plane = GRID.origin[axis] + (cell[axis] + (sign > 0)) * GRID.resolution
            assert point[axis] == pytest.approx(plane, abs=1e-9)
            assert sign * directions[r][axis] < 0


def test_many_rays_are_the_same_as_one_at_a_time():
    grid = VoxelGrid((0, 0, 0), (40, 30, 8), 0.5)
    rng = np.random.default_rng(3)
    occupied = rng.random(grid.shape) < 0.02
    directions = rng.normal(size=(20000, 3))  # more than one chunk
    whole = cast(grid, occupied, (10.0, 7.0, 2.0), directions)
    for r in rng.integers(0, len(directions), 50):
        single = cast(grid, occupied, (10.0, 7.0, 2.0), directions[r : r + 1])
        assert single.cell[0].tolist() == whole.cell[r].tolist() and single.exit[0] == whole.exit[r]


def test_no_rays_give_no_hits():
    assert cast(GRID, np.zeros(GRID.shape, bool), (0, 0, 0), np.zeros((0, 3))).cell.shape == (0, 3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"occupied": np.zeros((3, 3, 3), bool)}, "occupied must be bool"),
        ({"occupied": np.zeros(GRID.shape, np.uint8)}, "occupied must be bool"),
        ({"directions": np.ones(3)}, r"\(R, 3\)"),
        ({"origins": np.ones((4, 3))}, "origins must be"),
        ({"directions": np.zeros((2, 3))}, "zero"),
        ({"origins": (np.nan, 0, 0)}, "not finite"),
    ],
)
def test_bad_rays_are_refused(change, message):
    arguments = {"occupied": np.zeros(GRID.shape, bool), "origins": (0, 0, 0), "directions": np.ones((2, 3))} | change
    with pytest.raises(ValueError, match=message):
        cast(GRID, **arguments)
