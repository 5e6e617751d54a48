# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""The recipe: who is labelled, what is read, what each phase trains on, and that a stopped run is resumed to the same curve."""

import csv

import cv2
import numpy as np
import pytest
import torch
from occle_train.data.augment import AugmentConfig
from occle_train.data.samples import SOLID
from occle_train.loop.sampling import BatchSampler
from occle_train.loop.steps import TrainingHooks
from occle_train.minkocc.batches import TrainingSet
from occle_train.minkocc.config import FitConfig
from occle_train.minkocc.fit import load_head
from occle_train.minkocc.recipe import RecipeSamples
from occle_train.minkocc.recipe_config import MinkOccRecipeConfig
from occle_train.process_group import ProcessGroup
from occle_train.pseudo_labels.lidar import accumulated_occupancy
from occle_train.pseudo_labels.lift import lifted_labels, point_labels
from recipe_runs import BEYOND, FIT, RECIPE, SCENES, STILL, labels_of, losses_of, samples_of, trained
from rooms import BUILDING, GRID, NETWORK, ROAD, Rooms, label_folder, spec

from occle_core.datasets import DatasetError


@pytest.fixture(scope="module")
def labels(tmp_path_factory):
    return labels_of(tmp_path_factory.mktemp("labels"))


@pytest.mark.parametrize("recipe", [RECIPE, BEYOND], ids=["paper", "beyond"])
def test_no_voxel_label_of_an_unlabelled_scene_influences_anything(tmp_path, labels, recipe):
    """Gradients, pruning targets, class weights: all weights of the network after training are equal to the bit."""
    config = FIT.model_copy(update={"recipe": recipe})
    plain = samples_of(tmp_path, labels, recipe)
    (drawn,) = plain.drawn
    weights, log = trained(tmp_path / "plain", plain, config)

    def nonsense(truth):
        return np.random.default_rng(1).integers(0, 20, truth.shape).astype(np.uint8)

    others = [Rooms(name, relabel=nonsense if name != drawn else lambda truth: truth) for name in SCENES]
    weights_2, log_2 = trained(tmp_path / "others", samples_of(tmp_path / "2", labels, recipe, others), config)
    assert losses_of(log) == losses_of(log_2)
    assert all(torch.equal(weights[name], weights_2[name]) for name in weights)
    assert {room.name for room in others if room.read} == {drawn}
    # The same change of the labelled scene is noticed: the comparison can fail.
    own = [Rooms(name, relabel=nonsense if name == drawn else lambda truth: truth) for name in SCENES]
    _, log_3 = trained(tmp_path / "own", samples_of(tmp_path / "3", labels, recipe, own), config)
    assert losses_of(log) != losses_of(log_3)


def test_without_labels_no_truth_is_opened(tmp_path, labels):
    recipe = RECIPE.model_copy(update={"alpha": 0.0})
    rooms = [Rooms(name) for name in SCENES]
    _, log = trained(tmp_path / "none", samples_of(tmp_path, labels, recipe, rooms), FIT.model_copy(update={"recipe": recipe}))
    assert not any(room.read for room in rooms)
    rows = list(csv.DictReader(log))
    assert all(float(row["semantic"]) == 0 and float(row["pseudo"]) > 0 and float(row["occupancy"]) > 0 for row in rows)
    samples = samples_of(tmp_path, labels, recipe, rooms)
    with pytest.raises(ValueError, match="must not be used"):
        samples.truth(0)


