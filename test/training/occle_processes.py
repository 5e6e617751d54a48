# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""OccLE's training process for test_process_group: `python occle_processes.py OUT LABELS`; under torchrun it is one of several."""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from occle_train.occle.fit import fit_occle
from occle_train.occle.phases import OccleRecipeConfig
from occle_train.occle.samples import OccleSamples
from occle_train.occle.self_training import OccleSelfTrainingConfig
from occle_train.process_group import join_process_group
from occle_train.pseudo_labels.cell_folder import CellConfig
from rooms import GRID, Rooms, label_folder

from occle_core.bundle import spec_for
from occle_core.networks.occle.config import tiny


def main(out: Path, labels: Path) -> None:
    torch.set_num_threads(1)
    config = OccleRecipeConfig(
        annotated_fraction=0.5,
        batch_size=2,
        learning_rate=1e-3,
        min_annotated_fraction=0.5,
        confidence_threshold=0.5,
        phase_steps={"semantic": 3, "teacher": 3, "student": 3, "fusion": 3},
        checkpoint_every=2,
        voxel_pseudo_labels=CellConfig(past_scans=1, future_scans=1),
        self_training=OccleSelfTrainingConfig(start=0.3, least_confidence=0.5),
    )
    network, rooms = tiny(), [Rooms(name) for name in "abcd"]
    with join_process_group("cpu") as (group, device):
        folder = label_folder(labels / str(group.rank), rooms)
        samples = OccleSamples(rooms, GRID, network, config, folder)
        trained = fit_occle(spec_for(network, GRID, "semantickitti", "rooms"), samples, config, out, device, group=group)
    torch.save(trained.state_dict(), out / f"weights{group.rank}.pt")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
