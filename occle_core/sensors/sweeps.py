# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Sweeps: the scans before the present one, moved to its place, with their age."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from occle_core.frame import Frame
from occle_core.sensors.deskew import MotionTable, deskew


def stack_sweeps(frames: Sequence[Frame]) -> Frame:
    """The present frame with the points of the scans before it.

    Args:
        frames: the present one first; the others need a T_world_lidar, and so does the present one if there are others. Their
            images do not count.

    Returns:
        The present frame; `points` are those of all, in its LiDAR frame, its own first, and `ages` their age in seconds.
        Where the rays began is not kept.
    """
    present, *past = frames
    ages = [np.zeros(len(present.points), np.float32)]
    points = [present.points]
    for frame in past:
        if present.T_world_lidar is None or frame.T_world_lidar is None:
            raise ValueError("sweeps need the pose of each scan")
        T = np.linalg.inv(present.T_world_lidar) @ frame.T_world_lidar
        points.append(deskew(frame.points, None, MotionTable.fixed(T)))
        ages.append(np.full(len(frame.points), (present.stamp - frame.stamp) / 1e9, np.float32))
    return replace(present, points=np.concatenate(points), ages=np.concatenate(ages), origins=None)
