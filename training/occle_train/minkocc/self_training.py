# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Self-training of MinkOcc: the running average of the weights teaches the frames of a batch that have no voxel labels."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from occle_core.networks.minkocc.network import MinkOcc
from occle_core.taxonomy import IGNORE
from occle_train.data.samples import SOLID
from occle_train.data.self_training import CellTeacher, SelfTrainingConfig
from occle_train.losses.minkocc import Total
from occle_train.minkocc.batches import MinkOccBatch


class SelfTraining(nn.Module):
    """The teacher of a training; what it has counted is part of the checkpoint, its weights are the running average's.

    Args:
        teacher: the running average of the network that is trained.
        weights: (C,) class weights of what it teaches: of voxels and pixels, as it knows classes that no pixel shows.
        free: id of the free class.
        config: see SelfTrainingConfig.
    """

    weights: Tensor

    def __init__(self, teacher: MinkOcc, weights: Tensor, free: int, config: SelfTrainingConfig) -> None:
        super().__init__()
        self._teacher = [teacher.eval()]  # in a list: its weights are the average's, and not saved twice
        self.register_buffer("weights", weights, persistent=False)
        self.cells = CellTeacher(len(weights), free, config)

    @torch.no_grad()
    def targets(self, batch: MinkOccBatch, total: Total) -> MinkOccBatch:
        """The batch with classes and occupancy by the teacher in frames without voxel labels; labelled frames calibrate it.

        Args:
            batch: as the student sees it, augmented.
            total: see `occle_train.losses.minkocc.supervised_loss`.
        """
        probabilities, rows = self._predicted(batch)
        evidence = torch.full_like(batch.labels, IGNORE) if batch.evidence is None else batch.evidence
        free = self.cells.free
        occupancy = torch.where(evidence == IGNORE, IGNORE, (evidence != free).to(torch.uint8))
        votes = torch.where((evidence == SOLID) | (evidence == free), IGNORE, evidence)
        measured = (evidence != IGNORE).flatten(1).any(1)  # a labelled frame whose scans were accumulated
        truth = torch.where(measured[:, None, None, None], batch.labels, IGNORE)
        self.cells.count(probabilities, rows, votes, occupancy, truth, total)

        unlabelled = (batch.labels == IGNORE).flatten(1).all(1)
        lifted, occupancy = batch.lifted.clone(), batch.occupancy.clone()
        given = lifted[unlabelled], occupancy[unlabelled]
        lifted[unlabelled], occupancy[unlabelled] = self.cells.targets(probabilities, rows[unlabelled], *given)
        return replace(batch, lifted=lifted, occupancy=occupancy)

    def _predicted(self, batch: MinkOccBatch) -> tuple[Tensor, Tensor]:
        """(R, C) class probabilities, and (B, X, Y, Z) the row of each cell: the last one, free for sure, is of pruned cells."""
        classes = self._teacher[0](batch.inputs).classes
        probabilities = classes.features.float().softmax(1)
        pruned = torch.eye(probabilities.shape[1], device=probabilities.device)[self.cells.free : self.cells.free + 1]
        rows = torch.arange(len(probabilities), device=pruned.device)
        return torch.cat([probabilities, pruned]), classes.coordinates.volume(rows, len(probabilities))
