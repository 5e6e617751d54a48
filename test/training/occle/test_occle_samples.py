# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""OccLE's training frames: which of them a phase draws, and what they are annotated with."""

import numpy as np
import pytest
import torch
from occle_runs import CONFIG, NETWORK, SCENES, Drive, samples_of
from occle_train.data.accumulate import accumulate
from occle_train.occle.batches import PhaseBatches, PhaseSampler, annotated_share, steps_of
from rooms import BUILDING, GRID, ROAD, label_folder

from occle_core.datasets import DatasetError
from occle_core.networks.occle.config import tiny as occle_tiny
from occle_core.networks.occle.inputs import prepare


@pytest.fixture(scope="module")
def labels(tmp_path_factory):
    return label_folder(tmp_path_factory.mktemp("labels"), [Drive(name) for name in SCENES])


def test_points_outside_the_present_grid_do_not_matter(labels):
    """What is cut away beforehand is what the inputs leave out anyway, also of the frame before, whose grid lay elsewhere."""
    samples = samples_of(labels)
    drive = samples.datasets[1]
    frames, poses = samples.frames(6)
    whole = prepare([drive.frame(2), drive.frame(1)], [drive.pose(2), drive.pose(1)], GRID, NETWORK)
    cut = prepare(frames, poses, GRID, NETWORK)
    assert len(frames) == 2 and len(frames[1].points) < len(drive.points(1))
    for one, other in zip(whole.scans, cut.scans):
        assert all(torch.equal(a, b) for a, b in zip(vars(one).values(), vars(other).values()))
    assert torch.equal(whole.images, cut.images) and torch.equal(whole.projections, cut.projections)
    assert len(samples.frames(4)[0]) == 1  # a sequence's first frame has no history


def test_which_frames_a_phase_draws(labels):
    samples = samples_of(labels)
    annotated = set(samples.annotated)

    def pick_pool(phase, config=CONFIG):
        return [items for _, items in PhaseSampler(samples, phase, config, 0, 64)]

    assert {item for items in pick_pool("teacher") for item in items} == annotated
    for phase in ("student", "fusion"):
        assert all(items[1] in annotated for items in pick_pool(phase))
        assert {items[0] for items in pick_pool(phase)} == set(range(16))
    assert sorted(item for items in pick_pool("semantic")[:8] for item in items) == list(range(16))
    paper = CONFIG.model_copy(update={"min_annotated_fraction": 0.0})
    assert sorted(item for items in pick_pool("fusion", paper)[:8] for item in items) == list(range(16))
    alone = CONFIG.model_copy(update={"ablate": ("semantic", "geometric", "projection")})
    assert {item for items in pick_pool("fusion", alone) for item in items} == annotated
    blind = CONFIG.model_copy(update={"ablate": ("semantic", "geometric", "annotations")})
    assert annotated_share("fusion", blind) == 0
    late = PhaseSampler(samples, "student", CONFIG, 60, 64)
    assert [items for _, items in late] == pick_pool("student")[60:] and len(late) == 4


def test_passes_are_counted_over_the_frames_that_a_phase_draws(labels):
    samples = samples_of(labels)
    config = CONFIG.model_copy(update={"phase_steps": {}, "epochs": 3, "teacher_epochs": 5})
    assert [steps_of(samples, phase, config) for phase in ("semantic", "teacher", "student", "fusion")] == [24, 10, 24, 24]


def test_a_batch_is_the_same_whenever_it_is_made_and_disturbed_in_phase_two_only(labels):
    samples = samples_of(labels)
    undisturbed = prepare(*samples.frames(5), GRID, NETWORK)
    for phase, disturbed in (("semantic", False), ("teacher", True), ("student", True), ("fusion", False)):
        batches = PhaseBatches(samples, phase, CONFIG, (lambda item: samples.truth(item)) if phase == "student" else None)
        one, two = batches[7, [5, 2]], batches[7, [5, 2]]
        assert torch.equal(one.inputs.images, two.inputs.images) and torch.equal(
            one.inputs.scans[0].points, two.inputs.scans[0].points
        )
        assert torch.equal(one.inputs.images[0], undisturbed.images[0]) != disturbed
        assert (one.teacher_labels is not None) == (phase == "student")
        assert one.labels.shape == (2, 1, 32, 64) and one.truth.shape == (2, *GRID.shape)


def test_annotations_can_be_accumulated_from_labelled_scans(labels):
    drive = Drive("a")
    drive.has_truth = lambda i: False
    drive.moving = lambda i: np.zeros(len(drive.points(i)), np.bool_)
    drive.point_labels = lambda i: drive.world(i)[tuple(GRID.index(drive.points(i))[0].T)]
    samples = samples_of(labels, CONFIG.model_copy(update={"truth": "accumulated"}), [drive])
    (item,) = samples.annotated
    truth = samples.truth(item).numpy()
    np.testing.assert_array_equal(truth, accumulate(drive, item, GRID, before=4, after=4))
    assert {0, ROAD, BUILDING, 255} <= set(np.unique(truth)) and not drive.opened
    unannotated = next(other for other in range(len(samples)) if other != item)
    assert (samples.truth(unannotated) == 255).all()
    pose = drive.pose
    drive.pose = lambda i: pose(i) if i < 3 else None
    every = CONFIG.model_copy(update={"truth": "accumulated", "annotated_fraction": 1.0})
    assert samples_of(labels, every, [drive]).annotated == [0, 1, 2]


def test_cells_that_no_camera_saw_are_unknown(labels):
    drive = Drive("a")
    seen = np.zeros(GRID.shape, np.bool_)
    seen[:10] = True
    drive.masks = lambda i: {"camera": seen, "lidar": np.ones_like(seen)}
    samples = samples_of(labels, drives=[drive])
    (item,) = samples.annotated
    truth = samples.truth(item).numpy()
    assert (truth[10:] == 255).all() and (truth[:10] == drive.world(item)[:10]).all()


def test_what_is_missing_is_said(labels):
    blind = Drive("a")
    blind.has_truth = lambda i: False
    with pytest.raises(DatasetError, match="no frame of a has a voxel truth"):
        samples_of(labels, drives=[blind])
    lost = Drive("a")
    lost.pose = lambda i: None
    with pytest.raises(DatasetError, match="no poses, which a network of 2 frames needs"):
        samples_of(labels, drives=[lost])
    assert len(samples_of(labels, drives=[lost], network=occle_tiny(frames=1)).frames(2)[0]) == 1
    with pytest.raises(DatasetError, match="no labels of new, frame 0"):
        samples_of(labels, drives=[Drive("new")]).pixels(0)


def test_every_nth_frame_is_trained_on_and_the_others_are_history(labels):
    samples = samples_of(labels, CONFIG.model_copy(update={"frame_interval": 3, "annotated_fraction": 0.5}))
    assert samples.index[:4] == [(0, 0), (0, 3), (1, 0), (1, 3)] and len(samples.annotated) == 4
    frames, _ = samples.frames(1)
    assert [frame.stamp for frame in frames] == [3, 2]
