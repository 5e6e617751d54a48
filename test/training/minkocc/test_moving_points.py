# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""What the recipe does with points on moving objects: ray evidence needs no labels, boxes are read once."""

from pathlib import Path

import numpy as np
import pytest
from made_up_scans import Scans, drive_past_a_wall
from occle_train.data.samples import SOLID
from occle_train.minkocc.recipe import RecipeSamples
from occle_train.minkocc.recipe_config import MinkOccRecipeConfig
from occle_train.pseudo_labels.lidar import OCCUPIED, accumulated_occupancy
from rooms import GRID, NETWORK, RECIPE, Rooms

from occle_core.datasets import DatasetError
from occle_core.frame import Frame
from occle_core.geometry.grid import VoxelGrid

NO_LABELS = RECIPE.model_copy(update={"alpha": 0.0, "past_scans": 3, "future_scans": 3})


class Recording(Scans):
    """Scans as recorded: asking for labels, or for what is known to move, fails the test."""

    camera_names, lidar_frame, grid_frame = (), "lidar", "lidar"

    def __init__(self, known):
        super().__init__(known.scans, poses=known.poses)
        self.stamps = self.numbers = list(range(len(self)))

    def files(self, i):
        return [Path(__file__)]  # a file that is there

    def has_truth(self, i):
        return False

    def point_labels(self, i):
        raise AssertionError("labels were opened")

    moving = point_labels


def test_rays_of_other_scans_remove_a_crossing_box_without_labels(tmp_path):
    known = drive_past_a_wall([(-4.0 + 1.5 * i, 10.0) for i in range(7)])
    known.motion = [scan[:, 3] == 1 for scan in known.scans]
    grid = VoxelGrid((-12, 0, -2), (60, 48, 8), 0.5)

    def target(moving_points):
        recipe = NO_LABELS.model_copy(update={"moving_points": moving_points})
        return RecipeSamples([Recording(known)], grid, NETWORK, recipe, None, tmp_path).weak_target(3) == SOLID

    expected, smeared = (accumulated_occupancy(known, 3, grid, 3, 3, moving) == OCCUPIED for moving in ("remove", "keep"))
    trail, found = smeared & ~expected, target("rays")
    assert np.array_equal(target("keep"), smeared) and trail.sum() > 20
    assert found[trail].mean() < 0.1 and found[expected].mean() > 0.99


class Between(Recording):
    """Every second scan is a frame, the others lie between them, each in a file of `folder` where one is given."""

    def __init__(self, known, folder=None):
        self.folder = folder
        super().__init__(known)
        self.all = list(zip(known.scans, known.poses))
        self.scans, self.poses = known.scans[::2], known.poses[::2]
        self.stamps, self.numbers = [2 * i for i in range(len(self.scans))], list(range(len(self.scans)))

    def sweeps(self, i, count):
        if not i:
            return []
        scan, pose = self.all[2 * i - 1]
        return [Frame(2 * i - 1, scan.astype(np.float32), T_world_lidar=pose)]

    def sweep_files(self, i, count):
        return [self.folder / f"{2 * i - 1}.bin"] if i and self.folder else []


def test_rays_remove_it_from_the_scans_between_frames_too(tmp_path):
    known = drive_past_a_wall([(-4.0 + 1.5 * i, 10.0) for i in range(9)])
    known.motion = [scan[:, 3] == 1 for scan in known.scans]
    grid = VoxelGrid((-12, 0, -2), (60, 48, 8), 0.5)

    def target(**values):
        recipe = NO_LABELS.model_copy(update=values)
        samples = RecipeSamples([Between(known)], grid, NETWORK, recipe, None, tmp_path)
        return samples.weak_target(3) == SOLID, samples.weak_target(3) == 0

    keep, _ = target(moving_points="keep", sweeps=10)
    rays, free = target(moving_points="rays", sweeps=10)
    alone, fewer = target(moving_points="rays")
    standing = accumulated_occupancy(known, 6, grid, 6, 2, "remove") == OCCUPIED
    trail = keep & ~standing
    assert trail.sum() > 20 and rays[trail].mean() < 0.1 and rays[standing].mean() > 0.99
    assert (free & ~fewer).any() and alone.sum() <= rays.sum()


def test_missing_scans_between_frames_are_found_before_the_warm_start(tmp_path):
    """Targets that are made need none; nor do frames whose history does not reach them, or a recipe without them."""
    known = drive_past_a_wall([(-4.0 + 1.5 * i, 10.0) for i in range(9)])
    known.motion = [scan[:, 3] == 1 for scan in known.scans]
    grid, data = VoxelGrid((-12, 0, -2), (60, 48, 8), 0.5), Between(known, tmp_path)
    recipe = NO_LABELS.model_copy(update={"moving_points": "keep", "sweeps": 10})

    def samples(**values):
        return RecipeSamples([data], grid, NETWORK, recipe.model_copy(update=values), None, tmp_path / "targets")

    for number in (1, 3, 5):
        (tmp_path / f"{number}.bin").write_text("there")
    with pytest.raises(DatasetError, match=r"^recipe.sweeps 10: 1 files are missing.*7\.bin.*or take recipe.sweeps: 0$"):
        samples()
    samples(sweeps=0)
    (tmp_path / "7.bin").write_text("there")
    made = samples()
    for item in made.weak_items():
        made.weak_target(item)
    (tmp_path / "7.bin").unlink()
    samples()


def test_scans_between_frames_have_no_boxes():
    with pytest.raises(ValueError, match=r"recipe.sweeps: what moves is known of frames alone.* carry needs"):
        MinkOccRecipeConfig(sweeps=10, moving_points="carry")
    assert MinkOccRecipeConfig(sweeps=10, moving_points="rays").sweeps == 10


def test_boxes_are_read_before_loader_processes_are_forked(tmp_path):
    class Boxed(Rooms):
        asked = 0

        def boxes(self, i):
            Boxed.asked += 1
            return []

    rooms = [Boxed(name) for name in "abcd"]
    RecipeSamples(rooms, GRID, NETWORK, RECIPE, None, tmp_path)
    assert Boxed.asked == 0  # points are kept where they are: no box is needed
    RecipeSamples(rooms, GRID, NETWORK, RECIPE.model_copy(update={"moving_points": "carry"}), None, tmp_path)
    assert Boxed.asked == len(rooms)
