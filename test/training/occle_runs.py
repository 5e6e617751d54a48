# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Trainings of OccLE in rooms that are driven through: what the tests of it share."""

import numpy as np
import torch
from occle_train.occle.fit import fit_occle
from occle_train.occle.phases import OccleRecipeConfig
from occle_train.occle.samples import OccleSamples
from rooms import GRID, Rooms

from occle_core.bundle import spec_for
from occle_core.networks.occle.config import tiny as occle_tiny

SCENES = ("a", "b", "c", "d")
NETWORK = occle_tiny(frames=2)
STEPS = {"semantic": 3, "teacher": 3, "student": 3, "fusion": 3}
CONFIG = OccleRecipeConfig(
    annotated_fraction=0.25,
    batch_size=2,
    learning_rate=1e-2,
    min_annotated_fraction=0.5,
    confidence_threshold=0.5,
    phase_steps=STEPS,
    checkpoint_every=2,
)


class Drive(Rooms):
    """Rooms that the sensors move through; `nonsense` names the frames whose voxel truth is another one."""

    def __init__(self, name, nonsense=()):
        super().__init__(name, 4)
        self.nonsense, self.opened = set(nonsense), set()

    def pose(self, i):
        T = np.eye(4)
        T[0, 3] = 0.7 * i
        return T

    def truth(self, i, grid):
        self.opened.add(i)
        if i in self.nonsense:
            return np.random.default_rng(1).integers(0, 20, grid.shape).astype(np.uint8)
        return super().truth(i, grid)


def samples_of(labels, config=CONFIG, drives=None, network=NETWORK):
    return OccleSamples(drives or [Drive(name) for name in SCENES], GRID, network, config, labels)


def spec():
    return spec_for(NETWORK, GRID, "semantickitti", "rooms")


def trained(folder, samples, config=CONFIG, **more):
    torch.set_num_threads(1)
    return fit_occle(spec(), samples, config, folder, **more).state_dict()


def losses_of(folder):
    lines = {file.parent.name: file.read_text().splitlines() for file in folder.glob("*/log.csv")}
    return {phase: [line.rsplit(",", 4)[0] for line in found] for phase, found in lines.items()}  # without the times and the memory
