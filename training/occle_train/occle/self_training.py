# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""What phase III learns of the voxels of frames without annotation: 3D pseudo-labels, and where wanted an averaged teacher."""

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


class OccleSelfTrainingConfig(SelfTrainingConfig):
    """Settings of the semantic self-training of phase III."""

    ema_decay: float = Field(0.998, ge=0, lt=1, description="largest decay of the teacher, the running average of the weights")


def evidence_targets(batch: OccleBatch, free: int) -> Tensor:
    """(B, X, Y, Z) uint8 class ids of frames without annotation by scans and votes alone; SOLID: occupied, of no known class.

    Annotated frames, frames without evidence and cells that neither points nor rays reached are 255.
    """
    if batch.evidence is None:
        return torch.full_like(batch.truth, IGNORE)
    occupancy, classes = batch.evidence.unbind(1)
    return torch.where(_unannotated(batch), _targets(classes, occupancy, free), IGNORE)


def _targets(classes: Tensor, occupied: Tensor, free: int) -> Tensor:
    named = torch.where((occupied == 1) & (classes == IGNORE), SOLID, classes)
    return torch.where(occupied == 0, free, named).to(torch.uint8)


def _unannotated(batch: OccleBatch) -> Tensor:
    """(B, 1, 1, 1) whether a frame has no annotation."""
    return (batch.truth == IGNORE).flatten(1).all(1)[:, None, None, None]


class SelfTraining(nn.Module):
    """The teacher of phase III: the averaged weights and what they were found to be worth, both part of the checkpoint.

    Args:
        network: which is trained, at the phase's begin.
        num_classes: free included.
        free: id of the free class.
        config: see OccleSelfTrainingConfig.
        first_step: the step from which the teacher teaches.
    """

    def __init__(self, network: OccLE, num_classes: int, free: int, config: OccleSelfTrainingConfig, first_step: int) -> None:
        super().__init__()
        self.first_step = first_step
        self.average = running_average(network, config.ema_decay)
        self.average.eval()
        self.cells = CellTeacher(num_classes, free, config)

    @torch.no_grad()
    def targets(self, batch: OccleBatch, group: ProcessGroup = ALONE) -> Tensor:
        """`evidence_targets`, and from the first step on what the teacher adds to them; annotated frames calibrate it."""
        target = evidence_targets(batch, self.cells.free)
        if batch.evidence is None or int(self.average.n_averaged) < self.first_step:
            return target
        occupancy, lifted = batch.evidence.unbind(1)
        logits = self.average(batch.inputs).float()
        probabilities = logits.softmax(1).movedim(1, -1).flatten(0, -2)
        rows = torch.arange(len(probabilities), device=target.device).view(target.shape)
        measured = (occupancy != IGNORE).flatten(1).any(1)
        truth = torch.where(measured[:, None, None, None], batch.truth, IGNORE)
        self.cells.count(probabilities, rows, lifted, occupancy, truth, group.total)

        unannotated = measured & _unannotated(batch).flatten()
        classes, occupied = self.cells.targets(probabilities, rows[unannotated], lifted[unannotated], occupancy[unannotated])
        target[unannotated] = _targets(classes, occupied, self.cells.free)
        return target

    def update(self, network: OccLE) -> None:
        """Follow the network after a step."""
        self.average.update_parameters(network)
