# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Semantic scene completion scores of the SemanticKITTI benchmark (SSCBench-KITTI-360 uses the same)."""

from __future__ import annotations

from typing import TypedDict

import numpy as np
from numpy.typing import ArrayLike, NDArray

from occle_train.metrics.confusion import confusion, ratio


class CompletionResult(TypedDict):
    """Scores in 0..1; NaN where nothing was there to be scored.

    iou, precision, recall are of occupied against free; per_class is (num_classes - 1,), classes 1 and up, 0 for an absent one;
    miou is its plain mean; miou_present its mean over the classes that the targets hold.
    """

    iou: float
    precision: float
    recall: float
    miou: float
    miou_present: float
    per_class: NDArray[np.float64]


class CompletionMetrics:
    """Completion IoU and class IoUs over all cells of all updates.

    Args:
        num_classes: all classes including free, whose id is 0 (SemanticKITTI: 20).
        ignore: target label of cells that do not count.
    """

    def __init__(self, num_classes: int, ignore: int = 255) -> None:
        self.num_classes = num_classes
        self.ignore = ignore
        self.counts = np.zeros((num_classes, num_classes), np.int64)

    def update(self, pred: ArrayLike, target: ArrayLike, invalid: ArrayLike | None = None) -> None:
        """Add one frame.

        Args:
            pred: predicted class ids.
            target: true class ids, same shape.
            invalid: same shape, True or 1 where a cell does not count (SemanticKITTI's .invalid).

        Raises:
            ValueError: shapes differ or an id is not one of the classes.
        """
        keep = np.asarray(target) != self.ignore
        if invalid is not None:
            if np.shape(invalid) != keep.shape:
                raise ValueError(f"the invalid mask's shape {np.shape(invalid)} is not the target's {keep.shape}")
            keep &= ~np.asarray(invalid).astype(bool)
        self.counts += confusion(pred, target, keep, self.num_classes)

    def merge(self, other: CompletionMetrics) -> None:
        """Add what another one has counted."""
        self.counts += other.counts

    def result(self) -> CompletionResult:
        """Scores over everything given so far."""
        counts = self.counts
        both = counts[1:, 1:].sum()
        correct = counts.diagonal()[1:]
        present = counts.sum(axis=1)[1:] > 0
        union = (counts.sum(axis=0) + counts.sum(axis=1))[1:] - correct
        per_class = correct / np.maximum(union, 1)
        return {
            "iou": ratio(both, counts.sum() - counts[0, 0]),
            "precision": ratio(both, counts[:, 1:].sum()),
            "recall": ratio(both, counts[1:].sum()),
            "miou": float(per_class.mean()),
            "miou_present": float(per_class[present].mean()) if present.any() else float("nan"),
            "per_class": per_class,
        }
