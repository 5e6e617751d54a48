# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""A room seen by a LiDAR on a car that drives a curve: walls, points and poses in closed form."""

from __future__ import annotations

import numpy as np

from occle_core.geometry.trajectory import Trajectory, exp_se3

SPEED, TURN, TURN_TIME = 10.0, np.radians(30), 0.1
HALF = np.array([20.0, 15.0, 3.0])
"""Half the size of a room whose walls are planes."""


def pose(seconds: float) -> np.ndarray:
    """A car at 10 m/s that turns by 30 degrees per second."""
    return exp_se3(np.array([[SPEED, 0, 0, 0, 0, TURN]]) * seconds)[0]


def room_scan(columns: int = 400, rings: int = 16, start: float = 0.0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Points (N, 4) as a moving sensor measures them, their seconds (N,), and where they are in the world (N, 3).

    The turn begins `start` seconds after the car passed the room's middle.
    """
    seconds = np.repeat(np.arange(columns) * (TURN_TIME / columns), rings)
    azimuth, elevation = (
        np.repeat(-np.linspace(0.001, 2 * np.pi, columns, endpoint=False), rings),
        np.tile(np.linspace(-0.2, 0.2, rings), columns),
    )
    local = np.stack([np.cos(azimuth) * np.cos(elevation), np.sin(azimuth) * np.cos(elevation), np.sin(elevation)], axis=1)
    T = np.repeat(np.stack([pose(start + second) for second in seconds[::rings]]), rings, axis=0)
    directions = np.einsum("nij,nj->ni", T[:, :3, :3], local)
    distance = ((np.sign(directions) * HALF - T[:, :3, 3]) / directions).min(axis=1)
    points = np.hstack([local * distance[:, None], np.linspace(0, 1, len(local))[:, None]]).astype(np.float32)
    return points, seconds.astype(np.float32), T[:, :3, 3] + directions * distance[:, None]


def trajectory(step: float = 0.01, first: float = -0.05, last: float = 0.2) -> Trajectory:
    seconds = np.arange(round(first / step), round(last / step) + 1) * step
    return Trajectory(np.round(seconds * 1e9).astype(np.int64), np.stack([pose(second) for second in seconds]))
