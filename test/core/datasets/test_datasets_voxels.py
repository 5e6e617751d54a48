# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from occle_core.datasets import DatasetError
from occle_core.datasets.voxels import coarsen, majority, resample
from occle_core.geometry.grid import VoxelGrid
from occle_core.taxonomy import load

KITTI = load("semantickitti")
OCC3D = load("occ3d_nuscenes")


@pytest.mark.parametrize("taxonomy", [KITTI, OCC3D], ids=lambda t: t.name)
def test_coarsening_against_a_loop(taxonomy):
    rng = np.random.default_rng(0)
    choices = np.array([taxonomy.free, taxonomy.free, 255, 255, 255, 1, 2, 9], np.uint8)
    fine = rng.choice(choices, (8, 6, 4))
    fine[:2, :2, :2], fine[2:4, :2, :2] = 255, taxonomy.free
    coarse = coarsen(fine, 2, taxonomy)
    for cell in np.ndindex(4, 3, 2):
        children = fine[tuple(slice(2 * c, 2 * c + 2) for c in cell)].ravel().tolist()
        occupied = Counter(label for label in children if label not in (taxonomy.free, 255))
        if occupied:
            expected = min(label for label, votes in occupied.items() if votes == max(occupied.values()))
        else:
            expected = taxonomy.free if taxonomy.free in children else 255
        assert coarse[cell] == expected, cell


def test_majority_counts_weights():
    cells, labels = np.array([5, 5, 5, 2, 2, 7]), np.array([3, 3, 18, 4, 1, 9], np.uint8)
    assert [a.tolist() for a in majority(cells, labels)] == [[2, 5, 7], [1, 3, 9]]
    weights = np.ones(256)
    weights[18] = 4
    assert majority(cells, labels, weights)[1].tolist() == [1, 18, 9]


def test_shifted_grids_share_the_cells_they_share():
    source, target = VoxelGrid((0, -0.4, -2.2), (4, 4, 4), 0.2), VoxelGrid((0.2, -0.4, -2.0), (4, 3, 4), 0.2)
    labels = np.arange(64, dtype=np.uint8).reshape(4, 4, 4)
    moved = resample(labels, source, target, KITTI)
    for cell in np.ndindex(target.shape):
        inside = cell[0] + 1 < 4 and cell[2] + 1 < 4
        assert moved[cell] == (labels[cell[0] + 1, cell[1], cell[2] + 1] if inside else 255)
    far = VoxelGrid((100, 0, 0), (2, 2, 2), 0.2)
    assert (resample(labels, source, far, KITTI) == 255).all()


def test_grids_that_do_not_line_up_are_refused():
    source = VoxelGrid((0, 0, 0), (4, 4, 4), 0.2)
    labels = np.zeros((4, 4, 4), np.uint8)
    for target in (
        VoxelGrid((0, 0, 0), (4, 4, 4), 0.3),
        VoxelGrid((0.1, 0, 0), (4, 4, 4), 0.2),
        VoxelGrid((0, 0, 0), (8, 8, 8), 0.1),
    ):
        with pytest.raises(DatasetError, match="does not line up"):
            resample(labels, source, target, KITTI)
