# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Self-training of phase III: the teacher's targets cell by cell, and a phase that runs with it and is resumed to the same end."""

import csv

import numpy as np
import pytest
import torch
from occle_train.data.samples import SOLID
from occle_train.data.self_training import BINS, NEITHER, POINTS
from occle_train.loop.steps import TrainingHooks
from occle_train.losses.occle import occupancy_loss
from occle_train.occle.batches import PhaseBatches
from occle_train.occle.fit import CELLS, fit_occle, fresh_network, make_self_training
from occle_train.occle.kept_targets import ScanEvidence
from occle_train.occle.objectives import Weights, pseudo_label_loss
from occle_train.occle.phases import OccleRecipeConfig
from occle_train.occle.samples import OccleSamples
from occle_train.occle.self_training import OccleSelfTrainingConfig, evidence_targets
from occle_train.process_group import ALONE
from occle_train.pseudo_labels.cell_folder import CellConfig
from occle_train.pseudo_labels.lidar import accumulated_occupancy
from occle_train.pseudo_labels.lift import lifted_labels, point_labels
from occle_train.pseudo_labels.unlabelled import UnlabelledDataset
from rooms import BUILDING, CLASSES, GRID, ROAD, Rooms, label_folder
from teacher_cells import one_cell

from occle_core.bundle import spec_for
from occle_core.networks.occle.config import tiny

SCENES, NONE = ("a", "b"), 255
NETWORK = tiny()
CELL_CONFIG = CellConfig(past_scans=1, future_scans=1, free_margin=0)
TEACHER = OccleSelfTrainingConfig(start=0.3, least_confidence=0.3, ema_decay=0.9)
CONFIG = OccleRecipeConfig(
    annotated_fraction=0.2,
    min_annotated_fraction=0.5,
    batch_size=2,
    learning_rate=1e-2,
    ablate=("semantic", "geometric"),
    phase_steps={"fusion": 3},
    checkpoint_every=2,
    seed=1,
    voxel_pseudo_labels=CELL_CONFIG,
    self_training=TEACHER,
)


def spec():
    return spec_for(NETWORK, GRID, "semantickitti", "rooms")


@pytest.fixture(scope="module")
def labels(tmp_path_factory):
    return label_folder(tmp_path_factory.mktemp("labels"), [Rooms(name) for name in SCENES])


def samples_of(labels, config=CONFIG):
    return OccleSamples([Rooms(name) for name in SCENES], GRID, NETWORK, config, labels)


def trained(folder, labels, config=CONFIG, **more):
    torch.set_num_threads(1)
    weights = fit_occle(spec(), samples_of(labels, config), config, folder, **more).state_dict()
    return weights, list(csv.DictReader((folder / "fusion" / "log.csv").open()))


def test_targets_are_those_of_each_cell_and_what_rays_passed_is_free_whatever_the_teacher_says(tmp_path, labels):
    samples = samples_of(labels)
    evidence = ScanEvidence(samples, tmp_path / CELLS, CELL_CONFIG, ALONE)
    annotated = samples.annotated[0]
    unannotated = next(item for item in range(len(samples)) if item not in samples.annotated)
    config = CONFIG.model_copy(update={"self_training": TEACHER.model_copy(update={"least_confidence": 0.995})})
    batches = PhaseBatches(samples, "fusion", config, evidence=evidence)
    batch = batches[1, [annotated, unannotated]]
    for number, item in enumerate((annotated, unannotated)):
        room, i = samples.index[item]
        data = UnlabelledDataset(samples.datasets[room])
        scans = (1, 1, "remove", 0.0)
        np.testing.assert_array_equal(batch.evidence[number, 0], accumulated_occupancy(data, i, GRID, *scans, 0))
        votes = lifted_labels(data, i, GRID, lambda scan, data=data: point_labels(data, scan, labels), *scans)
        np.testing.assert_array_equal(batch.evidence[number, 1], votes)

    network = fresh_network(spec(), CONFIG)
    torch.nn.init.normal_(network.fusion.head[-1].weight, std=0.5)  # probabilities of all sizes
    teacher = make_self_training(network, "fusion", CLASSES, config, 10, "cpu")
    alone = evidence_targets(batch, CLASSES.free)
    assert torch.equal(teacher.targets(batch), alone) and not teacher.cells.named.any()  # before the teacher's start
    for _ in range(3):
        teacher.update(network)
    found = teacher.targets(batch)
    probabilities = network.eval()(batch.inputs).softmax(1).detach()

    # Counted are the cells of the annotated frame alone: of each class in which interval, and how many of them are right.
    occupancy, votes = batch.evidence[0].numpy()
    truth, named, right = batch.truth[0].numpy(), np.zeros((2, 20, BINS)), np.zeros((2, 20, BINS))
    for cell in np.ndindex(GRID.shape):
        if occupancy[cell] == 0 or truth[cell] == NONE:
            continue
        state = POINTS if occupancy[cell] == 1 else NEITHER
        bins = (probabilities[0][(slice(None), *cell)].numpy() * BINS).astype(int).clip(0, BINS - 1)
        named[state, np.arange(20), bins] += 1
        right[state, truth[cell], bins[truth[cell]]] += 1
    np.testing.assert_array_equal(teacher.cells.named, named)
    np.testing.assert_array_equal(teacher.cells.right, right)

    assert (found[0] == NONE).all()
    occupancy, votes = batch.evidence[1].numpy()
    for cell in np.random.default_rng(0).permutation(list(np.ndindex(GRID.shape)))[:800].tolist():
        cell = tuple(cell)
        raw = probabilities[1][(slice(None), *cell)]
        name, occupied = one_cell(teacher.cells, raw, int(votes[cell]), int(occupancy[cell]))
        expected = CLASSES.free if occupied == 0 else SOLID if occupied == 1 and name == NONE else name
        assert int(found[1][cell]) == expected
        scan = occupancy[cell]
        assert int(alone[1][cell]) == (0 if scan == 0 else NONE if scan == NONE else SOLID if votes[cell] == NONE else votes[cell])
    assert {0, ROAD, BUILDING, NONE} <= set(found[1].unique().tolist())
    assert (alone[0] == NONE).all() and {0, ROAD, SOLID, NONE} <= set(alone[1].unique().tolist())

    # A teacher that was always right when it said building, whatever it said: rays have the last word.
    for counts, building in ((teacher.cells.named, 1e9), (teacher.cells.right, 1e9)):
        counts[:, BUILDING] = building
    teacher.cells.named += 1e6
    found = teacher.targets(batch)[1].numpy()
    np.testing.assert_array_equal(found == CLASSES.free, occupancy == 0)
    assert (found[occupancy == NONE] == BUILDING).all() and (occupancy == 0).any() and (occupancy == NONE).any()


