# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Occupancy accumulated from several scans."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from made_up_scans import CAR, GRID, ROAD, Box, Scans, TrackedScans, shift
from occle_train.data.accumulate import accumulate
from occle_train.pseudo_labels.lidar import FREE, OCCUPIED, UNKNOWN, accumulated_occupancy

from occle_core.datasets import DatasetError
from occle_core.frame import Frame
from occle_core.geometry.grid import OCC3D_NUSCENES, VoxelGrid

PLAIN = partial(accumulated_occupancy, margin=0)


def row(world):
    """The cells along the x axis through the sensor's row."""
    return world[:, 4, 2].tolist()


def test_it_is_the_labelled_accumulation_without_its_labels():
    rng = np.random.default_rng(0)
    scans = [np.column_stack([rng.uniform((-1, -3, -1.5), (6, 3, 1.5), (200, 3)), np.full(200, CAR)]) for _ in range(5)]
    poses = [shift(0.3 * i, 0.1 * i) for i in range(5)]
    data = Scans(scans, poses, T_grid_lidar=shift(0.2, 0, 0.1))
    grid = VoxelGrid((0, -2, -1), (20, 16, 8), 0.25)
    for before, after in ((0, 0), (2, 0), (9, 0), (0, 1), (1, 9)):
        labels = accumulate(data, 3, grid, before, after, moving=False)
        expected = np.where(labels == CAR, OCCUPIED, np.where(labels == 0, FREE, UNKNOWN))
        np.testing.assert_array_equal(PLAIN(data, 3, grid, before, after, "keep"), expected)
        assert {FREE, OCCUPIED, UNKNOWN} <= set(np.unique(expected).tolist())


def test_no_label_is_read_where_none_is_asked_for():
    data = Scans([[(2.2, 0.2, 0.2, CAR)]] * 3)
    data.point_labels = data.moving = lambda i: pytest.fail("labels were read")
    assert row(PLAIN(data, 2, GRID, 2, moving="keep")) == [0, 0, 0, 0, 1] + [255] * 5


def test_later_scans_are_used_only_where_they_are_asked_for():
    data = Scans([[(1.2 + i, 0.2, 0.2, CAR)] for i in range(5)])
    assert row(PLAIN(data, 2, GRID, 9, moving="keep")) == [0, 0, 1, 0, 1, 0, 1, 255, 255, 255]
    assert row(PLAIN(data, 2, GRID, 1, moving="keep")) == [0, 0, 0, 0, 1, 0, 1, 255, 255, 255]
    assert row(PLAIN(data, 2, GRID, 0, 1, "keep")) == [0, 0, 0, 0, 0, 0, 1, 0, 1, 255]


def test_a_mover_is_smeared_removed_or_carried():
    # A point on a mover, 1 m further in every scan, and a standing wall behind it.
    scans = [[(1.2 + i, 0.2, 0.2, CAR), (4.7, 0.2, 0.2, ROAD)] for i in range(3)]
    boxes = [[Box("car", shift(1.2 + i, 0.2, 0.2))] for i in range(3)]
    data = TrackedScans(scans, boxes, moving=[np.array([True, False])] * 3)
    assert row(PLAIN(data, 0, GRID, 0, 9, "carry")) == [0, 0, 1, 0, 0, 0, 0, 0, 0, 1]
    assert row(PLAIN(data, 2, GRID, 9, moving="keep")) == [0, 0, 1, 0, 1, 0, 1, 0, 0, 1]
    assert row(PLAIN(data, 2, GRID, 9, moving="remove")) == [0, 0, 0, 0, 0, 0, 1, 0, 0, 1]
    assert row(PLAIN(data, 2, GRID, 9, moving="carry")) == [0, 0, 0, 0, 0, 0, 1, 0, 0, 1]


def test_carrying_fills_in_what_the_present_scan_does_not_see():
    # The mover turns by 90 degrees between the scans; then its front was seen, now its middle.
    quarter = shift(2.25, 0.25, 0.25)
    quarter[:2, :2] = [[0, -1], [1, 0]]
    boxes = [[Box("car", shift(1.25, 0.25, 0.25), (1.6, 0.4, 0.4)), Box("left", shift(3.25, 0.25, 0.25))], [Box("car", quarter)]]
    data = TrackedScans([[(1.75, 0.25, 0.25, CAR), (3.25, 0.25, 0.25, CAR)], [(2.25, 0.25, 0.25, CAR)]], boxes)
    world = PLAIN(data, 1, GRID, 1, moving="carry")
    # Front: 0.5 m ahead of its centre is now 0.5 m to the left; the other one has gone.
    assert np.argwhere(world == OCCUPIED).tolist() == [[4, 4, 2], [4, 5, 2]]
    assert np.argwhere(PLAIN(data, 1, GRID, 1, moving="keep") == OCCUPIED).tolist() == [
        [3, 4, 2],
        [4, 4, 2],
        [6, 4, 2],
    ]


