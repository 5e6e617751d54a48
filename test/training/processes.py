# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""A training process for test_process_group: `python processes.py OUT LABELS`; under torchrun it is one of several."""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from occle_train.minkocc.config import FitConfig
from occle_train.minkocc.fit import fit
from occle_train.minkocc.recipe import RecipeSamples
from occle_train.process_group import join_process_group
from rooms import GRID, NETWORK, RECIPE, Rooms, label_folder, spec


def main(out: Path, labels: Path) -> None:
    torch.set_num_threads(1)
    recipe = RECIPE.model_copy(update={"switch_steps": 1})
    config = FitConfig(steps=6, warmup_steps=1, checkpoint_every=3, learning_rate=1e-3, batch_size=2, recipe=recipe)
    rooms = [Rooms(name) for name in "ab"]
    with join_process_group("cpu") as (group, device):
        folder = label_folder(labels / str(group.rank), rooms)
        samples = RecipeSamples(rooms, GRID, NETWORK, recipe, folder, out / "cache" / str(group.rank))
        network = fit(spec(), samples, config, out, device, group=group)
    torch.save(network.state_dict(), out / f"weights{group.rank}.pt")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
