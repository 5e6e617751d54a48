# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Semantic self-training in 3D: targets of unlabelled frames by a teacher's calibrated probabilities, lifted votes and rays.

The teacher is a running average of the student's weights (Tarvainen and Valpola, Mean teachers are better role models, 2017). It
knows cells that no scan reached, and classes that no pixel shows; what rays and points say of a cell has the last word.
"""

from __future__ import annotations

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from occle_core.config import Config
from occle_core.taxonomy import IGNORE
from occle_train.losses.minkocc import Total
from occle_train.metrics.isotonic import isotonic

BINS = 20
"""Intervals of a probability in which cells are counted."""
KEPT = 0.98
"""Share of the counts that a batch leaves of those before it: the teacher changes, and about fifty batches are remembered."""
LEAST_CELLS = 20
"""Labelled cells of a class from which the teacher may overrule votes for it."""
POINTS, NEITHER = 0, 1
"""Cells with accumulated points, and those that neither points nor rays reached: they are calibrated apart."""


class SelfTrainingConfig(Config):
    """Settings of the semantic self-training."""

    start: float = Field(
        0.4, ge=0, le=1, description="share of the steps after which the averaged teacher teaches, once the warm start is over"
    )
    least_confidence: float = Field(
        0.8,
        gt=0,
        le=1,
        description="calibrated probability from which a class becomes the target where no vote is, and from which teacher "
        "and vote together overrule the vote",
    )

    def first_step(self, steps: int) -> int:
        """The first of `steps` steps in which the teacher may teach."""
        return round(self.start * steps)


class CellTeacher(nn.Module):
    """Targets by a teacher's probabilities; labelled cells of the last batches show what these, and votes, are worth.

    Probabilities are calibrated by an isotonic curve per class, one class against the rest (Zadrozny and Elkan, 2002). A vote is
    a measurement of the class: how often cells of a class get it, is counted, and Bayes' rule fuses the two. Counts are buffers,
    so that a checkpoint holds them.

    Args:
        num_classes: free included.
        free: id of the free class.
        config: see SelfTrainingConfig.
    """

    named: Tensor
    right: Tensor
    votes: Tensor

    def __init__(self, num_classes: int, free: int, config: SelfTrainingConfig) -> None:
        super().__init__()
        self.free, self.config = free, config
        for name, shape in (("named", (2, num_classes, BINS)), ("right", (2, num_classes, BINS)), ("votes", (num_classes,) * 2)):
            self.register_buffer(name, torch.zeros(shape, dtype=torch.float64))

    def count(
        self,
        probabilities: Tensor,
        rows: Tensor,
        lifted: Tensor,
        occupancy: Tensor,
        truth: Tensor,
        total: Total,
    ) -> None:
        """Count the labelled cells of a batch.

        Args:
            probabilities, rows, lifted, occupancy: see `targets`.
            truth: (B, X, Y, Z) uint8 class ids, 255 unknown.
            total: adds numbers up over all processes that train together.
        """
        classes = len(self.votes)
        known = truth != IGNORE
        voted = known & (lifted != IGNORE)
        counts = [torch.bincount(lifted[voted].long() * classes + truth[voted].long(), minlength=classes**2)]
        for state in (occupancy == 1, occupancy == IGNORE):
            cells = known & state
            bins = _bins(probabilities)[rows[cells]] + BINS * torch.arange(classes, device=truth.device)
            counts.append(torch.bincount(bins.flatten(), minlength=classes * BINS))
            counts.append(torch.bincount(bins.gather(1, truth[cells].long()[:, None]).flatten(), minlength=classes * BINS))
        votes, *curves = torch.split(total(torch.cat(counts).double()), [len(part) for part in counts])
        self.votes.mul_(KEPT).add_(votes.view_as(self.votes))
        for held, parts in ((self.named, curves[::2]), (self.right, curves[1::2])):
            held.mul_(KEPT).add_(torch.stack(parts).view_as(held))

    def targets(self, probabilities: Tensor, rows: Tensor, lifted: Tensor, occupancy: Tensor) -> tuple[Tensor, Tensor]:
        """Targets of frames without voxel labels.

        - Where accumulated rays passed, a cell is free, whatever the teacher says.
        - Where accumulated points lie, it is occupied. Its class is the vote of the points, unless vote and teacher together are
          sure of another one, or the teacher's where it is sure and there is no vote.
        - Where neither is, a sure teacher says whether it is occupied, and by what.

        Args:
            probabilities: (R, C) by the teacher.
            rows: (B, X, Y, Z) integer row of each cell in `probabilities`.
            lifted: (B, X, Y, Z) uint8 class ids that points took from pixels, 255 none.
            occupancy: (B, X, Y, Z) uint8: 1 points, 0 rays, 255 neither.

        Returns:
            the classes and the occupancy to learn, as `lifted` and `occupancy`.
        """
        classes, target = lifted.clone(), occupancy.clone()
        neither = occupancy == IGNORE
        said = self._sure(self.calibrated(probabilities, NEITHER))[rows[neither]]
        classes[neither] = torch.where(said == self.free, IGNORE, said)
        target[neither] = torch.where(said == IGNORE, IGNORE, (said != self.free).to(torch.uint8))

        given = _shares(self.calibrated(probabilities, POINTS).index_fill(1, rows.new_tensor([self.free]), 0))
        alone = (occupancy == 1) & (lifted == IGNORE)
        classes[alone] = self._sure(given)[rows[alone]]
        voted = (occupancy == 1) & (lifted != IGNORE)
        vote = lifted[voted].long()
        likelihood = (self.votes + 1 / len(self.votes)) / (self.votes.sum(0) + 1)  # (vote, class), of each class's cells
        together = self._sure(_shares(given[rows[voted]] * likelihood.to(given)[vote]))
        may_lose = self.votes.sum(0)[vote] >= LEAST_CELLS
        classes[voted] = torch.where(may_lose & (together != IGNORE), together, lifted[voted])
        return classes, target

    def calibrated(self, probabilities: Tensor, state: int) -> Tensor:
        """(R, C) calibrated for cells in a state; rows sum to 1, or to 0 where no class was ever right: before the first count."""
        named, right = self.named[state].cpu().numpy(), self.right[state].cpu().numpy()
        curves = np.zeros(named.shape)
        for curve, count, correct in zip(curves, named, right):
            filled = np.flatnonzero(count)
            if len(filled):
                values = isotonic(correct[filled] / count[filled], count[filled])
                # An interval that no cell was in says what the one below it does.
                curve[:] = np.append(0.0, values)[np.searchsorted(filled, np.arange(BINS), side="right")]
        table = torch.from_numpy(curves).to(probabilities)
        return _shares(table[torch.arange(len(table), device=table.device), _bins(probabilities)])

    def _sure(self, probabilities: Tensor) -> Tensor:
        """(R,) uint8 class of the largest probability, 255 where it is below the least confidence."""
        largest, winner = probabilities.max(1)
        return torch.where(largest >= self.config.least_confidence, winner, IGNORE).to(torch.uint8)


def _bins(probabilities: Tensor) -> Tensor:
    return (probabilities * BINS).long().clamp(0, BINS - 1)


def _shares(values: Tensor) -> Tensor:
    """Rows divided by their sums; rows of 0 stay."""
    return values / values.sum(1, keepdim=True).clamp(min=1e-12)
