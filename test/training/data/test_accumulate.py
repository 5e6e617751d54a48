# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import numpy as np
import pytest
from dataset_files import voxel_bits
from made_up_scans import BUILDING, CAR, GRID, POLE, ROAD, TAXONOMY, Scans, shift
from occle_train.data.accumulate import accumulate, traversed
from occle_train.pseudo_labels.lidar import FREE, OCCUPIED, accumulated_occupancy

from occle_core.datasets import DatasetError, open_dataset
from occle_core.frame import Frame, RayOrigins
from occle_core.geometry.grid import OCC3D_NUSCENES, SEMANTICKITTI, VoxelGrid


def test_rays_against_dense_sampling():
    """Every cell that a fine sampling of the rays meets is crossed; nothing is crossed that the rays miss by a rounding error."""
    rng = np.random.default_rng(0)
    for grid in (GRID, VoxelGrid((-3, -2, -1), (31, 17, 9), 0.21)):
        for origin in ([1.03, 0.07, 0.21], [-4.0, 3.0, 2.0]):
            ends = rng.uniform(np.array(grid.origin) - 3, np.array(grid.upper) + 3, (60, 3))
            found = traversed(np.array(origin), ends, grid)
            along = origin + np.linspace(0, 1, 4001)[None, :, None] * (ends[:, None] - origin)
            cells = np.floor((along - grid.origin) / grid.resolution).astype(int)
            goal = np.floor((ends - grid.origin) / grid.resolution).astype(int)
            before = (cells != goal[:, None]).any(-1) & (cells >= 0).all(-1) & (cells < grid.shape).all(-1)
            sampled = np.zeros(grid.shape, bool)
            sampled[tuple(cells[before].T)] = True
            assert not (sampled & ~found).any()
            # The samples may step over a corner that the ray just touches.
            low = np.argwhere(found & ~sampled) * grid.resolution + grid.origin
            assert len(low) <= 0.03 * found.sum()
            for corner in low:
                inside = ((along > corner - 2e-3) & (along < corner + grid.resolution + 2e-3)).all(-1)
                assert inside.any()


def test_rays_along_the_axes():
    crossed = traversed(np.array([0.25, 0.25, 0.25]), np.array([[3.2, 0.25, 0.25]]), GRID)
    assert np.argwhere(crossed).tolist() == [[i, 4, 2] for i in range(6)]
    crossed = traversed(np.array([20, 0.25, 0.25]), np.array([[4.2, 0.25, 0.25], [4.2, 9, 0.25]]), GRID)
    assert np.argwhere(crossed).tolist() == [[9, 4, 2]]
    assert not traversed(np.array([20, 5, 5.0]), np.array([[30, 5, 5.0]]), GRID).any()
    # A point in the sensor's own cell crosses nothing; the sensor's cell is known all the same.
    assert np.argwhere(traversed(np.array([1.1, 0.1, 0.1]), np.array([[1.2, 0.2, 0.2]]), GRID)).tolist() == [[2, 4, 2]]


def test_a_wall_is_occupied_before_it_free_behind_it_unknown():
    y, z = np.meshgrid(np.arange(-1.95, 2, 0.1), np.arange(-0.95, 1, 0.1))
    wall = [(3.25, a, b, BUILDING) for a, b in zip(y.ravel(), z.ravel())]
    world = accumulate(Scans([wall], T_grid_lidar=shift(0.25, 0.01, 0.01)), 0, GRID, 0, 0)
    assert (world[7] == BUILDING).all()  # 3.25 + 0.25 = 3.5
    assert (world[8:] == 255).all()
    assert (world[5, 1:7] == TAXONOMY.free).all()
    # Beside the fan of rays nothing is known.
    assert world[1, 0, 0] == 255 and world[1, 7, 3] == 255


class Swept(Scans):
    """Scans with one between the first and the second, from further left, of the same wall and of something without a label."""

    stamps = (0, 10)

    def sweeps(self, i, count):
        wall = [[3.25, -0.25 + a, 0.1, 0] for a in (-0.5, 0, 0.5)]
        pose = shift(0, 1.5, 0)
        points = np.array([[x, y - 1.5, z, v] for x, y, z, v in [*wall, [1.25, 1.9, 0.6, 0]]], np.float32)
        return [Frame(self.stamps[1] - 1, points, T_world_lidar=pose)][:count] if i == 1 else []

    def sweep_files(self, i, count):
        return []


