# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Weak targets that are made before a training are those that its loaders would make."""

from occle_train.minkocc.recipe import RecipeSamples
from occle_train.minkocc.weak_targets import write_weak_targets
from rooms import GRID, NETWORK, RECIPE, Rooms, label_folder


def samples_of(cache, labels, **more):
    recipe = RECIPE.model_copy(update=more)
    return RecipeSamples([Rooms(name) for name in "ab"], GRID, NETWORK, recipe, labels, cache, memory=0)


def test_targets_made_beforehand_are_those_of_the_loaders(tmp_path):
    labels = label_folder(tmp_path / "labels", [Rooms(name) for name in "ab"])
    made, loaders = (samples_of(tmp_path / name, labels) for name in ("made", "loaders"))
    weak = made.weak_items()
    assert weak == [item for item in range(6) if item not in made.warm] and len(weak) == 3
    counts = []
    assert write_weak_targets(made, counts.append) == (3, 0) and sum(counts) == 3
    made.target_file(weak[1]).unlink()
    assert write_weak_targets(made) == (1, 2)
    for item in weak:
        loaders.weak_target(item)
        assert made.target_file(item).read_bytes() == loaders.target_file(item).read_bytes()
    # The labelled scenes' frames have targets too where their voxel labels are dropped; targets are shared.
    assert write_weak_targets(samples_of(tmp_path / "made", labels, keep_voxel_labels=False)) == (3, 3)
