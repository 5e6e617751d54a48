# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Occupancy scores of the Occ3D-nuScenes benchmark."""

from __future__ import annotations

from typing import TypedDict

import numpy as np
from numpy.typing import ArrayLike, NDArray

from occle_train.metrics.confusion import confusion, ratio


class Occ3DResult(TypedDict):
    """Scores in 0..1; NaN where nothing was there to be scored.

    per_class is (num_classes - 1,), all classes but free in order of their ids, NaN for those the targets do not hold;
    miou is its mean over the others; iou is of occupied against free.
    """

    miou: float
    iou: float
    per_class: NDArray[np.float64]


class Occ3DMetrics:
    """Class IoUs over all cells of all updates.

    Args:
        num_classes: all classes including free.
        free: id of the free class.
        ignore: target label of cells that do not count (simulated and accumulated truths have them; Occ3D's has none).
    """

    def __init__(self, num_classes: int = 18, free: int = 17, ignore: int = 255) -> None:
        self.num_classes = num_classes
        self.free = free
        self.ignore = ignore
        self.counts = np.zeros((num_classes, num_classes), np.int64)

    def update(self, pred: ArrayLike, target: ArrayLike, mask: ArrayLike | None = None) -> None:
        """Add one frame.

        Args:
            pred: predicted class ids.
            target: true class ids, same shape.
            mask: same shape, True or 1 where a cell counts (Occ3D's mask_camera); None for all cells.

        Raises:
            ValueError: shapes differ or an id is not one of the classes.
        """
        keep = np.asarray(target) != self.ignore
        if mask is not None:
            if np.shape(mask) != keep.shape:
                raise ValueError(f"the mask's shape {np.shape(mask)} is not the target's {keep.shape}")
            keep &= np.asarray(mask).astype(bool)
        self.counts += confusion(pred, target, keep, self.num_classes)

    def merge(self, other: Occ3DMetrics) -> None:
        """Add what another one has counted."""
        self.counts += other.counts

    def result(self) -> Occ3DResult:
        """Scores over everything given so far."""
        counts = self.counts
        solid = np.arange(self.num_classes) != self.free
        correct = counts.diagonal()
        union = counts.sum(axis=0) + counts.sum(axis=1) - correct
        present = (counts.sum(axis=1) > 0) & solid
        per_class = np.where(present, correct / np.maximum(union, 1), np.nan)[solid]
        return {
            "miou": float(np.nanmean(per_class)) if present.any() else float("nan"),
            "iou": ratio(counts[np.ix_(solid, solid)].sum(), counts.sum() - counts[self.free, self.free]),
            "per_class": per_class,
        }
