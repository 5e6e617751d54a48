# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Semantic scene completion scores of the SemanticKITTI benchmark (SSCBench-KITTI-360 uses the same)."""

from __future__ import annotations

from typing import TypedDict

import numpy as np
from numpy.typing import ArrayLike, NDArray

from occle_train.metrics.confusion import confusion, ratio


class CompletionResult(TypedDict):
    """Scores in 0..1; NaN where nothing was there to be scored.

    iou, precision, recall are of occupied against free; per_class is (num_classes - 1,), all classes but free in order of their
    ids, 0 for an absent one; miou is its plain mean; miou_present its mean over the classes that the targets hold.
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
        num_classes: all classes including free (SemanticKITTI: 20).
        ignore: target label of cells that do not count.
        free: id of the free class.
    """

    def __init__(self, num_classes: int, ignore: int = 255, free: int = 0) -> None:
        self.num_classes = num_classes
        self.ignore = ignore
        self.free = free
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
        counts, solid = self.counts, np.arange(self.num_classes) != self.free
        both = counts[np.ix_(solid, solid)].sum()
        correct = counts.diagonal()[solid]
        present = counts.sum(axis=1)[solid] > 0
        union = (counts.sum(axis=0) + counts.sum(axis=1))[solid] - correct
        per_class = correct / np.maximum(union, 1)
        return {
            "iou": ratio(both, counts.sum() - counts[self.free, self.free]),
            "precision": ratio(both, counts[:, solid].sum()),
            "recall": ratio(both, counts[solid].sum()),
            "miou": float(per_class.mean()),
            "miou_present": float(per_class[present].mean()) if present.any() else float("nan"),
            "per_class": per_class,
        }
