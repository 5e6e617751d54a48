# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Losses of MinkOcc (Sze et al., Sec. IV-D)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from occle_core.networks.minkocc.network import MinkOccPrediction
from occle_core.sparse import SparseTensor
from occle_core.taxonomy import IGNORE

Total = Callable[[Tensor], Tensor]
"""Adds a number up over all processes that train together, see `occle_train.process_group.ProcessGroup.total`."""


def alone(value: Tensor) -> Tensor:
    """The total of a process that trains alone."""
    return value


def class_balanced_weights(counts: Tensor, beta: float) -> Tensor:
    """Weights by the effective number of samples: w = (1 - beta) / (1 - beta^n), normalised to sum to the number of classes.

    Args:
        counts: (C,) samples per class; a class without any counts as one sample.
        beta: 0 <= beta < 1.

    Returns:
        (C,) float32. (MinkOcc, Eq. 4; Cui et al., Class-Balanced Loss Based on Effective Number of Samples.)
    """
    if not 0 <= beta < 1:
        raise ValueError(f"beta must lie in [0, 1), not {beta}")
    n = counts.double().clamp(min=1)
    weights = (1 - beta) / (1 - torch.pow(torch.tensor(beta, dtype=torch.float64), n))
    return (weights * len(counts) / weights.sum()).float()


def supervised_loss(
    prediction: MinkOccPrediction,
    target: Tensor,
    pyramid: Sequence[Tensor],
    weights: Tensor,
    semantic: float = 0.5,
    occupancy: float = 1.0,
    total: Total = alone,
) -> dict[str, Tensor]:
    """Warm-start loss (Eq. 6): class-balanced cross-entropy on the finest voxels, binary cross-entropy on every decoder level.

    Args:
        prediction: the network's output for the batch.
        target: (B, X, Y, Z) uint8 labels, free class included, 255 where unknown (no loss there).
        pyramid: targets of occupancy per level (see `occupancy_pyramid`), finest first.
        weights: (C,) class weights.
        semantic: weight lambda_1.
        occupancy: weight lambda_2.
        total: where several processes share a batch, sums what the losses are divided by.

    Returns:
        "semantic", "occupancy" (each with its weight applied) and their sum "total"; with several processes, their parts of them.
    """
    semantics = semantic * class_loss(prediction.classes, target, weights, total)
    bce = torch.zeros((), device=target.device)
    for level, occupied in zip(prediction.levels, pyramid):
        bce = bce + _binary(level.occupancy, level.proposed.at_cells(occupied), total)
    bce = occupancy * bce
    return {"semantic": semantics, "occupancy": bce, "total": semantics + bce}


def class_loss(classes: SparseTensor, target: Tensor, weights: Tensor, total: Total = alone) -> Tensor:
    """Cross-entropy of the class head's cells, averaged over their class weights.

    Args:
        classes: (N, C) logits on the surviving cells.
        target: (B, X, Y, Z) uint8 class ids, 255 no loss there.
        weights: (C,) class weights.
        total: see `supervised_loss`.
    """
    labels = classes.at_cells(target).long()
    share = F.cross_entropy(classes.features, labels, weights, ignore_index=IGNORE, reduction="sum")
    return share / total(weights[labels[labels != IGNORE]].sum()).clamp(min=1e-12)


def occupied_class_loss(classes: SparseTensor, occupancy: Tensor, free: int, total: Total = alone) -> Tensor:
    """Binary cross-entropy of the class head's "any class but free", for cells of which only the occupancy is known.

    The class head has a free class that removes what pruning left over (the paper's has none); without this it would never
    learn of free space where no voxel has a label.

    Args:
        classes: (N, C) logits on the surviving cells.
        occupancy: (B, X, Y, Z) uint8: 1 occupied, 0 free, 255 no loss there.
        free: id of the free class.
        total: see `supervised_loss`.
    """
    others = torch.cat([classes.features[:, :free], classes.features[:, free + 1 :]], 1)
    logits = torch.logsumexp(others, 1) - classes.features[:, free]
    return _binary(logits, classes.at_cells(occupancy), total)


def soft_cross_entropy(
    logits: Tensor, target: Tensor, confidence: Tensor, total: Total = alone, weights: Tensor | None = None
) -> Tensor:
    """Cross-entropy on pseudo-labels, each weighted by how sure it is (Eq. 5), averaged over the labelled pixels.

    The average is over their class weights, not over their confidences: a batch of doubtful labels pulls less than one of sure
    labels.

    Args:
        logits: (N, C) or (B, C, H, W).
        target: (N,) or (B, H, W) class ids of any integer type, 255 where unlabelled: no loss there.
        confidence: like `target`, 0..1, of the logits' type.
        total: see `supervised_loss`.
        weights: (C,) class weights; all alike if not given, as in the paper.

    Returns:
        a scalar; 0, with gradients of 0, where nothing is labelled.

    Raises:
        ValueError: the shapes do not belong together.
    """
    if logits.ndim not in (2, 4) or target.shape != logits[:, 0].shape or confidence.shape != target.shape:
        shapes = ", ".join(str(tuple(value.shape)) for value in (logits, target, confidence))
        raise ValueError(f"logits (N, C) or (B, C, H, W), target and confidence (N,) or (B, H, W) do not fit: {shapes}")
    labels, labelled = target.long(), target != IGNORE
    loss = F.cross_entropy(logits, labels, weights, ignore_index=IGNORE, reduction="none")
    counted = labelled.sum() if weights is None else weights[labels[labelled]].sum()
    # A pixel without a label may come with any confidence, even one that is not a number.
    return (torch.where(labelled, confidence, 0) * loss).sum() / total(counted).clamp(min=1e-12)


def occupancy_pyramid(target: Tensor, free: int, levels: int) -> list[Tensor]:
    """Occupancy per decoder level from labels (B, X, Y, Z): 1 where a cell below is occupied, 0 where all are free, else 255.

    Returns:
        `levels` uint8 tensors (B, X / 2^l, Y / 2^l, Z / 2^l), finest first.
    """
    occupied = (target != free) & (target != IGNORE)
    unknown = target == IGNORE
    out = []
    for level in range(levels):
        out.append(torch.where(occupied, 1, torch.where(unknown, IGNORE, 0)).to(torch.uint8))
        if level + 1 < levels:
            occupied, unknown = _any_below(occupied), _any_below(unknown)
    return out


def _any_below(volume: Tensor) -> Tensor:
    return F.max_pool3d(volume[:, None].float(), 2)[:, 0] > 0


def _binary(logits: Tensor, wanted: Tensor, total: Total) -> Tensor:
    """Mean binary cross-entropy of logits (N,) over the cells whose wanted value (N,) is 0 or 1; 0 where there is none."""
    known = wanted != IGNORE
    loss = F.binary_cross_entropy_with_logits(logits, wanted.float().clamp(max=1), known.to(logits.dtype), reduction="sum")
    return loss / total(known.sum()).clamp(min=1)
