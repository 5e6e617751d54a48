# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Truth and masks on parts of the recorded grid, and on finer cells."""

import numpy as np
import pytest
from occle_train.data.samples import Samples
from occle_train.data.truth import scored_grid, sensor_mask, voxel_truth
from occle_train.minkocc.config import FitConfig
from rooms import GRID, NETWORK, Rooms

from occle_core import taxonomy
from occle_core.geometry.grid import OCC3D_NUSCENES, VoxelGrid


class Occ3D:
    kind, taxonomy = "nuscenes", taxonomy.load("occ3d_nuscenes")

    def __init__(self):
        rng = np.random.default_rng(0)
        self.labels = rng.integers(0, 18, OCC3D_NUSCENES.shape).astype(np.uint8)
        self.mask = rng.random(OCC3D_NUSCENES.shape) < 0.5

    def truth(self, i, grid):
        from occle_core.datasets.voxels import resample

        return None if i else resample(self.labels, OCC3D_NUSCENES, grid, self.taxonomy)

    name = "made up"

    def has_truth(self, i):
        return not i

    def masks(self, i):
        return {} if i else {"camera": self.mask, "lidar": ~self.mask}


PART = VoxelGrid((-19.2, -19.2, -1.0), (96, 96, 16), 0.4)


def test_a_part_of_the_grid_is_cut_out():
    data = Occ3D()
    here = slice(52, 148)
    np.testing.assert_array_equal(voxel_truth(data, 0, PART), data.labels[here, here])
    np.testing.assert_array_equal(sensor_mask(data, 0, PART, ("camera",)), data.mask[here, here])
    assert sensor_mask(data, 0, PART, ("camera", "lidar")).all()
    assert voxel_truth(data, 1, PART) is None and sensor_mask(data, 1, PART, ("camera",)) is None


@pytest.mark.parametrize("factor", [2, 4])
def test_finer_cells_take_the_label_of_the_recorded_cell_around_them(factor):
    data, fine = Occ3D(), PART.finer(factor)
    truth, mask = voxel_truth(data, 0, fine), sensor_mask(data, 0, fine, ("camera",))
    ijk = np.random.default_rng(1).integers(0, fine.shape, (500, 3))
    at, inside = OCC3D_NUSCENES.index(fine.centers(ijk))
    assert inside.all() and truth.shape == mask.shape == fine.shape
    np.testing.assert_array_equal(truth[tuple(ijk.T)], data.labels[tuple(at.T)])
    np.testing.assert_array_equal(mask[tuple(ijk.T)], data.mask[tuple(at.T)])
    scored, times = scored_grid(fine, data)
    assert (scored.shape, scored.origin, times) == (PART.shape, PART.origin, factor) and scored.resolution == pytest.approx(0.4)


def test_coarser_cells_are_seen_when_one_of_theirs_is():
    data, coarse = Occ3D(), OCC3D_NUSCENES.coarser(2)
    children = data.mask.reshape(100, 2, 100, 2, 8, 2).any(axis=(1, 3, 5))
    np.testing.assert_array_equal(sensor_mask(data, 0, coarse, ("camera",)), children)
    assert scored_grid(coarse, data) == (coarse, 1)


@pytest.mark.parametrize(("mask", "seen"), [("camera", [0]), ("lidar", [1]), ("either", [0, 1]), ("none", [0, 1, 2])])
def test_whose_sight_makes_a_cell_count_is_a_choice(mask, seen):
    rooms = Rooms("a")
    slabs = [slice(10 * k, 10 * k + 10) for k in range(3)]

    def sight(slab):
        cells = np.zeros(GRID.shape, bool)
        cells[slab] = True
        return cells

    rooms.masks = lambda i: {"camera": sight(slabs[0]), "lidar": sight(slabs[1])}
    truth = Samples([rooms], GRID, NETWORK, mask=mask).truth(0)
    for number, slab in enumerate(slabs):
        assert (truth[slab] == (rooms.world(0)[slab] if number in seen else 255)).all()


def test_the_benchmarks_mask_is_the_default():
    assert FitConfig().truth_mask == "camera"
    with pytest.raises(ValueError, match="camera"):
        FitConfig(truth_mask="radar")


def test_a_truth_without_the_mask_is_said_once(caplog):
    data = Occ3D()
    data.masks = lambda i: {"camera": data.mask}
    for _ in range(2):
        np.testing.assert_array_equal(sensor_mask(data, 0, OCC3D_NUSCENES, ("camera", "lidar")), data.mask)
    assert caplog.text.count("no mask of the lidar") == 1 and "all of their cells" not in caplog.text
    data.masks = lambda i: {}
    assert sensor_mask(data, 0, OCC3D_NUSCENES, ("camera",)) is None
    assert caplog.text.count("no mask of the camera; all of their cells count") == 1
    assert sensor_mask(data, 0, OCC3D_NUSCENES, ()) is None
