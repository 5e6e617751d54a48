# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Least confidence per class, so that votes above it are right often enough on simulated frames."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

NEVER = 2.0
"""The threshold of a class whose votes are never right often enough: no confidence reaches it."""
LEAST_CELLS = 20
"""Cells that a precision is believed of."""


def class_thresholds(
    votes: NDArray[np.floating], truth: NDArray[np.integer], num_classes: int, precision: float
) -> NDArray[np.float64]:
    """The least confidence of every class above which its votes have a precision.

    Args:
        votes: (N, C) probabilities of cells, rows of 0 for no vote.
        truth: (N,) their classes.
        num_classes: C.
        precision: 0..1, wanted.

    Returns:
        (C,): the lowest confidence from which on the votes for the class are right in at least this share; `NEVER` where none
        is, or too few cells are.
    """
    winner, confidence = votes.argmax(1), votes.max(1)
    result = np.full(num_classes, NEVER)
    for label in np.unique(winner[confidence > 0]).tolist():
        named = (winner == label) & (confidence > 0)
        order = np.argsort(-confidence[named], kind="stable")
        sure, right = confidence[named][order], np.cumsum(truth[named][order] == label)
        count = np.arange(1, len(sure) + 1)
        # Cells of the same confidence are above a threshold together.
        last = np.append(sure[1:] < sure[:-1], True)
        good = np.flatnonzero(last & (right >= precision * count) & (count >= LEAST_CELLS))
        if len(good):
            result[label] = sure[good[-1]]
    return result
