# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""RayIoU's rays by the compiled kernel."""

from __future__ import annotations

import numpy as np
from compiled_kernels import load_or_skip
from occle_train.metrics import RayIoU

from occle_core.geometry.grid import VoxelGrid
from occle_core.geometry.raycast import cast
from occle_core.native.rays import end_rays

GRID = VoxelGrid((-3.0, -2.5, -1.0), (8, 7, 5), 0.7)


def test_the_compiled_kernel_gives_the_same_rays_to_the_bit():
    kernels = load_or_skip()
    rng = np.random.default_rng(3)
    grid = VoxelGrid((-3.2, -2.0, -1.0), (40, 30, 12), 0.2)
    directions = np.concatenate([rng.normal(size=(400, 3)), np.eye(3), -np.eye(3), [[1, 1, 0], [0, -1, 1], [1, 1, 1]]])
    for share in (0.0, 0.02, 0.3, 1.0):
        occupied = rng.random(grid.shape) < share
        for origin in (rng.uniform(-2, 2, 3), np.array([-3.2, -2.0, -1.0]), np.array([9.0, 0.1, 0.3]), np.array([0.0, 0.0, 0.0])):
            expected = cast(grid, occupied, origin, directions)
            cell, hit, leaves = end_rays(kernels, grid, occupied, origin, directions)
            inside = (expected.cell >= 0).all(1)
            assert np.array_equal(cell >= 0, inside) and np.array_equal(hit, expected.hit)
            assert np.array_equal(cell[inside], np.ravel_multi_index(tuple(expected.cell[inside].T), grid.shape))
            assert np.array_equal(leaves, expected.exit)


def test_rayiou_with_the_kernel_and_in_two_parts_counts_the_same():
    rng = np.random.default_rng(4)
    kernels = load_or_skip()
    frames = [[rng.choice([0, 1, 2, 255], GRID.shape, p=[0.2, 0.2, 0.5, 0.1]) for _ in range(2)] for _ in range(3)]
    origins = rng.uniform(-1, 1, (2, 3))
    whole, first, second = RayIoU(GRID, 3, 2), RayIoU(GRID, 3, 2, library=kernels), RayIoU(GRID, 3, 2, library=kernels)
    for number, (pred, target) in enumerate(frames):
        whole.update(pred, target, origins)
        (first if number < 2 else second).update(pred, target, origins)
    first.merge(second)
    for name in ("target_counts", "pred_counts", "correct"):
        assert np.array_equal(getattr(whole, name), getattr(first, name))
    assert whole.correct.sum() > 0
