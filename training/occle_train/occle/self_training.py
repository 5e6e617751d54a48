# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Self-training of OccLE's fusion: the running average of the weights teaches the voxels of frames without annotation."""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor, nn

from occle_core.networks.occle.network import OccLE
from occle_core.taxonomy import IGNORE
from occle_train.data.samples import SOLID
from occle_train.data.self_training import CellTeacher, SelfTrainingConfig
from occle_train.loop.running_average import running_average
from occle_train.occle.objectives import OccleBatch
from occle_train.process_group import ALONE, ProcessGroup
from occle_train.pseudo_labels.cell_folder import CellConfig


class OccleSelfTrainingConfig(SelfTrainingConfig):
    """Settings of the semantic self-training of phase III."""

    ema_decay: float = Field(0.998, ge=0, lt=1, description="largest decay of the teacher, the running average of the weights")
    cells: CellConfig = Field(CellConfig(), description="of the scans whose points vote and whose rays keep cells free")


class SelfTraining(nn.Module):
    """The teacher of phase III: the averaged weights and what they were found to be worth, both part of the checkpoint.

    Args:
        network: which is trained, at the phase's begin.
        num_classes: free included.
        free: id of the free class.
        config: see OccleSelfTrainingConfig.
    """

    def __init__(self, network: OccLE, num_classes: int, free: int, config: OccleSelfTrainingConfig) -> None:
        super().__init__()
        self.average = running_average(network, config.ema_decay)
        self.average.eval()
        self.cells = CellTeacher(num_classes, free, config)

    @torch.no_grad()
    def targets(self, batch: OccleBatch, group: ProcessGroup = ALONE) -> Tensor:
        """(B, X, Y, Z) uint8 class ids for frames without annotation; annotated frames, all 255 here, calibrate the teacher.

        SOLID stands for an occupied cell whose class neither points nor teacher are sure of. Everything is 255 before the teacher
        teaches: where the batch has no evidence.
        """
        target = torch.full_like(batch.truth, IGNORE)
        if batch.evidence is None:
            return target
        occupancy, lifted = batch.evidence.unbind(1)
        logits = self.average(batch.inputs).float()
        probabilities = logits.softmax(1).movedim(1, -1).flatten(0, -2)
        rows = torch.arange(len(probabilities), device=target.device).view(target.shape)
        measured = (occupancy != IGNORE).flatten(1).any(1)
        truth = torch.where(measured[:, None, None, None], batch.truth, IGNORE)
        self.cells.count(probabilities, rows, lifted, occupancy, truth, group.total)

        unannotated = measured & (batch.truth == IGNORE).flatten(1).all(1)
        classes, occupied = self.cells.targets(probabilities, rows[unannotated], lifted[unannotated], occupancy[unannotated])
        named = torch.where((occupied == 1) & (classes == IGNORE), SOLID, classes)
        target[unannotated] = torch.where(occupied == 0, self.cells.free, named).to(torch.uint8)
        return target

    def update(self, network: OccLE) -> None:
        """Follow the network after a step."""
        self.average.update_parameters(network)