def test_a_cell_of_an_unknown_class_teaches_the_geometry_alone():
    rng = torch.Generator().manual_seed(0)
    logits = torch.randn((1, 20, 4, 4, 2), generator=rng)
    target = torch.randint(0, 20, (1, 4, 4, 2), generator=rng).to(torch.uint8)
    weights = Weights(torch.ones(20), torch.rand(20, generator=rng) + 0.5, torch.ones(2), CLASSES.free)
    whole = pseudo_label_loss(logits, target, weights)
    torch.testing.assert_close(whole, occupancy_loss(logits, target, weights.voxels, CLASSES.free))
    target[0, 0, 0] = torch.tensor([SOLID, NONE])
    moved = logits.clone().requires_grad_()
    pseudo_label_loss(moved, target, weights).backward()
    gradient = moved.grad[0, :, 0, 0]
    assert not gradient[:, 1].any()
    # All classes but free are pushed alike, relative to how likely they are.
    likely = logits[0, :, 0, 0, 0].softmax(0)
    pushed = gradient[1:, 0] / likely[1:]
    assert gradient[0, 0] > 0 and torch.allclose(pushed, pushed[:1].expand(19), rtol=1e-4)


def test_a_stopped_run_is_resumed_to_the_same_weights(tmp_path, labels):
    weights, log = trained(tmp_path / "whole", labels)
    terms = [float(row["voxel_pseudo_labels"]) for row in log]
    assert max(terms) > 0

    def interrupt(phase, step, losses):
        if step == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trained(tmp_path / "stopped", labels, hooks=TrainingHooks(interrupt))
    seen = []
    again, log_2 = trained(tmp_path / "stopped", labels, hooks=TrainingHooks(lambda phase, step, losses: seen.append(step)))
    assert seen == [2] and all(torch.equal(weights[name], again[name]) for name in weights)
    assert [float(row["voxel_pseudo_labels"]) for row in log_2] == terms and terms[2] > 0


def test_pseudo_labels_teach_without_annotations_and_without_a_teacher(tmp_path, labels):
    values = {"ablate": ("semantic", "geometric", "annotations"), "self_training": None}
    config = CONFIG.model_copy(update=values | {"phase_steps": {"fusion": 2}})
    _, log = trained(tmp_path / "run", labels, config)
    assert [float(row["occupancy"]) for row in log] == [0, 0] and all(float(row["voxel_pseudo_labels"]) > 0 for row in log)


def test_frames_without_a_pose_have_no_targets(tmp_path, labels):
    samples = samples_of(labels)
    lost = samples.datasets[1]
    lost.pose = lambda i: None if i == 1 else np.eye(4)
    item = samples.index.index((1, 1))
    evidence = ScanEvidence(samples, tmp_path / CELLS, CELL_CONFIG, ALONE)
    assert (evidence(item) == NONE).all() and (evidence(item - 1) != NONE).any()


def test_a_teacher_needs_annotations():
    with pytest.raises(ValueError, match="teacher is calibrated on annotations"):
        OccleRecipeConfig(voxel_pseudo_labels={}, self_training={}, ablate=("annotations",))
    with pytest.raises(ValueError, match=r"set recipe\.voxel_pseudo_labels as well"):
        OccleRecipeConfig(self_training={})
