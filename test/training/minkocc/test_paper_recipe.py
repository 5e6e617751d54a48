# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""MinkOcc's recipe to the paper's letter, and the shipped configurations of both."""

import pytest
import yaml
from occle_train import configs
from occle_train.loop.steps import TrainingHooks
from occle_train.minkocc.config import FitConfig
from occle_train.minkocc.fit import load_head, make_trainer
from occle_train.minkocc.recipe_config import MinkOccRecipeConfig
from occle_train.minkocc.trainer import make_head
from recipe_runs import FIT, RECIPE, SCENES, labels_of, samples_of, trained
from rooms import Rooms, spec


@pytest.fixture(scope="module")
def labels(tmp_path_factory):
    return labels_of(tmp_path_factory.mktemp("labels"))


@pytest.mark.parametrize("kind", ["", "_paper"])
def test_the_shipped_configurations_are_valid_and_differ_in_alpha(kind):
    files = [configs.find_config(f"minkocc_{share}{kind}") for share in (0, 10, 100)]
    settings = [FitConfig.model_validate(yaml.safe_load(file.read_text())) for file in files]
    assert [config.recipe.alpha for config in settings] == [0.0, 0.1, 1.0]
    # At 100 % the paper keeps the voxel labels, and at 0 % features would leave the class head unsupervised.
    assert [config.recipe.keep_voxel_labels for config in settings] == ([False, False, True] if kind else [True] * 3)
    assert [config.recipe.sphere_values for config in settings] == (
        ["classes", "features", "features"] if kind else ["classes"] * 3
    )
    alike = {"alpha": 0, "keep_voxel_labels": True, "sphere_values": "classes"}
    same = [c.model_copy(update={"recipe": c.recipe.model_copy(update=alike)}) for c in settings]
    assert same[0] == same[1] == same[2]
    # 28,130 frames, 30 epochs, batches of two (Sec. V).
    assert settings[1].for_frames(28130).steps == 421950


PAPER = {"sphere_values": "features", "sphere_cells": "predicted", "sunken_spheres": False, "unshaded_share": 0.0} | {
    "pixel_class_weights": False,
    "free_space_weight": 0.0,
    "keep_voxel_labels": False,
    "label_unit": "frame",
}


def test_the_papers_recipe_trains_the_renderer_and_leaves_the_class_head_alone_after_the_warm_start(tmp_path, labels):
    recipe = RECIPE.model_copy(update=PAPER)
    config = FIT.model_copy(update={"recipe": recipe, "ema_decay": 0.0, "class_balance_beta": 0.9, "weight_decay": 0.0})
    samples = samples_of(tmp_path, labels, recipe)
    seen = {}

    def on_progress(phase, step, losses):
        seen[step] = losses

    trained(tmp_path / "fit", samples, config, hooks=TrainingHooks(on_progress))
    assert [seen[step]["pseudo"] > 0 for step in range(8)] == [False] * 4 + [True] * 4
    assert [seen[step]["semantic"] > 0 for step in range(8)] == [True] * 4 + [False] * 4
    head = load_head(spec(), config, tmp_path / "fit")
    assert head.channels == 8 and head.shape.in_features == 8 and head.shader.head.out_channels == 20


def test_nothing_is_called_free_where_no_label_names_free_cells(tmp_path, labels):
    """The paper's alpha = 0: pruning alone says what is empty. Kept through training, weight decay included."""
    recipe = RECIPE.model_copy(update=PAPER | {"alpha": 0.0, "sphere_values": "classes"})
    config = FIT.model_copy(update={"recipe": recipe, "steps": 3})
    weights, _ = trained(tmp_path / "fit", samples_of(tmp_path, labels, recipe), config)
    assert not weights["head.weight"][0].any() and -30 <= float(weights["head.bias"][0]) < -29
    assert weights["head.weight"][1:].any(1).all() and not make_head(spec(), config).shows_free
    for values in ({"alpha": 0.25}, {"free_space_weight": 1.0}):  # labels, rays
        named = config.model_copy(update={"recipe": recipe.model_copy(update=values)})
        assert named.teaches_free and make_head(spec(), named).shows_free
    trainer = make_trainer(spec(), samples_of(tmp_path, labels, named.recipe), named, "cpu", None)
    assert trainer.network.head.weight[0].any() and FitConfig().teaches_free


def test_alpha_may_be_a_share_of_the_frames(tmp_path, labels):
    recipe = RECIPE.model_copy(update={"label_unit": "frame"})
    rooms = [Rooms(name) for name in SCENES]
    samples = samples_of(tmp_path, labels, recipe, rooms)
    assert len(samples) == 12 and len(samples.warm) == 3  # a quarter of the frames
    named = {f"{SCENES[number]}/{i}" for number, i in (samples.index[item] for item in samples.warm)}
    assert named == samples.drawn and len({name[0] for name in named}) > 1
    assert samples.provenance()["voxel_labels"]["which"] == sorted(named)
    rest = next(item for item in range(12) if item not in samples.warm)
    with pytest.raises(ValueError, match="must not be used"):
        samples.truth(rest)
    # A frame that was not drawn has weak targets, though its scene's neighbour is labelled.
    assert samples.sample(samples.warm[0], "weak").labelled and not samples.sample(rest, "weak").labelled
    for item in range(12):
        samples.sample(item, "weak")
    assert sum(room.read for room in rooms) == 3


def test_features_need_the_loss_behind_the_shader():
    with pytest.raises(ValueError, match=r"recipe.unshaded_share: 0"):
        MinkOccRecipeConfig(sphere_values="features")