def test_scans_without_labels_add_free_space_in_front_of_what_is_labelled():
    wall = [(3.25, y, 0.1, BUILDING) for y in np.arange(-1.95, 2, 0.1)]
    scans = Swept([wall, wall])
    plain, swept = accumulate(scans, 0, GRID, 0, 1), accumulate(scans, 0, GRID, 0, 1, sweeps=10)
    gained = (plain == 255) & (swept == TAXONOMY.free)
    assert gained.any() and (plain == swept)[~gained].all()
    # Rays from (0, 1.5, 0) to the wall, and none to the point that nothing labelled confirms.
    expected = traversed(np.array([0, 1.5, 0]), np.array([[3.25, -0.25 + a, 0.1] for a in (-0.5, 0, 0.5)]), GRID)
    assert not (gained & ~expected).any() and (expected & (plain == 255) == gained).all()


def test_labels_are_voted_and_thin_things_kept():
    at = (2.2, 0.2, 0.2)
    cases = {
        (ROAD, ROAD, CAR): ROAD,
        (BUILDING, BUILDING, BUILDING, POLE): POLE,
        (BUILDING,) * 5 + (POLE,): BUILDING,
        (255, 255, 255, CAR): CAR,
        (255, 255): 255,
    }
    for labels, expected in cases.items():
        world = accumulate(Scans([[(*at, label) for label in labels]]), 0, GRID, 0, 0)
        assert world[4, 4, 2] == expected, labels


def test_unlabelled_points_free_nothing():
    world = accumulate(Scans([[(4.2, 0.2, 0.2, 255)]]), 0, GRID, 0, 0)
    assert (world[1:] == 255).all()


def test_scans_are_laid_into_the_reference_frame():
    # The sensor advances by 1 m a scan and always sees the same wall, 6 m from where it started.
    wall = [[(6.2 - x, 0.2, 0.2, BUILDING)] for x in range(5)]
    poses = [shift(10 + x, 5, 1) for x in range(5)]
    for index in range(5):
        world = accumulate(Scans(wall, poses), index, GRID, 9, 9)
        cell = int((6.2 - index) / 0.5)
        expected = {(cell, 4, 2)} if cell < 10 else set()
        assert {tuple(c) for c in np.argwhere((world != 255) & (world != 0)).tolist()} == expected
        # All rays run along one line: what is free lies on it, before the wall.
        assert {tuple(c) for c in np.argwhere(world == 0).tolist()} == {(i, 4, 2) for i in range(min(cell, 10))}
    alone = accumulate(Scans(wall, poses), 4, GRID, 0, 0)
    assert alone[4, 4, 2] == BUILDING and (alone == 0).sum() == 4


def test_before_and_after_choose_the_scans():
    scans = [[(0.75 + 0.5 * i, 0.2, 0.2, CAR)] for i in range(5)]
    for before, after, expected in ((0, 0, [3]), (1, 0, [2, 3]), (0, 2, [3, 4, 5]), (9, 9, [1, 2, 3, 4, 5])):
        world = accumulate(Scans(scans), 2, GRID, before, after)
        assert np.flatnonzero(world[:, 4, 2] == CAR).tolist() == expected


def test_what_moves_counts_in_the_reference_scan_only():
    scans = [[(1.2 + i, 0.2, 0.2, CAR), (4.7, 0.2, 0.2, BUILDING)] for i in range(3)]
    moving = [np.array([True, False])] * 3
    world = accumulate(Scans(scans, moving=moving), 1, GRID, 9, 9)[:, 4, 2]
    assert world.tolist() == [0, 0, 0, 0, CAR, 0, 0, 0, 0, BUILDING]
    smeared = accumulate(Scans(scans, moving=moving), 1, GRID, 9, 9, moving=False)[:, 4, 2]
    assert smeared.tolist() == [0, 0, CAR, 0, CAR, 0, CAR, 0, 0, BUILDING]
    # Where only another scan saw the moving thing, and nothing looked through, nothing is known.
    world = accumulate(
        Scans([[(0.7, 0.2, 0.2, ROAD)], [(2.2, 0.2, 0.2, CAR)]], moving=[np.array([False]), np.array([True])]), 0, GRID, 0, 1
    )
    assert world[:, 4, 2].tolist() == [0, ROAD, 0, 0, 255, 255, 255, 255, 255, 255]


