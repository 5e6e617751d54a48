# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Points through a matrix, without BLAS."""

from __future__ import annotations

from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

Real = TypeVar("Real", bound=np.floating[Any])


def transform_points(T: NDArray[np.float64], points: NDArray[Real]) -> NDArray[Real]:
    """Points through the upper three rows of an affine matrix.

    numpy hands such thin products to all of its BLAS's threads, which then spin while the network needs the cores; and axis by
    axis is as fast.

    Args:
        T: (3 or 4, 4).
        points: (N, 3 or more) x, y, z; further columns are ignored.

    Returns:
        (N, 3) in the points' precision; each axis lies contiguous in memory.
    """
    out = np.empty((3, len(points)), points.dtype)
    for axis, (a, b, c, shift) in zip(out, np.asarray(T[:3], points.dtype)):
        np.multiply(points[:, 0], a, out=axis)
        axis += points[:, 1] * b
        axis += points[:, 2] * c
        axis += shift
    return out.T
