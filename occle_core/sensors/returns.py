# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Rows of a scan that are no returns of the world around: beams without an echo, and the robot's own body."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def no_return(points: NDArray[np.floating]) -> NDArray[np.bool_]:
    """Rows whose x, y and z are all exactly 0: what many drivers (Livox, Ouster, SICK, RealSense) send for a beam without an echo.

    Args:
        points: (N, 3 or more) x, y, z first, metres, in the sensor's frame.

    Returns:
        (N,) bool.
    """
    found = np.asarray(points[:, 0] == 0)
    rows = np.flatnonzero(found)  # few, so that the other columns are hardly read
    found[rows] = (points[rows, 1] == 0) & (points[rows, 2] == 0)
    return found


def inside_box(points: NDArray[np.floating], T_box_points: NDArray[np.float64], box: Sequence[float]) -> NDArray[np.bool_]:
    """Rows inside a box along the axes of its frame, borders included.

    Args:
        points: (N, 3 or more) x, y, z first, metres.
        T_box_points: (4, 4), maps the points into the box's frame.
        box: x, y, z of the lowest corner, then of the highest, metres.

    Returns:
        (N,) bool.
    """
    found = np.ones(len(points), np.bool_)
    for axis in range(3):
        a, b, c, offset = T_box_points[axis].astype(np.float32)
        values = a * points[:, 0] + b * points[:, 1] + c * points[:, 2] + offset
        found &= (values >= box[axis]) & (values <= box[axis + 3])
    return found
