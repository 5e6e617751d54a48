# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Semantic self-training in 3D: targets of unlabelled frames by a teacher's calibrated probabilities, lifted votes and rays.

The teacher is a running average of the student's weights (Tarvainen and Valpola, Mean teachers are better role models, 2017). It
knows cells that no scan reached, and classes that no pixel shows; what rays and points say of a cell has the last word.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from occle_core.config import Config
from occle_core.taxonomy import IGNORE
from occle_train.metrics.isotonic import isotonic

BINS = 20
"""Intervals of a probability in which cells are counted."""
KEPT = 0.98
"""Share of the counts that a batch leaves of those before it: the teacher changes, and about fifty batches are remembered."""


class SelfTrainingConfig(Config):
    """Settings of the semantic self-training."""

    start: float = Field(
        0.4, ge=0, le=1, description="share of the steps after which the averaged teacher teaches, once the warm start is over"
    )
    least_confidence: float = Field(
        0.8, gt=0, le=1, description="calibrated probability from which the teacher's class of a cell without a vote is taught"
    )
    vote_weight: float = Field(
        0.5, ge=0, description="weight of the class that points took from labelled pixels, beside the teacher's 1"
    )


class ClassCalibration(nn.Module):
    """Calibrated class probabilities: per class an isotonic curve of one class against the rest (Zadrozny and Elkan, 2002).

    The curves are of the labelled cells of the last batches. Counts are buffers, so that a checkpoint holds them.

    Args:
        num_classes: free included.
    """

    named: Tensor
    right: Tensor

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        for name in ("named", "right"):
            self.register_buffer(name, torch.zeros(num_classes, BINS, dtype=torch.float64))

    def add(self, probabilities: Tensor, truth: Tensor, total: Callable[[Tensor], Tensor]) -> None:
        """Count the cells of a batch.

        Args:
            probabilities: (N, C) by the teacher.
            truth: (N,) uint8 class ids, 255 unknown.
            total: adds a number up over all processes that train together.
        """
        known = truth != IGNORE
        probabilities, truth = probabilities[known], truth[known].long()
        classes = self.named.shape[0]
        cell = _bins(probabilities) + BINS * torch.arange(classes, device=truth.device)
        named = torch.bincount(cell.flatten(), minlength=classes * BINS)
        right = torch.bincount(cell.gather(1, truth[:, None]).flatten(), minlength=classes * BINS)
        counts = total(torch.stack([named, right]).double()).view(2, classes, BINS)
        for held, new in zip((self.named, self.right), counts):
            held.mul_(KEPT).add_(new)

    def forward(self, probabilities: Tensor) -> Tensor:
        """(N, C) calibrated; rows sum to 1, or to 0 where no class was ever right: so before the first count."""
        named, right = self.named.cpu().numpy(), self.right.cpu().numpy()
        curves = np.zeros(named.shape)
        for curve, count, correct in zip(curves, named, right):
            filled = np.flatnonzero(count)
            if len(filled):
                values = isotonic(correct[filled] / count[filled], count[filled])
                # An interval that no cell was in says what the one below it does.
                curve[:] = np.append(0.0, values)[np.searchsorted(filled, np.arange(BINS), side="right")]
        table = torch.from_numpy(curves).to(probabilities)
        found = table[torch.arange(len(table), device=table.device), _bins(probabilities)]
        return found / found.sum(1, keepdim=True).clamp(min=1e-12)


def teacher_targets(
    probabilities: Tensor, rows: Tensor, lifted: Tensor, occupancy: Tensor, free: int, config: SelfTrainingConfig
) -> tuple[Tensor, Tensor]:
    """Targets of frames without voxel labels.

    - Where accumulated rays passed, a cell is free, whatever the teacher says.
    - Where accumulated points lie, it is occupied: the teacher and the vote of the points name its class, the teacher alone only
      where it is sure.
    - Where neither is, a sure teacher says whether it is occupied, and by what.

    Args:
        probabilities: (R, C) calibrated, of each class.
        rows: (B, X, Y, Z) integer row of each cell in `probabilities`.
        lifted: (B, X, Y, Z) uint8 class ids that points took from pixels, 255 none.
        occupancy: (B, X, Y, Z) uint8: 1 points, 0 rays, 255 neither.
        free: id of the free class.
        config: see SelfTrainingConfig.

    Returns:
        the classes and the occupancy to learn, as `lifted` and `occupancy`.
    """
    classes, target = lifted.clone(), occupancy.clone()
    unknown = occupancy == IGNORE
    sure, winner = probabilities.max(1)
    winner = torch.where(sure >= config.least_confidence, winner, IGNORE).to(torch.uint8)
    said = winner[rows[unknown]]
    classes[unknown] = torch.where(said == free, IGNORE, said)
    target[unknown] = torch.where(said == IGNORE, IGNORE, (said != free).to(torch.uint8))

    occupied = occupancy == 1
    given = probabilities.index_fill(1, torch.tensor([free], device=probabilities.device), 0)
    given = (given / given.sum(1, keepdim=True).clamp(min=1e-12))[rows[occupied]]
    votes = lifted[occupied].long()
    voted = votes != IGNORE
    fused = given.clone()
    fused[voted] = fused[voted].scatter_add(1, votes[voted][:, None], fused.new_full((int(voted.sum()), 1), config.vote_weight))
    sure, winner = fused.max(1)
    classes[occupied] = torch.where(voted | (sure >= config.least_confidence), winner, IGNORE).to(torch.uint8)
    return classes, target


def _bins(probabilities: Tensor) -> Tensor:
    return (probabilities * BINS).long().clamp(0, BINS - 1)
