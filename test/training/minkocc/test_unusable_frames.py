# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Scans without a point in the grid, frames without a pose, and files that are missing: named, and the training goes through."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from occle_train.data.samples import Samples
from occle_train.minkocc.batches import TrainingSet
from occle_train.minkocc.config import FitConfig
from occle_train.minkocc.finish import set_free_bias
from occle_train.minkocc.fit import fit
from occle_train.minkocc.recipe import RecipeSamples
from occle_train.occle.fit import fit_occle
from occle_train.occle.phases import OccleRecipeConfig
from occle_train.occle.samples import OccleSamples, every_nth
from occle_train.process_group import ProcessGroup
from occle_train.runs.validation import Slice, draw_validation, predictor_of
from rooms import CLASSES, GRID, NETWORK, RECIPE, Rooms, label_folder, spec

from occle_core.bundle import spec_for
from occle_core.datasets import DatasetError
from occle_core.datasets.files import warn_once
from occle_core.networks.occle.config import tiny as occle_tiny


class Patchy(Rooms):
    """Rooms some of whose scans are far away, and some of whose poses are not known."""

    def __init__(self, name, count=4, far=(), lost=()):
        super().__init__(name, count)
        self.far, self.lost = far, lost

    def points(self, i):
        return np.full((2, 4), 90, np.float32) if i in self.far else super().points(i)

    def pose(self, i):
        return None if i in self.lost else super().pose(i)


def test_a_scan_outside_the_grid_is_left_out_by_name(tmp_path, caplog):
    torch.set_num_threads(1)
    samples = Samples([Patchy("a", far=(1, 2))], GRID, NETWORK)
    network = fit(spec(), samples, FitConfig(steps=6, warmup_steps=1, batch_size=2), tmp_path)
    for number in (1, 2):
        assert caplog.text.count(f"sequence a, frame {number} is left out of the training: ") == 1
    assert "frame 0" not in caplog.text
    # Measuring the free class's bias meets the same frames.
    assert set_free_bias(network, spec(), samples) <= 0


def test_the_frame_that_takes_its_place_is_the_next_of_its_pool():
    samples = Samples([Patchy("a", far=(1, 2, 3))], GRID, NETWORK)
    batches = TrainingSet(samples, GRID, NETWORK, FitConfig().sampling_plan, 0, ProcessGroup())
    taken = {item: batches[7, [item]].labels for item in range(4)}
    for item in range(4):  # 3 is the last: the first takes its place
        assert torch.equal(taken[item], taken[0])
    clean = TrainingSet(Samples([Patchy("a")], GRID, NETWORK), GRID, NETWORK, FitConfig().sampling_plan, 0, ProcessGroup())
    assert torch.equal(clean[7, [0]].labels, taken[1])


def test_a_training_set_of_nothing_else_is_refused():
    samples = Samples([Patchy("a", far=range(4))], GRID, NETWORK)
    with pytest.raises(DatasetError, match="no frame of the training set can be used"):
        TrainingSet(samples, GRID, NETWORK, FitConfig().sampling_plan, 0, ProcessGroup())[0, [2]]


def recipe_samples(tmp_path, rooms, recipe=RECIPE):
    labels = label_folder(tmp_path / "labels", rooms)
    return RecipeSamples(rooms, GRID, NETWORK, recipe, labels, tmp_path / "cache")


def test_frames_without_a_pose_have_no_weak_targets_and_are_left_out(tmp_path, caplog):
    rooms = [Patchy("a", lost=(1,)), Patchy("b", lost=(1,))]
    samples = recipe_samples(tmp_path, rooms)
    (drawn,) = samples.drawn
    labelled = 0 if drawn == "a" else 1
    assert [i for number, i in samples.index if number == labelled] == [0, 1, 2, 3]
    assert [i for number, i in samples.index if number != labelled] == [0, 2, 3]
    assert caplog.text.count("1 frames have no pose and are left out") == 1
    # A neighbour without a pose is missing in what is accumulated.
    item = samples.index.index((1 - labelled, 2))
    alone = recipe_samples(tmp_path / "alone", rooms, RECIPE.model_copy(update={"past_scans": 0})).weak_target(item)
    np.testing.assert_array_equal(samples.weak_target(item), alone)


def test_a_scene_without_any_pose_is_refused_before_the_first_step(tmp_path):
    rooms = [Patchy("a", lost=range(4)), Patchy("b", lost=range(4))]
    with pytest.raises(DatasetError, match="has no poses: scans cannot be accumulated"):
        recipe_samples(tmp_path, rooms)
    # A recipe that ends with the warm start accumulates nothing.
    assert len(recipe_samples(tmp_path, rooms, RECIPE.model_copy(update={"warmup_fraction": 1.0}))) == 8