def test_targets_of_a_weak_frame_are_the_accumulated_scans_alone(tmp_path, labels):
    samples = samples_of(tmp_path, labels)
    config = FIT.model_copy(update={"augment": STILL})
    batches = TrainingSet(samples, GRID, NETWORK, config.sampling_plan, 0, ProcessGroup())
    weak = next(item for item in range(len(samples)) if item not in samples.warm)
    batch = batches[5, [weak, samples.warm[0]]]
    number, i = samples.index[weak]
    expected = accumulated_occupancy(samples.datasets[number], i, GRID, 2, moving="keep")
    np.testing.assert_array_equal(batch.occupancy[0].numpy(), expected)
    assert (batch.labels[0] == 255).all() and {0, 1, 255} == set(np.unique(expected).tolist())
    assert (batch.lifted == 255).all()
    world = samples.datasets[samples.index[samples.warm[0]][0]].world(0)
    np.testing.assert_array_equal(batch.labels[1].numpy(), world)
    np.testing.assert_array_equal(batch.occupancy[1].numpy(), world != 0)
    assert [view.frame for view in batch.views] == [0, 1]
    # What was kept on disk is what was computed, and belongs to these scans.
    codes = np.full(256, 255, np.uint8)
    codes[:2] = 0, SOLID  # the taxonomy's free class is 0
    np.testing.assert_array_equal(samples_of(tmp_path, labels).weak_target(weak), codes[expected])
    later = samples_of(tmp_path, labels, RECIPE.model_copy(update={"future_scans": 1})).weak_target(weak)
    np.testing.assert_array_equal(later, codes[accumulated_occupancy(samples.datasets[number], i, GRID, 2, 1, "keep")])
    assert (later != codes[expected]).any()


def test_lifted_classes_join_the_accumulated_occupancy(tmp_path, labels):
    samples = samples_of(tmp_path, labels, RECIPE.model_copy(update={"lift_weight": 1.0}))
    weak = next(item for item in range(len(samples)) if item not in samples.warm)
    number, i = samples.index[weak]
    data = samples.datasets[number]
    lifted = lifted_labels(data, i, GRID, lambda scan: point_labels(data, scan, labels), 2, moving="keep")
    assert set(np.unique(lifted).tolist()) == {ROAD, BUILDING, 255}
    plan = FIT.model_copy(update={"augment": STILL}).sampling_plan
    for _ in range(2):  # computed, and read from the cache
        batch = TrainingSet(samples, GRID, NETWORK, plan, 0, ProcessGroup())[5, [weak, samples.warm[0]]]
        np.testing.assert_array_equal(batch.occupancy[0].numpy(), accumulated_occupancy(data, i, GRID, 2, moving="keep"))
        np.testing.assert_array_equal(batch.lifted[0].numpy(), lifted)
        assert (batch.labels[0] == 255).all() and (batch.lifted[1] == 255).all() and (batch.labels[1] != 255).any()
        samples = samples_of(tmp_path, labels, RECIPE.model_copy(update={"lift_weight": 1.0}))
    # Other labels have a cache of their own.
    others = label_folder(tmp_path / "others", [Rooms(name) for name in SCENES])
    for file in (tmp_path / "others").glob("*/cam/0*.png"):
        if "confidence" not in file.name:
            cv2.imwrite(str(file), np.full((32, 64), ROAD, np.uint8))
    other = samples_of(tmp_path, others, RECIPE.model_copy(update={"lift_weight": 1.0})).weak_target(weak)
    assert set(np.unique(other).tolist()) == {0, ROAD, SOLID, 255}


def test_labelled_scenes_can_drop_their_voxels_after_the_warm_start_as_in_the_paper(tmp_path, labels):
    samples = samples_of(tmp_path, labels, RECIPE.model_copy(update={"keep_voxel_labels": False}))
    item = samples.warm[0]
    assert samples.sample(item, "labels").labelled and not samples.sample(item, "weak").labelled
    assert not samples.sample(item, "labels").views and len(samples.sample(item, "weak").views) == 1
    with pytest.raises(ValueError, match="no part in the warm start"):
        samples.sample(next(item for item in range(len(samples)) if item not in samples.warm), "labels")


