# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Is a pose usable, and does it follow the one before?"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from occle_core.geometry.rigid import is_rigid
from occle_core.mapping.config import MapConfig

TILT = 1e-3
"""Largest deviation of a rotation's columns from orthonormal ones."""


def pose_fault(T: NDArray[np.float64] | None) -> str:
    """Why no frame can be put into the map by this pose, or "".

    Args:
        T: (4, 4) T_world_grid, or None where the pose is not known.
    """
    if T is None:
        return "no_pose"
    T = np.asarray(T)
    return "" if T.shape == (4, 4) and is_rigid(T, TILT) else "bad_pose"


def break_between(config: MapConfig, before: tuple[int, NDArray[np.float64]], stamp: int, T_world_grid: NDArray[np.float64]) -> str:
    """Why a frame does not continue the map: "clock_jump", "pose_jump" or "".

    Args:
        config: limits.
        before: stamp (nanoseconds) and T_world_grid of the last update.
        stamp: nanoseconds.
        T_world_grid: (4, 4).
    """
    seconds = (stamp - before[0]) * 1e-9
    if not 0 <= seconds <= config.max_gap:
        return "clock_jump"
    moved = float(np.linalg.norm(T_world_grid[:3, 3] - before[1][:3, 3]))
    return "pose_jump" if moved > config.max_speed * seconds + config.jump_slack else ""
