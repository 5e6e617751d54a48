# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Reading a turned grid at the map's cells, against a loop over all cells."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from occle_core.geometry.grid import VoxelGrid
from occle_core.mapping.resample import source_cells


def turned(yaw, pitch, roll, shift):
    cy, sy, cp, sp, cr, sr = np.cos(yaw), np.sin(yaw), np.cos(pitch), np.sin(pitch), np.cos(roll), np.sin(roll)
    T = np.eye(4)
    T[:3, :3] = (
        np.array([[cy, -sy, 0], [sy, cy, 0], [0, 0, 1]])
        @ np.array([[cp, 0, sp], [0, 1, 0], [-sp, 0, cp]])
        @ np.array([[1, 0, 0], [0, cr, -sr], [0, sr, cr]])
    )
    T[:3, 3] = shift
    return T


def brute_force(grid, T, shape, resolution):
    found = np.full(shape, grid.size)
    inverse = np.linalg.inv(T)
    ambiguous = np.zeros(shape, bool)
    for cell in product(*map(range, shape)):
        p = inverse[:3, :3] @ ((np.array(cell) + 0.5) * resolution) + inverse[:3, 3]
        at = (p - grid.origin) / grid.resolution
        ambiguous[cell] = (np.abs(at - np.round(at)) < 1e-3).any()
        ijk = np.floor(at).astype(int)
        if ((ijk >= 0) & (ijk < grid.shape)).all():
            found[cell] = np.ravel_multi_index(tuple(ijk), grid.shape)
    return found, ambiguous


angles = st.floats(-0.6, 0.6)


@settings(max_examples=40, deadline=None)
@given(st.floats(-4, 4), angles, angles, st.tuples(*[st.floats(-3, 6)] * 3), st.sampled_from([0.2, 0.4, 0.7]))
def test_every_cell_reads_where_its_centre_lies(yaw, pitch, roll, shift, resolution):
    grid, shape = VoxelGrid((-1.0, -1.5, -0.7), (6, 7, 4), 0.4), (8, 6, 5)
    T = turned(yaw, pitch, roll, shift)
    columns, cells = source_cells(grid, T, shape, resolution)
    dense = np.full((shape[0] * shape[1], shape[2]), grid.size)
    dense[columns] = cells
    expected, ambiguous = brute_force(grid, T, shape, resolution)
    same = dense.reshape(shape) == expected
    assert (same | ambiguous).all()


def test_a_grid_beyond_the_map_reaches_no_column():
    grid = VoxelGrid((0, 0, 0), (4, 4, 4), 0.4)
    columns, cells = source_cells(grid, turned(0.3, 0, 0, (50, 0, 0)), (8, 8, 4), 0.4)
    assert cells.shape == (len(columns), 4) and len(columns) == 0


@pytest.mark.parametrize("yaw", [0, np.pi / 2, np.pi, -np.pi / 2])
def test_quarter_turns_permute_cells(yaw):
    grid = VoxelGrid((-2.0, -2.0, 0.0), (10, 10, 3), 0.4)
    columns, cells = source_cells(grid, turned(yaw, 0, 0, (2.0, 2.0, 0.0)), (10, 10, 3), 0.4)
    assert len(columns) == 100
    assert sorted(cells.reshape(-1)) == list(range(300))