def test_targets_are_kept_by_frame_and_folder_not_by_time(tmp_path):
    """Recordings whose stamps are all 0, and two data sets whose scenes have the same names."""
    files = {name: tmp_path / name / "scan.bin" for name in ("one", "other")}
    for file in files.values():
        file.parent.mkdir()
        file.write_bytes(b"1")
    recipe = RECIPE.model_copy(update={"alpha": 0.0, "past_scans": 0, "warmup_fraction": 0.0})

    def targets(home, shift, stamps):
        room = Patchy("a")
        room.files = lambda i: [files[home]]
        points = room.points
        room.points = lambda i: points(i) + np.array([0, shift, 0, 0], np.float32)
        room.stamps = stamps
        samples = RecipeSamples([room], GRID, NETWORK, recipe, None, tmp_path / "cache")
        return [samples.weak_target(item) for item in range(4)]

    expected = targets("one", 0.0, [0, 1, 2, 3])
    assert len({target.tobytes() for target in expected}) == 4
    for kept, fresh in zip(targets("one", 0.0, [0] * 4), expected):
        np.testing.assert_array_equal(kept, fresh)
    assert all((kept != fresh).any() for kept, fresh in zip(targets("other", 2.0, [0] * 4), expected))
    assert len(list((tmp_path / "cache").rglob("*.npz"))) == 8


def test_a_damaged_target_is_made_anew(tmp_path, caplog):
    rooms = [Patchy("a"), Patchy("b")]
    samples = recipe_samples(tmp_path, rooms)
    weak = next(item for item in range(len(samples)) if item not in samples.warm)
    expected = samples.weak_target(weak)
    (file,) = (tmp_path / "cache").rglob("*.npz")
    file.write_bytes(file.read_bytes()[:100])
    np.testing.assert_array_equal(recipe_samples(tmp_path, rooms).weak_target(weak), expected)
    assert f"{file} cannot be read" in caplog.text and "made anew" in caplog.text
    warn_once.cache_clear()
    caplog.clear()
    recipe_samples(tmp_path, rooms).weak_target(weak)
    assert "made anew" not in caplog.text


@pytest.mark.parametrize(
    ("numbers", "truths", "every", "expected"),
    [
        (range(11), {0, 5, 10}, 5, [0, 5, 10]),
        ([0, 5, 10, 15], {0, 5, 10, 15}, 5, [0, 5, 10, 15]),  # a reader that lists each fifth frame
        ([3, 4, 5, 6, 10, 15], {5, 10, 15}, 5, [5, 10, 15]),  # a part of a recording
        ([1, 6, 11], {1, 6, 11}, 5, [1, 6, 11]),
        (range(7), set(), 3, [0, 3, 6]),  # truth will be accumulated
        ([], set(), 3, []),
    ],
)
def test_every_nth_frame_is_counted_by_the_recording(numbers, truths, every, expected):
    data = Rooms("a", len(numbers))
    data.numbers = list(numbers)
    data.has_truth = lambda i: data.numbers[i] in truths
    assert [data.numbers[i] for i in every_nth(data, every)] == expected


def test_occle_trains_through_lost_poses_and_far_scans(tmp_path, caplog):
    torch.set_num_threads(1)
    drives = [Patchy("a", 6, far=(4,), lost=(2,)), Patchy("b", 6, far=(0,))]
    config = OccleRecipeConfig(annotated_fraction=0.5, phase_steps=dict.fromkeys(("semantic", "teacher", "student", "fusion"), 6))
    network = occle_tiny(frames=3)
    samples = OccleSamples(drives, GRID, network, config, label_folder(tmp_path / "labels", drives))
    assert [frame.stamp for frame in samples.frames(3)[0]] == [3, 1, 0]  # 2 has no pose
    assert [frame.stamp for frame in samples.frames(2)[0]] == [2]
    fit_occle(spec_for(network, GRID, "semantickitti", "rooms"), samples, config, tmp_path / "fit")
    assert caplog.text.count("sequence a, frame 4 is left out of the training") == 1
    assert caplog.text.count("sequence b, frame 0 is left out of the training") == 1


def test_targets_of_one_class_list_are_not_taken_for_anothers(tmp_path):
    """The targets hold the id of free space, which another list gives to a class."""
    other = Rooms("a")
    other.taxonomy = replace(CLASSES, name="own", names=(*CLASSES.names[1:], "free"), free=19)
    targets = []
    for rooms in (Rooms("a"), other):
        targets.append(RecipeSamples([rooms], GRID, NETWORK, RECIPE, None, tmp_path).weak_target(0))
    assert np.array_equal(targets[0] == 0, targets[1] == 19) and (targets[0] == 0).any() and not (targets[1] == 0).any()


def test_the_end_of_a_run_draws_the_frames_that_can_be_predicted(tmp_path):
    """The first frame has no point in the grid: hours of training must not end in an error for the sake of a picture."""
    rooms = Rooms("a")

    def frame(i):
        found = Rooms.frame(rooms, i)
        return replace(found, points=found.points + np.float32(90)) if i == 0 else found

    rooms.frame = frame
    written = draw_validation(tmp_path, Slice([rooms], 1), predictor_of(spec(), spec().build().eval()))
    assert [file.name for file in written] == ["validation-2.jpg", "validation-3.jpg"]