class Swept(Scans):
    """Scans a second apart with two between each, which the same world gives from other places."""

    stamps = (0, 1000, 2000)

    def sweeps(self, i, count):
        found = []
        for k in range(1, min(count, 2) + 1):
            place = shift(0.5 * (i - k / 3), 0.8, 0.1)
            points = np.array([[3.3 - place[0, 3], 0.1, 0.1, 0], [0.1, 0, 0, 0]], np.float32)
            found.append(Frame(self.stamps[i] - 300 * k, points, T_world_lidar=place))
        return found if i else []

    def sweep_files(self, i, count):
        return []


def test_scans_between_frames_count_as_scans():
    """As if they were frames: occupied where they hit, free where their rays pass, without points on the vehicle itself."""
    wall = [[(3.3 - 0.5 * i, 0.2, 0.2, CAR)] for i in range(3)]
    data = Swept(wall, [shift(0.5 * i) for i in range(3)])
    between = [frame for i in range(3) for frame in reversed(data.sweeps(i, 10))]
    order = sorted([(stamp, scan, pose) for stamp, scan, pose in zip(data.stamps, data.scans, data.poses)]
                   + [(frame.stamp, frame.points, frame.T_world_lidar) for frame in between], key=lambda one: one[0])  # fmt: skip
    expected = PLAIN(Scans([one[1] for one in order], [one[2] for one in order]), 6, GRID, 9, moving="keep", min_range=0.3)
    found = PLAIN(data, 2, GRID, 9, moving="keep", min_range=0.3, sweeps=2)
    np.testing.assert_array_equal(found, expected)
    assert (found != PLAIN(data, 2, GRID, 9, moving="keep", min_range=0.3)).any()
    np.testing.assert_array_equal(
        PLAIN(Scans(wall), 2, GRID, 9, moving="keep", sweeps=2), PLAIN(Scans(wall), 2, GRID, 9, moving="keep")
    )


def test_the_vehicle_itself_is_left_out():
    data = Scans([[(0.7, 0.2, 0.2, CAR), (3.2, 0.2, 0.2, CAR)]])
    assert row(PLAIN(data, 0, GRID, 0, moving="keep", min_range=1.0)) == [0] * 6 + [1, 255, 255, 255]


def test_near_surfaces_nothing_is_free():
    rng = np.random.default_rng(0)
    data = Scans([np.column_stack([rng.uniform((0, -2, -1), (5, 2, 1), (40, 3)), np.full(40, CAR)])])
    plain = PLAIN(data, 0, GRID, 0, moving="keep")
    for margin in (1, 2):
        world = accumulated_occupancy(data, 0, GRID, 0, moving="keep", margin=margin)
        for i, j, k in np.ndindex(*GRID.shape):
            around = plain[max(i - margin, 0) : i + margin + 1, max(j - margin, 0) : j + margin + 1, k]
            assert world[i, j, k] == (UNKNOWN if plain[i, j, k] == FREE and (around == OCCUPIED).any() else plain[i, j, k])
        assert (world == FREE).any() and (world != plain).any()


def test_what_is_missing_is_said_for_occupancy_too():
    data = Scans([[(1, 0, 0, CAR)]] * 2)
    with pytest.raises(DatasetError, match=r"no boxes.*--set recipe.moving_points=rays"):
        PLAIN(data, 1, GRID, 1, moving="carry")
    data.moving = lambda i: None
    with pytest.raises(DatasetError, match=r"what moves.*--set recipe.moving_points=rays"):
        PLAIN(data, 1, GRID, 1)
    data.pose = lambda i: None
    with pytest.raises(DatasetError, match="has no pose"):
        PLAIN(data, 1, GRID, 1, moving="keep")


def test_real_nuscenes_occupancy(real_data):
    from occle_core.datasets import open_dataset

    dataset = open_dataset(real_data / "nuscenes" / "lidar_seg_sequence")
    single, many = (PLAIN(dataset, 5, OCC3D_NUSCENES, before, min_range=2.5) for before in (0, 5))
    labels = accumulate(dataset, 5, OCC3D_NUSCENES, 5, 0)
    assert (many == OCCUPIED).sum() > 1.5 * (single == OCCUPIED).sum() and ((many != UNKNOWN) >= (single != UNKNOWN)).all()
    # With and without labels the same cells are occupied, but for unlabelled points, the vehicle's own among them.
    solid = (labels != 255) & (labels != dataset.taxonomy.free)
    assert (many[solid] == OCCUPIED).mean() > 0.99
