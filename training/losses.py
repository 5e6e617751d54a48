"""Losses of MinkOcc's supervised phase (Sze et al., Sec. IV-D)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from occle_core.nn.minkocc import Prediction

IGNORE = 255


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
    prediction: Prediction,
    target: Tensor,
    pyramid: Sequence[Tensor],
    weights: Tensor,
    semantic: float = 0.5,
    occupancy: float = 1.0,
) -> dict[str, Tensor]:
    """Warm-start loss (Eq. 6): class-balanced cross-entropy on the finest voxels, binary cross-entropy on every decoder level.

    Args:
        prediction: the network's output for the batch.
        target: (B, X, Y, Z) uint8 labels, free class included, 255 where unknown (no loss there).
        pyramid: targets of occupancy per level (see `occupancy_pyramid`), finest first.
        weights: (C,) class weights.
        semantic, occupancy: lambda_1 and lambda_2.

    Returns:
        "semantic", "occupancy" (each with its weight applied) and their sum "total".
    """
    labels = prediction.classes.at_cells(target).long()
    semantics = semantic * _mean_or_zero(prediction.classes.features, labels, weights)
    bce = torch.zeros((), device=target.device)
    for level, occupied in zip(prediction.levels, pyramid):
        wanted = level.proposed.at_cells(occupied)
        known = wanted != IGNORE
        if bool(known.any()):
            bce = bce + F.binary_cross_entropy_with_logits(level.occupancy[known], wanted[known].float())
    bce = occupancy * bce
    return {"semantic": semantics, "occupancy": bce, "total": semantics + bce}


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


def _mean_or_zero(logits: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
    """Weighted cross-entropy over known labels, divided by the sum of weights; 0 when nothing is known."""
    if not bool((labels != IGNORE).any()):
        return logits.sum() * 0
    return F.cross_entropy(logits, labels, weights, ignore_index=IGNORE)