def test_the_warm_start_sees_labelled_scenes_only_and_the_rest_all(tmp_path, labels):
    samples = samples_of(tmp_path, labels)
    plan = FIT.model_copy(update={"steps": 24}).sampling_plan
    steps = dict(BatchSampler(len(samples), plan, 0, samples.warm))
    assert plan.switch_step == 12
    early, late = ([item for step in part for item in steps[step]] for part in (range(12), range(12, 24)))
    assert set(early) == set(samples.warm) and len(samples.warm) == 3
    assert sorted(late) == sorted([*range(12), *range(12)])
    assert dict(BatchSampler(len(samples), plan, 15, samples.warm)) == {step: items for step, items in steps.items() if step >= 15}


def test_labelled_scenes_can_be_repeated_after_the_warm_start(tmp_path, labels):
    samples = samples_of(tmp_path, labels)
    recipe = RECIPE.model_copy(update={"min_labelled_fraction": 0.25})
    plan = FIT.model_copy(update={"steps": 60, "recipe": recipe}).sampling_plan
    late = [item for step, items in BatchSampler(len(samples), plan, 0, samples.warm) if step >= plan.switch_step for item in items]
    counts = np.bincount(late, minlength=len(samples))
    # A quarter of the places, and their share of the others: 60 places are 15 and 45 over twelve frames.
    assert plan.switch_step == 30 and len(late) == 60
    others = [item for item in range(len(samples)) if item not in samples.warm]
    assert abs(counts[samples.warm].sum() - (15 + 45 * 3 / 12)) <= 2 and counts[others].min() >= 3
    for without in ({"alpha": 0.0}, {"keep_voxel_labels": False}):  # there is nothing to repeat
        assert FIT.model_copy(update={"recipe": recipe.model_copy(update=without)}).sampling_plan.min_labelled_fraction == 0


@pytest.mark.parametrize(("recipe", "stop_at"), [(RECIPE, 2), (BEYOND, 6)])
def test_a_stopped_recipe_is_resumed_to_the_same_curve(tmp_path, labels, recipe, stop_at):
    config = FIT.model_copy(update={"recipe": recipe})
    weights, log = trained(tmp_path / "whole", samples_of(tmp_path, labels, recipe), config)

    class Stop(Exception):
        pass

    def stop(phase, step, losses):
        if step == stop_at + 1:
            raise Stop

    with pytest.raises(Stop):
        trained(tmp_path / "stopped", samples_of(tmp_path, labels, recipe), config, hooks=TrainingHooks(stop))
    again, log_2 = trained(tmp_path / "stopped", samples_of(tmp_path, labels, recipe), config)
    assert losses_of(log) == losses_of(log_2) and len(log) == 9
    assert all(torch.equal(weights[name], again[name]) for name in weights)
    heads = [load_head(spec(), FIT, tmp_path / name).state_dict() for name in ("whole", "stopped")]
    assert all(torch.equal(heads[0][name], heads[1][name]) for name in heads[0])
    assert heads[0]["shape.weight"].abs().sum() > 0


@pytest.mark.parametrize(("views", "lift"), [(1, 0.0), (1, 1.0), (0, 1.0)])
def test_it_learns_classes_from_images_alone(tmp_path, labels, views, lift):
    recipe = RECIPE.model_copy(update={"alpha": 0.0, "num_views": views, "lift_weight": lift})
    config = FIT.model_copy(
        update={"steps": 30, "recipe": recipe, "ema_decay": 0.9, "augment": AugmentConfig(camera_dropout_prob=0)}
    )
    _, log = trained(tmp_path / "fit", samples_of(tmp_path, labels, recipe), config)
    pseudo = [float(row["pseudo"]) for row in csv.DictReader(log)]
    assert np.mean(pseudo[-5:]) < 0.7 * np.mean(pseudo[:3])


def test_a_recipe_may_do_without_rendering_but_not_without_any_classes(tmp_path, labels):
    recipe = RECIPE.model_copy(update={"num_views": 0, "lift_weight": 1.0})
    samples = samples_of(tmp_path, labels, recipe)
    assert all(samples.sample(item, "weak").views == () for item in range(len(samples)))
    config = FIT.model_copy(update={"recipe": recipe})
    with pytest.raises(ValueError, match="has a renderer"):
        load_head(spec(), config, tmp_path)
    with pytest.raises(ValueError, match="no class is supervised"):
        MinkOccRecipeConfig(num_views=0)


