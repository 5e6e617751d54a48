# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Compiled kernels of the map: the bits that NumPy makes."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scenes import seeds

from occle_core import taxonomy, visibility
from occle_core.frame import Frame
from occle_core.geometry.grid import VoxelGrid
from occle_core.mapping import MapConfig, RollingMap
from occle_core.mapping import evidence as evidence_module
from occle_core.mapping import observation as observation_module
from occle_core.mapping.evidence import Evidence
from occle_core.occupancy import Occupancy

FEW = settings(max_examples=40, deadline=None)
CLASSES = taxonomy.load("semantickitti")
CONFIG = MapConfig(size=(10.0, 8.0, 3.2), returns=400, rays=200)
USERS = (visibility, evidence_module, observation_module)


def both(kernels, function):
    """What a function returns with NumPy, and with the kernels."""
    results = []
    for library in (None, kernels):
        with pytest.MonkeyPatch.context() as patch:
            for module in USERS:
                patch.setattr(module, "loaded", lambda library=library: library)
            results.append(function())
    return results


@FEW
@given(
    eye=st.tuples(st.floats(-9, 9), st.floats(-7, 7), st.floats(-3, 3)),
    count=st.integers(0, 300),
    snap=st.booleans(),
    broken=st.booleans(),
    seed=seeds,
)
def test_rays(kernels, eye, count, snap, broken, seed):
    """Also from outside of the grid, along its axes, of no length, and points that are no numbers."""
    grid = VoxelGrid((-5.0, -4.0, -1.6), (25, 20, 8), 0.4)
    rng = np.random.default_rng(seed)
    points = rng.uniform((-7, -6, -3), (7, 6, 3), (count, 3)).astype(np.float32)
    if snap:
        points = np.round(points / np.float32(0.4)) * np.float32(0.4)
        points[: count // 4, rng.integers(3)] = eye[rng.integers(3)]
        points[: count // 10] = eye
    if broken:
        points[rng.random((count, 3)) < 0.05] = rng.choice(np.array([np.nan, np.inf, -np.inf, 3e38, 1e-40], np.float32))
    with np.errstate(all="ignore"):
        right, found = both(kernels, lambda: visibility.lidar_cells(grid, points, np.array(eye)))
    np.testing.assert_array_equal(found, right)
    assert found.dtype == right.dtype


@FEW
@given(seed=seeds, seconds=st.floats(0, 3))
def test_evidence_and_votes(kernels, seed, seconds):
    def run():
        rng = np.random.default_rng(seed)
        cells = Evidence(CONFIG, rng.random(256) < 0.3, np.zeros(256, np.bool_))
        for _ in range(4):
            frame = rng.integers(-124, 125, CONFIG.shape).astype(np.int8) * (rng.random(CONFIG.shape) < 0.6)
            cells.add(frame, seconds)
            named = np.flatnonzero(rng.random(cells.log_odds.size) < 0.3)
            labels, sure = rng.integers(0, 20, len(named)), rng.integers(0, 17, len(named))
            cells.vote(named, labels.astype(np.uint8), sure.astype(np.uint8))
        cells.add(np.full(CONFIG.shape, -1, np.int8), seconds)  # shows which cells count as dynamic
        return cells.log_odds, cells.labels, cells.votes

    for found, right in zip(*both(kernels, run)):
        np.testing.assert_array_equal(found, right)


@FEW
@given(
    yaw=st.floats(-4, 4), tilt=st.floats(-0.3, 0.3), shift=st.tuples(*[st.floats(-9, 9)] * 3), calibrated=st.booleans(), seed=seeds
)
def test_whole_frames(kernels, yaw, tilt, shift, calibrated, seed):
    """Maps after three frames of a grid that is turned, tilted, and partly or wholly outside the window."""
    grid = VoxelGrid((-3.0, -4.2, -1.3), (19, 17, 7), 0.4)

    def run():
        rng = np.random.default_rng(seed)
        world = RollingMap(CLASSES, CONFIG)
        for number in range(3):
            T = np.eye(4)
            c, s, ct, st_ = np.cos(yaw + number), np.sin(yaw + number), np.cos(tilt), np.sin(tilt)
            T[:3, :3] = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]]) @ np.array([[ct, 0, st_], [0, 1, 0], [-st_, 0, ct]])
            T[:3, 3] = 0.1 * number * np.array(shift)
            labels = rng.choice(np.array([0, 0, 1, 6, 9, 255], np.uint8), grid.shape)
            sure = rng.random(grid.shape).astype(np.float16) * ((labels > 0) & (labels < 255))
            full = rng.random(np.count_nonzero(labels)).astype(np.float16) if calibrated else None
            points = rng.uniform(-6, 6, (700, 4)).astype(np.float32)
            T_grid_lidar = np.eye(4)
            T_grid_lidar[:3, 3] = shift
            occupancy = Occupancy.of_volumes(
                labels, sure, grid, CLASSES, stamp=number * 10**8, occupied_scores=full, free_score=rng.random()
            )
            assert world.update(occupancy, Frame(0, points, T_grid_lidar=T_grid_lidar), T).accepted
        shot = world.snapshot()
        return shot.log_odds, shot.labels, shot.votes

    for found, right in zip(*both(kernels, run)):
        np.testing.assert_array_equal(found, right)
