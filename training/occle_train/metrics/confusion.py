# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Counting which class was predicted where which class is true."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray


def confusion(pred: ArrayLike, target: ArrayLike, keep: NDArray[np.bool_], num_classes: int) -> NDArray[np.int64]:
    """(num_classes, num_classes) counts [target, pred] of the cells where `keep` is True.

    Args:
        pred, target: integer arrays of one shape, with the class ids 0..num_classes-1 wherever `keep` is True.
        keep: bool, same shape.

    Raises:
        ValueError: the shapes differ, or a kept cell holds another number.
    """
    predicted, true = np.asarray(pred), np.asarray(target)
    if not predicted.shape == true.shape == keep.shape:
        raise ValueError(f"shapes differ: prediction {predicted.shape}, target {true.shape}, mask {keep.shape}")
    predicted, true = predicted[keep].astype(np.int64), true[keep].astype(np.int64)
    for name, labels in (("prediction", predicted), ("target", true)):
        strange = labels[(labels < 0) | (labels >= num_classes)]
        if len(strange):
            raise ValueError(
                f"the {name} holds class id {int(strange[0])} in {len(strange)} cells that count, "
                f"but the ids of this taxonomy are 0..{num_classes - 1}"
            )
    counts = np.bincount(true * num_classes + predicted, minlength=num_classes**2)
    return counts.reshape(num_classes, num_classes).astype(np.int64)


def ratio(part: float, whole: float) -> float:
    """part / whole; NaN for 0 / 0: nothing was there to be scored."""
    return float(part) / float(whole) if whole else float("nan")
