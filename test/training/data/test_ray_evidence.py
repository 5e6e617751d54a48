# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Moving points by ray evidence: against a brute-force loop over rays, on scenes of known motion, and on simulated streets."""

from pathlib import Path

import numpy as np
import pytest
from made_up_scans import Scans, drive_past_a_wall, shift
from occle_train.data.ray_evidence import RayEvidence, RayEvidenceConfig, directions, range_image, supported
from occle_train.pseudo_labels.lidar import OCCUPIED, accumulated_occupancy
from occle_train.pseudo_labels.unlabelled import UnlabelledDataset
from occle_train.streets import simulate

from occle_core.datasets import open_dataset
from occle_core.datasets.base import ray_origins
from occle_core.frame import RayOrigins
from occle_core.geometry.grid import VoxelGrid


def test_a_crossing_box_moves_and_the_wall_does_not():
    boxes = [(-4.0 + 1.5 * i, 10.0) for i in range(7)]
    data = drive_past_a_wall(boxes)
    for i in range(7):
        truth, found = data.scans[i][:, 3] == 1, RayEvidence(data).moving(i)
        assert truth.any() and found[truth].mean() > 0.95
        assert found[~truth].mean() < 0.03  # beside the box's edges


def test_a_standing_box_does_not_move_however_the_sensor_does():
    data = drive_past_a_wall([(1.0, 10.0)] * 7, speed=1.0)
    assert not any(RayEvidence(data).moving(i).any() for i in range(7))


def test_what_appears_for_good_was_passed_through_before():
    data = drive_past_a_wall([None] * 4 + [(1.0, 10.0)] * 3)
    assert RayEvidence(data).moving(4)[data.scans[4][:, 3] == 1].mean() > 0.9


def test_no_poses_no_evidence():
    data = drive_past_a_wall([(-4.0 + 1.5 * i, 10.0) for i in range(4)])
    data.poses = [None] * 4
    assert not RayEvidence(data).moving(1).any()
    data.poses = [np.eye(4), None, np.eye(4), np.eye(4)]
    assert not RayEvidence(data).moving(1).any()


class TwoLidars(Scans):
    """Scans whose every second point is of a LiDAR that stands somewhere else."""

    def origins(self, i):
        return RayOrigins(np.array([[0, 0, 0], [0.5, -2.0, 0.7]]), (np.arange(len(self.points(i))) % 2).astype(np.uint8))


@pytest.mark.parametrize("kind", [Scans, TwoLidars])
def test_counts_agree_with_a_loop_over_all_pairs_of_points(kind):
    rng = np.random.default_rng(0)
    scans = [np.c_[rng.uniform(-8, 8, (60, 3)), np.zeros(60)] for _ in range(3)]
    pose = shift(0.7, -0.3, 0.1)
    data = kind(scans, poses=[np.eye(4), pose, np.linalg.inv(pose)])
    config = RayEvidenceConfig(pixel=6)
    passed, met = RayEvidence(data, config).counts(1)
    for n, point in enumerate(data.points(1)[:, :3]):
        through = surface = 0
        for other in (0, 2):
            moved = np.linalg.inv(data.poses[other]) @ pose @ [*point, 1]
            seen = [
                looked_at(own - at, moved[:3] - at, config) for at, own in ray_origins(data, other).rays(data.points(other)[:, :3])
            ]
            through += any(passes for passes, _ in seen)
            surface += any(meets for _, meets in seen)
        assert (passed[n], met[n]) == (through, surface)


def looked_at(points, place, config):
    """Whether rays to points (N, 3) of a LiDAR pass through a place, and whether they find a surface there; all from the LiDAR."""
    r, row, column = (float(value[0]) for value in directions(place[None], 6))
    clear = config.clearance + config.clearance_per_metre * r
    reach, rows, columns = directions(points, 6)
    across = np.abs(columns - column)
    beside = (np.abs(rows - row) <= 1) & (np.minimum(across, 60 - across) <= 1)
    # A pixel shows its nearest point alone.
    nearest = {}
    for at, value in zip(zip(rows[beside], columns[beside]), reach[beside]):
        nearest[at] = min(value, nearest.get(at, np.inf))
    return beside.any() and reach[beside].min() > r + clear, any(abs(value - r) < clear for value in nearest.values())


def test_range_image_of_known_directions():
    image = range_image(np.array([[3.0, 0, 0], [5, 0, 0], [0, 2, 0], [0, 0, 4]]), 1.0)
    assert image.shape == (180, 360) and np.isfinite(image).sum() == 3
    assert image[90, 180] == 3 and image[90, 270] == 2 and image[179, 180] == 4


def test_single_points_have_no_support():
    points = np.array([[0.1, 0.1, 0.1]] * 4 + [[5, 5, 5.0]] * 2 + [[9, 9, 9.0]] * 10)
    doubted = np.array([True] * 3 + [False] + [True] * 2 + [True] * 2 + [False] * 8)
    assert supported(points, doubted, 0.3).tolist() == [True] * 4 + [False] * 12


@pytest.fixture(scope="module")
def street(tmp_path_factory):
    folder = tmp_path_factory.mktemp("rays") / "streets"
    simulate(folder, "kitti", 1, 6, 9100, 0.05, 1)
    return folder


def test_on_a_simulated_street(street: Path):
    data = open_dataset(street)
    unlabelled = UnlabelledDataset(data)
    found, moving = (np.concatenate([source.moving(i) for i in range(6)]) for source in (unlabelled, data))
    assert moving.sum() > 1000
    assert (found & moving).sum() > 0.6 * moving.sum()
    assert (found & moving).sum() > 0.9 * found.sum()


def test_labels_are_out_of_reach(street: Path):
    data = UnlabelledDataset(open_dataset(street))
    grid = VoxelGrid((0, -12.8, -2), (32, 64, 16), 0.4)
    before = accumulated_occupancy(data, 2, grid, 2, 2, "remove")
    assert (before == OCCUPIED).sum() > 500
    for folder in ("labels", "voxels", "semantic_2"):
        for file in (street / "sequences" / "00" / folder).iterdir():
            file.write_bytes(b"not labels")
    again = UnlabelledDataset(open_dataset(street))
    assert np.array_equal(before, accumulated_occupancy(again, 2, grid, 2, 2, "remove"))
    assert again.point_labels(0) is None and again.truth(0, grid) is None and not again.has_truth(0) and again.masks(0) == {}