def test_what_is_missing_is_said():
    good = Scans([[(1, 0, 0, CAR)]] * 2)
    for name, message in (
        ("pose", "frame 0 has no pose"),
        ("point_labels", "frame 0 has no point labels"),
        ("moving", "moving=False"),
    ):
        bad = Scans([[(1, 0, 0, CAR)]] * 2)
        setattr(bad, name, lambda i: None)
        with pytest.raises(DatasetError, match=message):
            accumulate(bad, 0, GRID, 1, 1)
    accumulate(good, 0, GRID, 1, 1)


def test_real_semantickitti(real_data):
    dataset = open_dataset(real_data / "semantickitti", scene="08")
    world = accumulate(dataset, 0, SEMANTICKITTI, 0, 4)
    recorded = voxel_bits(dataset, 0, "bin")
    # The data set's own voxelised scan never lies in what is called free, and is occupied but for unlabelled points.
    assert (world[recorded] != TAXONOMY.free).all()
    occupied = (world != TAXONOMY.free) & (world != 255)
    assert (occupied & recorded).sum() > 0.95 * recorded.sum()
    assert (world == TAXONOMY.free).sum() > 5 * occupied.sum()
    # Accumulating adds to the single scan and keeps the street in order: road at the bottom, sky free.
    assert occupied.sum() > 1.5 * SEMANTICKITTI.occupied(dataset.points(0)).sum()
    road = np.argwhere(world == ROAD)[:, 2]
    assert np.percentile(road, 95) < 8 < np.percentile(np.argwhere(world == POLE)[:, 2], 60)


def test_real_nuscenes(real_data):
    dataset = open_dataset(real_data / "nuscenes" / "lidar_seg_sequence")
    world = accumulate(dataset, 5, OCC3D_NUSCENES, 5, 5)
    names = dataset.taxonomy
    counts = {name: int((world == names.id(name)).sum()) for name in names.names}
    assert counts["driveable_surface"] > 4000 and counts["manmade"] > 2000 and counts["vegetation"] > 5000 and counts["others"] == 0
    # The road is where the ego frame stands: z = 0 is between cells 2 and 3.
    assert np.median(np.argwhere(world == names.id("driveable_surface"))[:, 2]) in (2, 3)
    assert counts["free"] > 5 * sum(n for name, n in counts.items() if name != "free")


class TwoLidars(Scans):
    """Scans whose every second point is of a LiDAR that stands somewhere else."""

    second = np.array([0.3, 1.6, 0.4])

    def origins(self, i):
        return RayOrigins(np.array([np.zeros(3), self.second]), (np.arange(len(self.points(i))) % 2).astype(np.uint8))


def test_rays_of_a_second_lidar_begin_there():
    """Against a loop over all rays of three scans, each from where its LiDAR was."""
    rng = np.random.default_rng(0)
    scans = TwoLidars(
        [np.c_[rng.uniform((0.5, -1.8, -0.8), (4, 1.8, 0.8), (30, 3)), np.full(30, BUILDING)] for _ in range(3)],
        T_grid_lidar=shift(0.25, 0.01, 0.01), poses=[shift(0.4 * i, 0, 0) for i in range(3)],
    )  # fmt: skip
    found = accumulated_occupancy(scans, 1, GRID, 1, 1, "keep", 0.0, 0)
    assert np.array_equal(found == FREE, accumulate(scans, 1, GRID, 1, 1, moving=False) == TAXONOMY.free)
    hit, free = np.zeros(GRID.shape, bool), np.zeros(GRID.shape, bool)
    for i in range(3):
        T = scans.T_grid_lidar @ np.linalg.inv(scans.pose(1)) @ scans.pose(i)
        for number, point in enumerate(scans.points(i)[:, :3].astype(np.float64)):
            end, start = (T[:3, :3] @ at + T[:3, 3] for at in (point, scans.second if number % 2 else np.zeros(3)))
            free |= traversed(start, end[None], GRID)
            hit |= GRID.occupied(end[None])
    assert np.array_equal(found == OCCUPIED, hit) and np.array_equal(found == FREE, free & ~hit)
    alone = accumulated_occupancy(
        Scans(scans.scans, T_grid_lidar=scans.T_grid_lidar, poses=scans.poses), 1, GRID, 1, 1, "keep", 0.0, 0
    )
    assert (alone != found).sum() > 20
