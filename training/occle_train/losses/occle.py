# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""OccLE's losses (Fang et al., Eq. 6): frequency-weighted cross-entropy and the scale losses of the MonoScene/VoxFormer line."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from occle_core.taxonomy import IGNORE

LOG_FLOOR = -100.0
"""Logarithms end here, as in a binary cross-entropy: a precision of 0 costs 100."""


def semantic_scale_loss(logits: Tensor, target: Tensor, ignore: int = IGNORE) -> Tensor:
    """Semantic scale loss (Cao & de Charette, MonoScene, Sec. 3.3.1; part of OccLE's l_occ).

    -(ln precision + ln recall + ln specificity) of every class that is present, free included, averaged over those classes.

    Args:
        logits: (B, C, X, Y, Z), or (N, C) of single voxels.
        target: (B, X, Y, Z) or (N,) class ids of any integer type.
        ignore: the id of voxels that do not count.

    Returns:
        a scalar; 0, with gradients of 0, where nothing is known. A class that fills all known voxels has no specificity: that
        term is 0.
    """
    probability, label = _known(logits, target, ignore)
    if not len(label):
        return logits.sum() * 0
    classes = probability.shape[1]
    present = F.one_hot(label, classes).to(probability.dtype)
    count, total = present.sum(0), probability.sum(0)
    hits = (probability * present).sum(0)
    missed_by = ((1 - probability) * (1 - present)).sum(0)
    absent = len(label) - count
    precision = _log_ratio(hits, total)
    recall = _log_ratio(hits, count)
    specificity = torch.where(absent > 0, _log_ratio(missed_by, absent.clamp(min=1)), 0.0)
    there = count > 0
    return -torch.where(there, precision + recall + specificity, 0.0).sum() / there.sum()


def geometric_scale_loss(logits: Tensor, target: Tensor, ignore: int = IGNORE, free: int = 0) -> Tensor:
    """-(ln precision + ln recall + ln specificity) of "occupied" (MonoScene, Sec. 3.3.1).

    Args:
        logits: (B, C, X, Y, Z), or (N, C) of single voxels.
        target: (B, X, Y, Z) or (N,) class ids of any integer type.
        ignore: the id of voxels that do not count.
        free: id of the free class; all others are occupied.

    Returns:
        a scalar; 0, with gradients of 0, where nothing known is occupied or nothing known is free: the ratios have no meaning.
    """
    probability, label = _known(logits, target, ignore)
    occupied = (label != free).to(probability.dtype)
    count = occupied.sum()
    if not 0 < int(count) < len(label):
        return logits.sum() * 0
    empty = probability[:, free]
    hits = ((1 - empty) * occupied).sum()
    precision = _log_ratio(hits, (1 - empty).sum())
    recall = _log_ratio(hits, count)
    specificity = _log_ratio((empty * (1 - occupied)).sum(), len(label) - count)
    return -(precision + recall + specificity)


def frequency_weights(counts: Tensor) -> Tensor:
    """Class weights 1 / ln(n) from the voxels n per class (C,), as VoxFormer's and MonoScene's; few count as e: 1."""
    return (1 / torch.log(counts.double().clamp(min=torch.e))).float()


def weighted_cross_entropy(logits: Tensor, target: Tensor, weights: Tensor, ignore: int = IGNORE) -> Tensor:
    """Cross-entropy with class weights (C,), divided by the sum of the weights; 0 where nothing is known.

    Args:
        logits: (B, C, ...) or (N, C).
        target: (B, ...) or (N,) class ids of any integer type.
        weights: (C,).
        ignore: the id that does not count.
    """
    if not bool((target != ignore).any()):
        return logits.sum() * 0
    return F.cross_entropy(logits, target.long(), weights, ignore_index=ignore)


def occupancy_loss(logits: Tensor, target: Tensor, weights: Tensor, free: int = 0, ignore: int = IGNORE) -> Tensor:
    """OccLE's l_occ: weighted cross-entropy plus both scale losses (Sec. 3.5, after VoxFormer and Symphonies)."""
    scales = semantic_scale_loss(logits, target, ignore) + geometric_scale_loss(logits, target, ignore, free)
    return weighted_cross_entropy(logits, target, weights, ignore) + scales


def _known(logits: Tensor, target: Tensor, ignore: int) -> tuple[Tensor, Tensor]:
    """Probabilities (N, C) and labels (N,) int64 of the known voxels."""
    if logits.ndim < 2 or target.shape != (logits.shape[0], *logits.shape[2:]):
        raise ValueError(f"logits (B, C, X, Y, Z) and target (B, X, Y, Z) do not fit: {tuple(logits.shape)}, {tuple(target.shape)}")
    rows = logits.movedim(1, -1).reshape(-1, logits.shape[1])
    label = target.reshape(-1).long()
    known = label != ignore
    return torch.softmax(rows[known], 1), label[known]


def _log_ratio(part: Tensor, whole: Tensor) -> Tensor:
    """ln(part / whole), at least LOG_FLOOR; -100 with a gradient of 0 where the part is 0."""
    ratio = part / whole.clamp(min=torch.finfo(part.dtype).tiny)
    tiny = ratio < 1e-43
    return torch.where(tiny, LOG_FLOOR, torch.log(torch.where(tiny, 1.0, ratio)).clamp(min=LOG_FLOOR))
