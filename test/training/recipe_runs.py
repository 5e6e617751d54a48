# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Trainings of the recipe in rooms: what the tests of it share."""

import torch
from occle_train.data.augment import AugmentConfig
from occle_train.data.self_training import SelfTrainingConfig
from occle_train.minkocc.config import FitConfig
from occle_train.minkocc.fit import fit
from occle_train.minkocc.recipe import RecipeSamples
from rooms import GRID, NETWORK, Rooms, label_folder, spec
from rooms import RECIPE as ROOMS_RECIPE

SCENES = ("a", "b", "c", "d")
RECIPE = ROOMS_RECIPE.model_copy(update={"alpha": 0.25, "past_scans": 2, "switch_steps": 2})
BEYOND = RECIPE.model_copy(
    update={
        "lift_weight": 1.0,
        "pretraining_fraction": 0.25,
        "warmup_fraction": 0.25,
        "self_training": SelfTrainingConfig(start=0.5, least_confidence=0.3),
    }
)
"""All that the paper does not have: scans alone, then labels, then weak targets with a teacher."""
FIT = FitConfig(steps=8, warmup_steps=1, checkpoint_every=3, learning_rate=1e-2, batch_size=2, recipe=RECIPE)

STILL = AugmentConfig(flip_prob=0, rot90_prob=0)


def labels_of(folder):
    """Pseudo-labels of all rooms."""
    return label_folder(folder, [Rooms(name) for name in SCENES])


def samples_of(tmp_path, labels, recipe=RECIPE, rooms=None):
    rooms = [Rooms(name) for name in SCENES] if rooms is None else rooms
    return RecipeSamples(rooms, GRID, NETWORK, recipe, labels, tmp_path / "cache")


def trained(folder, samples, config=FIT, **more):
    torch.set_num_threads(1)
    network = fit(spec(), samples, config, folder, **more)
    return network.state_dict(), (folder / "log.csv").read_text().splitlines()


def losses_of(lines):
    return [line.rsplit(",", 4)[0] for line in lines]  # without the times and the memory
