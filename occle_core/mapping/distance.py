# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""How far away is the nearest obstacle? Euclidean distance fields of the map."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from occle_core.mapping.layers import OBSTACLE, obstacles
from occle_core.mapping.snapshot import MapSnapshot


def distance_2d(layer: NDArray[np.uint8], resolution: float) -> NDArray[np.float32]:
    """Exact distance of every column's centre from the nearest obstacle column's.

    Args:
        layer: (X, Y) uint8 as `project_bands` gives.
        resolution: metres.

    Returns:
        (X, Y) float32 metres, 0 in obstacles, infinite where there is none.
    """
    clear = (layer != OBSTACLE).astype(np.uint8)
    if clear.all():
        return np.full(layer.shape, np.inf, np.float32)
    return np.asarray(cv2.distanceTransform(clear, cv2.DIST_L2, cv2.DIST_MASK_PRECISE) * np.float32(resolution), np.float32)


def distance_3d(snapshot: MapSnapshot) -> NDArray[np.float32]:
    """Exact distance of every cell's centre from the nearest cell's of `obstacles`.

    Returns:
        (X, Y, Z) float32 metres, 0 in such cells, infinite where there is none.

    Raises:
        ImportError: the package edt is not installed; the message says how to.
    """
    try:
        import edt
    except ImportError as error:
        raise ImportError("three-dimensional distances need the package edt: pip install 'occle_ros[map]'") from error
    solid = obstacles(snapshot)
    if not solid.any():
        return np.full(solid.shape, np.inf, np.float32)
    distance = edt.edt(np.ascontiguousarray(~solid), anisotropy=(snapshot.grid.resolution,) * 3, order="C", parallel=1)
    return np.asarray(distance, np.float32)
