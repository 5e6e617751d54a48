# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""What goes beyond the paper: pretraining on scans without labels, and an averaged teacher in 3D."""

import numpy as np
import pytest
import torch
from occle_train.data.samples import SOLID
from occle_train.data.self_training import SelfTrainingConfig
from occle_train.loop.running_average import running_average
from occle_train.loop.sampling import BatchSampler
from occle_train.losses.minkocc import alone
from occle_train.minkocc.batches import TrainingSet
from occle_train.minkocc.fit import make_self_training, make_trainer
from occle_train.minkocc.recipe_config import MinkOccRecipeConfig
from occle_train.process_group import ProcessGroup
from occle_train.pseudo_labels.lidar import accumulated_occupancy
from occle_train.pseudo_labels.unlabelled import UnlabelledDataset
from recipe_runs import BEYOND, FIT, SCENES, STILL, labels_of, losses_of, samples_of, trained
from rooms import GRID, NETWORK, Rooms, spec


@pytest.fixture(scope="module")
def labels(tmp_path_factory):
    return labels_of(tmp_path_factory.mktemp("labels"))


def test_pretraining_reads_the_scans_of_all_frames_and_no_label(tmp_path):
    recipe = BEYOND.model_copy(update={"warmup_fraction": 0.75, "self_training": None})
    rooms = [Rooms(name) for name in SCENES]
    samples = samples_of(tmp_path, None, recipe, rooms)
    plan = FIT.model_copy(update={"steps": 24, "recipe": recipe, "augment": STILL}).sampling_plan
    order = dict(BatchSampler(len(samples), plan, 0, samples.warm))
    assert [plan.target_kind(step) for step in (0, 5, 6, 23)] == ["scans", "scans", "labels", "labels"]
    assert sorted(item for step in range(6) for item in order[step]) == list(range(12))
    assert {item for step in range(6, 24) for item in order[step]} == set(samples.warm)
    batch = TrainingSet(samples, GRID, NETWORK, plan, 0, ProcessGroup())[0, [0, 4]]
    for number, item in enumerate((0, 4)):
        scene, i = samples.index[item]
        expected = accumulated_occupancy(UnlabelledDataset(rooms[scene]), i, GRID, 2, moving="remove")
        np.testing.assert_array_equal(batch.occupancy[number].numpy(), expected)
    assert (batch.labels == 255).all() and (batch.lifted == 255).all() and not batch.views
    assert not any(room.read for room in rooms)


def test_the_teacher_sees_batches_after_the_warm_start_and_is_calibrated_on_their_labelled_frames(tmp_path, labels):
    config = FIT.model_copy(update={"recipe": BEYOND, "augment": STILL})
    samples = samples_of(tmp_path, labels, BEYOND)
    assert config.teaching_step == 4 and FIT.teaching_step == FIT.steps
    late = BEYOND.model_copy(update={"warmup_fraction": 0.6})
    assert config.model_copy(update={"recipe": late}).teaching_step == 7
    network = make_trainer(spec(), samples, config, "cpu", None).network
    teaching = make_self_training(spec(), samples, config, running_average(network, 0.9), "cpu")
    labelled = samples.warm[0]
    weak = next(item for item in range(len(samples)) if item not in samples.warm)
    batch = TrainingSet(samples, GRID, NETWORK, config.sampling_plan, 0, ProcessGroup())[5, [labelled, weak]]
    targets = teaching.targets(batch, alone)
    # What scans and votes say of the labelled frame is known to the teacher alone: every cell is counted, once for each class.
    scans = samples.weak_target(labelled)
    np.testing.assert_array_equal(batch.evidence[0].numpy(), scans)
    assert (batch.evidence[1] == 255).all() and (batch.lifted[0] == 255).all()
    assert teaching.cells.named.sum() == 20 * (scans != 0).sum()
    assert teaching.cells.votes.sum() == ((scans != 0) & (scans < SOLID)).sum() > 0
    assert torch.equal(targets.labels, batch.labels) and torch.equal(targets.occupancy[0], batch.occupancy[0])
    known = batch.occupancy[1] != 255
    assert torch.equal(targets.occupancy[1][known], batch.occupancy[1][known])
    assert (targets.lifted[1][batch.occupancy[1] == 0] == 255).all() and (targets.occupancy[1][~known] != 255).any()


def test_until_it_teaches_a_teacher_changes_nothing(tmp_path, labels):
    logs = []
    for name, teacher in (("with", SelfTrainingConfig(start=0.75, least_confidence=0.3)), ("without", None)):
        recipe = BEYOND.model_copy(update={"pretraining_fraction": 0, "self_training": teacher})
        config = FIT.model_copy(update={"steps": 4, "recipe": recipe})
        logs.append(losses_of(trained(tmp_path / name, samples_of(tmp_path, labels, recipe), config)[1]))
    assert logs[0][:4] == logs[1][:4] and logs[0][4] != logs[1][4]


def test_pretraining_and_teacher_say_what_they_need():
    with pytest.raises(ValueError, match="more than all steps"):
        MinkOccRecipeConfig(pretraining_fraction=0.7)
    for without in ({"alpha": 0}, {"keep_voxel_labels": False}, {"lift_weight": 0}):
        with pytest.raises(ValueError, match="teacher is calibrated on labelled frames"):
            MinkOccRecipeConfig(**{"lift_weight": 1, "self_training": {}, **without})
