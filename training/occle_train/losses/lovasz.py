# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Lovász-softmax (Berman, Rannen Triki and Blaschko, 2018): a loss whose minimum is the best IoU, not the best share of cells."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from occle_core.sparse import SparseTensor
from occle_core.taxonomy import IGNORE


def lovasz_losses(classes: SparseTensor, target: Tensor, free: int, cells: int, step: int) -> tuple[Tensor, Tensor]:
    """Lovász-softmax of the class head's cells.

    Args:
        classes: (N, C) logits on the surviving cells.
        target: (B, X, Y, Z) uint8 class ids, 255 no loss there.
        free: id of the free class.
        cells: about how many of the known cells are compared at most; every n-th of them, others at every step.
        step: of the training.

    Returns:
        the loss of the classes but free, a mean over those that are there, and that of occupied against free; 0, with gradients of
        0, where nothing is known.
    """
    labels = classes.at_cells(target).long()
    rows = torch.nonzero(labels != IGNORE)[:, 0]
    every = -(-len(rows) // cells)
    rows = rows[step % every :: every] if every > 1 else rows
    # Half precision would sort most errors of a class as equal.
    probabilities = F.softmax(classes.features[rows].float(), 1)
    known = labels[rows]
    occupied = lovasz(1 - probabilities[:, free : free + 1].T, (known != free)[None])
    counts = torch.bincount(known, minlength=probabilities.shape[1])
    counts[free] = 0
    present = counts.nonzero()[:, 0]
    return lovasz(probabilities.T[present], known == present[:, None]), occupied


def lovasz(probabilities: Tensor, truth: Tensor) -> Tensor:
    """Mean over classes of the Lovász extension of the Jaccard loss 1 - IoU.

    Args:
        probabilities: (C, N) of every class.
        truth: (C, N) bool, where the class is.

    Returns:
        a scalar; 0, with gradients of 0, without cells.
    """
    if not probabilities.numel():
        return probabilities.sum()
    errors, order = torch.where(truth, 1 - probabilities, probabilities).sort(1, descending=True)
    hits = truth.gather(1, order).float().cumsum(1)
    places = torch.arange(1, hits.shape[1] + 1, device=hits.device)
    # 1 - IoU after the k worst cells are taken for wrong: intersection and union of what is left.
    count = hits[:, -1:]
    jaccard = 1 - (count - hits) / (count + places - hits)
    weights = torch.diff(jaccard, dim=1, prepend=torch.zeros_like(count))
    return (errors * weights).sum(1).mean()
