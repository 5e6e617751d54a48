# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""The test of rigid transforms, of one or of many at once."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

ROUNDED = 1e-2
"""Deviation of a rotation's columns from orthonormal ones that rounded files show, and the offset in KITTI's P2."""


def is_rigid(T: NDArray[np.float64], tolerance: float = ROUNDED) -> NDArray[np.bool_]:
    """(...,) bool: which of the matrices T (..., 4, 4) are a rotation with a translation. None that is not finite is.

    Args:
        T: last rows must be 0, 0, 0, 1.
        tolerance: largest deviation of R^T R from the identity.
    """
    finite = np.asarray(np.isfinite(T).all(axis=(-2, -1)))
    T = np.where(finite[..., None, None], T, 0.0)
    R = T[..., :3, :3]
    orthonormal = np.abs(np.swapaxes(R, -1, -2) @ R - np.eye(3)).max(axis=(-2, -1)) <= tolerance
    whole = np.isclose(T[..., 3, :], [0, 0, 0, 1]).all(axis=-1)
    return np.asarray(finite & orthonormal & (np.linalg.det(R) > 0) & whole)