def test_the_gradient_is_clipped_harder_just_after_the_switch():
    assert [FIT.grad_clip_at(step) for step in range(8)] == [5, 5, 5, 5, 1, 1, 5, 5]
    assert FitConfig(steps=8).grad_clip_at(4) == 5


def test_provenance_names_every_label_that_was_used(tmp_path, labels):
    samples = samples_of(tmp_path, labels)
    provenance = samples.provenance()
    assert provenance["voxel_labels"] == {"alpha": 0.25, "seed": 0, "scenes": sorted(samples.drawn), "frames": 3}
    assert provenance["pseudo_labels"] == {"by": "hand"}
    assert provenance["accumulation"] == {
        "past_scans": 2,
        "sweeps": 0,
        "future_scans": 0,
        "free_margin": 2,
        "moving_points": "keep",
        "lift_weight": 0.0,
    }


def test_what_is_missing_is_said(tmp_path, labels):
    weak = samples_of(tmp_path, None)
    with pytest.raises(DatasetError, match="occle-train label"):
        weak.sample(0, "weak")
    more = samples_of(tmp_path, labels, RECIPE.model_copy(update={"alpha": 0.0}), [Rooms("new")])
    with pytest.raises(DatasetError, match="no labels of new, frame 0"):
        more.sample(0, "weak")
    blind = Rooms("a")
    blind.has_truth = lambda i: False
    with pytest.raises(DatasetError, match="labelled scenes a has voxel truth"):
        samples_of(tmp_path, labels, RECIPE, [blind])
    with pytest.raises(DatasetError, match="no boxes"):
        samples_of(tmp_path / "x", labels, RECIPE.model_copy(update={"moving_points": "carry", "alpha": 0.0})).weak_target(0)


def test_free_space_and_pixel_weights_can_be_left_out(tmp_path, labels, monkeypatch):
    counts = np.ones(20, np.int64)
    counts[BUILDING] = 10**6
    monkeypatch.setattr(RecipeSamples, "pixel_counts", lambda self, classes: counts)
    logs = {}
    for name, more in {"ours": {}, "space": {"free_space_weight": 0.0}, "weights": {"pixel_class_weights": False}}.items():
        recipe = RECIPE.model_copy(update={"alpha": 0.0, **more})
        config = FIT.model_copy(update={"steps": 1, "recipe": recipe})
        _, log = trained(tmp_path / name, samples_of(tmp_path / f"{name}-s", labels, recipe), config)
        logs[name] = next(csv.DictReader(log))
    ours, space, weights = (logs[name] for name in ("ours", "space", "weights"))
    assert float(space["occupancy"]) < float(ours["occupancy"]) and space["pseudo"] == ours["pseudo"]
    assert weights["pseudo"] != ours["pseudo"] and weights["occupancy"] == ours["occupancy"]


def test_class_weights_count_labelled_frames_only(tmp_path, labels):
    samples = samples_of(tmp_path, labels)
    counts = samples.class_counts(20)
    assert counts.sum() == 3 * GRID.size
    worlds = [samples.datasets[number].world(i) for number, i in (samples.index[item] for item in samples.warm)]
    assert counts[BUILDING] == sum((world == BUILDING).sum() for world in worlds)


def test_pixel_weights_count_the_pseudo_labels_of_all_frames(tmp_path, labels):
    samples = samples_of(tmp_path, labels)
    counts = samples.pixel_counts(20)
    views = [view for item in range(len(samples)) for view in samples.views(item, samples.frame(item).cameras)]
    assert counts.tolist() == [sum(int((view.labels == number).sum()) for view in views) for number in range(20)]
    assert (counts > 0).sum() > 1 and samples_of(tmp_path, None).pixel_counts(20).sum() == 0
