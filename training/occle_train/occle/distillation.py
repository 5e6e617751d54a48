# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Distillation: a student's targets from a teacher's predictions (OccLE, Sec. 3.3.2)."""

from __future__ import annotations

import torch
from torch import Tensor

from occle_core.taxonomy import IGNORE


def filter_confident(logits: Tensor, threshold: float) -> Tensor:
    """Filter a teacher's predictions by confidence.

    Args:
        logits: (B, C, X, Y, Z).
        threshold: least probability of the likeliest class, 0..1.

    Returns:
        (B, X, Y, Z) uint8 class ids, 255 where the teacher is less sure.
    """
    confidence, label = torch.softmax(logits.detach().float(), 1).max(1)
    return torch.where(confidence >= threshold, label, IGNORE).to(torch.uint8)


def merge_targets(annotation: Tensor, teacher_labels: Tensor) -> Tensor:
    """The student's target: what is annotated, and the teacher's filtered predictions where nothing is.

    Args:
        annotation: (B, X, Y, Z) uint8, 255 unknown; all 255 for a frame without annotation.
        teacher_labels: (B, X, Y, Z) uint8 of `filter_confident`.

    Returns:
        (B, X, Y, Z) uint8.
    """
    return torch.where(annotation == IGNORE, teacher_labels, annotation)
