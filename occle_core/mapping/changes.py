# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""What changed between two states of the map whose windows differ."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

T = TypeVar("T", bound=np.generic)


def in_window(cells: NDArray[T], low: Sequence[int], new_low: Sequence[int], fill: int) -> NDArray[T]:
    """An array of one window in another one of the same shape.

    Args:
        cells: (...) any number of axes.
        low: number of its lowest cell, one per axis.
        new_low: the same of the other window.
        fill: value of the cells that only the other window has.
    """
    out = np.full_like(cells, fill)
    shift = [new - old for old, new in zip(low, new_low)]
    source = tuple(slice(max(0, s), max(0, min(n, n + s))) for s, n in zip(shift, cells.shape))
    target = tuple(slice(max(0, -s), max(0, min(n, n - s))) for s, n in zip(shift, cells.shape))
    out[target] = cells[source]
    return out


def bounding_box(cells: NDArray[np.bool_]) -> tuple[slice, slice] | None:
    """Slices of the smallest box that holds all true cells of (X, Y) bool; None without any."""
    x, y = np.flatnonzero(cells.any(axis=1)), np.flatnonzero(cells.any(axis=0))
    return (slice(int(x[0]), int(x[-1]) + 1), slice(int(y[0]), int(y[-1]) + 1)) if len(x) else None
