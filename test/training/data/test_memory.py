# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Training and reading do not grow: what is kept has a limit, and nothing else is kept."""

import gc
from pathlib import Path

import numpy as np
import torch
from occle_train.data.samples import FrameCache, Samples
from occle_train.loop.steps import TrainingHooks
from occle_train.minkocc.config import FitConfig
from occle_train.minkocc.fit import fit
from occle_train.minkocc.recipe import RecipeSamples
from rooms import GRID, NETWORK, RECIPE, Rooms, label_folder, spec


def resident():
    """Bytes of this process in memory."""
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def test_what_is_kept_stays_under_its_limit():
    memory, made = FrameCache(10_000), []

    def make():
        made.append(1)
        return np.zeros(4000, np.uint8)

    for _ in range(3):
        for key in range(5):
            memory.get((key,), make)
    # Two fit; the other three are made each time.
    assert len(made) == 2 + 3 * 3


def test_frames_that_do_not_fit_are_read_each_time():
    rooms = Rooms("a")
    for memory, reads in ((1.0, 3), (0.0, 6)):
        rooms.read = 0
        samples = Samples([rooms], GRID, NETWORK, memory)
        for _ in range(2):
            for item in range(3):
                samples.sample(item)
        assert rooms.read == reads


def test_memory_is_flat_over_an_epoch(tmp_path):
    torch.set_num_threads(1)
    recipe = RECIPE.model_copy(update={"warmup_fraction": 0.2, "switch_steps": 0})
    rooms = [Rooms(name) for name in "ab"]
    samples = RecipeSamples(rooms, GRID, NETWORK, recipe, label_folder(tmp_path / "labels", rooms), tmp_path / "cache", memory=0)
    config = FitConfig(steps=30, warmup_steps=1, batch_size=1, recipe=recipe)
    seen = []
    fit(spec(), samples, config, tmp_path / "fit", hooks=TrainingHooks(lambda *step: seen.append(resident())))
    # From the second epoch of weak targets (6 frames) on: three epochs more.
    early, late = np.median(seen[12:16]), np.median(seen[26:])
    assert late - early < 8 * 2**20, f"{(late - early) / 2**20:.1f} MiB in 13 steps"
