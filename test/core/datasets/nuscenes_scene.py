# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""A made-up nuScenes scene of three keyframes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from dataset_files import CAMERAS, write_nuscenes

IDENTITY = {"q_wxyz": [1, 0, 0, 0], "t": [0, 0, 0]}
# 90 degrees to the left: the camera looks along the LiDAR's x.
K = [[10, 0, 7.5], [0, 10, 4], [0, 0, 1]]


def made_up(i: int, **more) -> dict:
    rng = np.random.default_rng(i)
    points = np.c_[rng.uniform(-30, 30, (40, 3)), rng.integers(0, 256, 40), rng.integers(0, 32, 40)]
    ego = {"q_wxyz": [1, 0, 0, 0], "t": [2.0 * i, 0, 0]}
    cams = {
        name: {"K": K, "sensor2ego": IDENTITY, "ego2global": ego, "timestamp_us": 10_000 * i + n}
        for n, name in enumerate(reversed(CAMERAS))
    }
    frame = {
        "token": f"t{i}",
        "timestamp_us": 10_000 * i + 3,
        "points": points,
        "lidar2ego": {"q_wxyz": [1, 0, 0, 0], "t": [0.9, 0, 1.8]},
    }
    return frame | {"ego2global": ego, "cams": cams} | more


def write_scene(folder: Path) -> Path:
    """Three frames with point labels; returns the data set's root."""
    segments = [np.arange(40) % 32 for _ in range(3)]
    return write_nuscenes(folder, [made_up(i) for i in range(3)], lidarseg=segments)
