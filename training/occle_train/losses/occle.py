# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""OccLE's losses (Fang et al., Eq. 6): frequency-weighted cross-entropy and the scale losses of the MonoScene/VoxFormer line."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from occle_core.taxonomy import IGNORE
from occle_train.process_group import ALONE, ProcessGroup

LOG_FLOOR = -100.0
"""Logarithms end here, as in a binary cross-entropy: a precision of 0 costs 100."""


def semantic_scale_loss(logits: Tensor, target: Tensor, ignore: int = IGNORE, group: ProcessGroup = ALONE) -> Tensor:
    """Semantic scale loss (Cao & de Charette, MonoScene, Sec. 3.3.1; part of OccLE's l_occ).

    -(ln precision + ln recall + ln specificity) of every class that is present, free included, averaged over those classes.

    Args:
        logits: (B, C, X, Y, Z), or (N, C) of single voxels.
        target: (B, X, Y, Z) or (N,) class ids of any integer type.
        ignore: the id of voxels that do not count.
        group: the processes that share the batch.

    Returns:
        a scalar, this process's part; 0, with gradients of 0, where nothing is known. A class that fills all known voxels has no
        specificity: that term is 0.
    """
    probability, label = _known(logits, target, ignore)
    present = F.one_hot(label, probability.shape[1]).to(probability.dtype)
    count = group.total(present.sum(0))
    known = count.sum()
    if not float(known):
        return logits.sum() * 0
    parts = probability, probability * present, (1 - probability) * (1 - present)
    total, hits, missed_by = group.summed(torch.stack([part.sum(0) for part in parts]))
    absent = known - count
    precision = _log_ratio(hits, total)
    recall = _log_ratio(hits, count)
    specificity = torch.where(absent > 0, _log_ratio(missed_by, absent.clamp(min=1)), 0.0)
    there = count > 0
    return -torch.where(there, precision + recall + specificity, 0.0).sum() / there.sum() / group.size


def geometric_scale_loss(
    logits: Tensor, target: Tensor, ignore: int = IGNORE, free: int = 0, group: ProcessGroup = ALONE
) -> Tensor:
    """-(ln precision + ln recall + ln specificity) of "occupied" (MonoScene, Sec. 3.3.1).

    Args:
        logits: (B, C, X, Y, Z), or (N, C) of single voxels.
        target: (B, X, Y, Z) or (N,) class ids of any integer type.
        ignore: the id of voxels that do not count.
        free: id of the free class; all others are occupied.
        group: the processes that share the batch.

    Returns:
        a scalar, this process's part; 0, with gradients of 0, where nothing known is occupied or nothing known is free: the
        ratios have no meaning.
    """
    probability, label = _known(logits, target, ignore)
    occupied = (label != free).to(probability.dtype)
    count, absent = group.total(torch.stack([occupied.sum(), (1 - occupied).sum()]))
    if not (float(count) and float(absent)):
        return logits.sum() * 0
    empty = probability[:, free]
    parts = 1 - empty, (1 - empty) * occupied, empty * (1 - occupied)
    total, hits, missed_by = group.summed(torch.stack([part.sum() for part in parts]))
    precision, recall, specificity = _log_ratio(hits, total), _log_ratio(hits, count), _log_ratio(missed_by, absent)
    return -(precision + recall + specificity) / group.size


def frequency_weights(counts: Tensor) -> Tensor:
    """Class weights 1 / ln(n) from the voxels n per class (C,), as VoxFormer's and MonoScene's; few count as e: 1."""
    return (1 / torch.log(counts.double().clamp(min=torch.e))).float()


def weighted_cross_entropy(
    logits: Tensor, target: Tensor, weights: Tensor, ignore: int = IGNORE, group: ProcessGroup = ALONE
) -> Tensor:
    """Cross-entropy with class weights (C,), divided by the sum of the weights; 0 where nothing is known.

    Args:
        logits: (B, C, ...) or (N, C).
        target: (B, ...) or (N,) class ids of any integer type.
        weights: (C,).
        ignore: the id that does not count.
        group: the processes that share the batch; the result is this process's part.
    """
    label = target.long()
    norm = group.total(weights[label[label != ignore]].sum())
    if not float(norm):
        return logits.sum() * 0
    return F.cross_entropy(logits, label, weights, ignore_index=ignore, reduction="sum") / norm


def occupancy_loss(
    logits: Tensor, target: Tensor, weights: Tensor, free: int = 0, ignore: int = IGNORE, group: ProcessGroup = ALONE
) -> Tensor:
    """OccLE's l_occ: weighted cross-entropy plus both scale losses (Sec. 3.5, after VoxFormer and Symphonies)."""
    scales = semantic_scale_loss(logits, target, ignore, group) + geometric_scale_loss(logits, target, ignore, free, group)
    return weighted_cross_entropy(logits, target, weights, ignore, group) + scales


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
