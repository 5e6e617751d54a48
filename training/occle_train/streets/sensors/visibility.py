# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Visibility of cells from a sensor's position, by a spherical range image that is cast once per position."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

COLUMNS, ROWS = 1200, 180
_DENSE = np.radians(6.0)
_LOW, _HIGH = np.arcsinh(np.radians(-80.0) / _DENSE), np.arcsinh(np.radians(60.0) / _DENSE)
TOLERANCE = 0.15
"""Metres that a cell's centre may lie behind the surface and still count as seen."""

CastFrom = Callable[[NDArray[np.floating], NDArray[np.float32]], tuple[NDArray[np.int32], NDArray[np.float32]]]
"""(origin (3,), directions (N, 3)) -> (triangle (N,), distance (N,))."""


def range_image(cast: CastFrom, origin: NDArray[np.float64]) -> NDArray[np.float32]:
    """Distance to the nearest surface in every direction from `origin` (3,): (ROWS, COLUMNS) float32, denser at the horizon."""
    _, distance = cast(origin, _DIRECTIONS)
    return distance.reshape(ROWS, COLUMNS)


def sees(image: NDArray[np.float32], origin: NDArray[np.float64], points: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Mask (N,) of points (N, 3) in the world frame that a position with this range image sees."""
    offset = points - origin.astype(np.float32)
    flat = np.hypot(offset[:, 0], offset[:, 1])
    elevation = np.arctan2(offset[:, 2], flat)
    row = (np.arcsinh(elevation / np.float32(_DENSE)) - np.float32(_LOW)) * np.float32(ROWS / (_HIGH - _LOW))
    column = np.arctan2(offset[:, 1], offset[:, 0]) * np.float32(COLUMNS / (2 * np.pi))
    row_number = np.clip(row.astype(np.int32), 0, ROWS - 1)
    column_number = np.floor(column).astype(np.int32) % COLUMNS
    distance = np.sqrt(flat * flat + offset[:, 2] ** 2)
    out: NDArray[np.bool_] = distance <= image[row_number, column_number] + np.float32(TOLERANCE)
    return out


def in_image(depth: NDArray[np.float32], K: NDArray[np.float64], points: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Mask (N,) of points (N, 3) in the camera frame that fall into the image and lie before what its depth (H, W) shows."""
    height, width = depth.shape
    z = np.maximum(points[:, 2], 1e-3)
    u, v = (np.rint(points[:, a] / z * np.float32(K[a, a]) + np.float32(K[a, 2])).astype(np.int64) for a in (0, 1))
    out: NDArray[np.bool_] = (points[:, 2] > 0.1) & (u >= 0) & (u < width) & (v >= 0) & (v < height)
    at = np.flatnonzero(out)
    out[at] = points[at, 2] <= depth[v[at], u[at]] + np.float32(TOLERANCE)
    return out


def spread_to_surfaces(seen: NDArray[np.bool_], occupied: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Seen cells, and occupied cells with a seen free cell among their six neighbours; all arrays (X, Y, Z)."""
    free = seen & ~occupied
    near = np.zeros_like(free)
    for axis in range(3):
        low = tuple(slice(None, -1) if a == axis else slice(None) for a in range(3))
        high = tuple(slice(1, None) if a == axis else slice(None) for a in range(3))
        near[low] |= free[high]
        near[high] |= free[low]
    out: NDArray[np.bool_] = seen | (near & occupied)
    return out


def _directions() -> NDArray[np.float32]:
    elevation = np.sinh(_LOW + (np.arange(ROWS) + 0.5) / ROWS * (_HIGH - _LOW)) * _DENSE
    azimuth = (np.arange(COLUMNS) + 0.5) * 2 * np.pi / COLUMNS
    el, az = np.meshgrid(elevation, azimuth, indexing="ij")
    return np.stack([np.cos(el) * np.cos(az), np.cos(el) * np.sin(az), np.sin(el)], -1).reshape(-1, 3).astype(np.float32)


_DIRECTIONS = _directions()
