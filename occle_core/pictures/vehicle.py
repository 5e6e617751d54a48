# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""A small car that shows where the sensors are and which way they look."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from occle_core.geometry.grid import VoxelGrid
from occle_core.pictures.faces import Faces, Floats

# Boxes (low corner, high corner, colour): metres from the middle of the car on the ground, x forward.
BODY = (
    ((-2.2, -0.9, 0.25), (2.2, 0.9, 0.85), (250, 250, 250)),
    ((-1.7, -0.8, 0.85), (1.0, 0.8, 1.4), (70, 80, 95)),
    ((-1.5, -0.75, 1.4), (0.7, 0.75, 1.5), (250, 250, 250)),
    ((-1.6, -0.92, 0.0), (-1.0, 0.92, 0.4), (40, 40, 45)),
    ((1.0, -0.92, 0.0), (1.6, 0.92, 0.4), (40, 40, 45)),
)
LENGTH, WIDTH = 4.4, 1.8
NEARBY = 12.0  # metres around the sensors in which the ground is looked for


def car_faces(solid: NDArray[np.bool_], grid: VoxelGrid, eye: Floats) -> Faces:
    """The car at the grid frame's origin, on the ground around it; no faces where no ground is known.

    Args:
        solid: (X, Y, Z) bool, occupied cells.
        eye: (3,) viewer in the grid frame, metres: sides turned away from it are left out.
    """
    ground = ground_height(solid, grid)
    corners, normals, colors = [], [], []
    for low, high, color in BODY if ground is not None else ():
        base, size = np.array(low) + (0.0, 0.0, ground or 0.0), np.array(high) - np.array(low)
        for axis in range(3):
            u, v = np.eye(3)[(axis + 1) % 3] * size, np.eye(3)[(axis + 2) % 3] * size
            # Pieces no longer than a cell, so that each belongs to one cell's place in the drawing order.
            nu, nv = (max(1, int(np.ceil(np.linalg.norm(w) / grid.resolution))) for w in (u, v))
            for sign in (-1, 1):
                corner = base + np.eye(3)[axis] * size * (sign > 0)
                if (eye - corner)[axis] * sign <= 0:
                    continue
                for i in range(nu):
                    for j in range(nv):
                        steps = np.array([(i, j), (i + 1, j), (i + 1, j + 1), (i, j + 1)]) / (nu, nv)
                        corners.append(corner + steps @ np.stack([u, v]))
                        normals.append(sign * np.eye(3)[axis])
                        colors.append(np.array(color, np.float64))
    at, up = np.reshape(corners, (-1, 4, 3)), np.reshape(normals, (-1, 3))
    inside = at.mean(axis=1) - 0.01 * up
    cells = np.floor((inside - np.asarray(grid.origin)) / grid.resolution).astype(np.int64)
    return Faces(at, up, cells, np.reshape(colors, (-1, 3)))


def ground_height(solid: NDArray[np.bool_], grid: VoxelGrid) -> float | None:
    """z (metres, grid frame) of the ground near the grid frame's origin: the median top of the columns' lowest voxels."""
    x, y = (grid.origin[a] + (np.arange(grid.shape[a]) + 0.5) * grid.resolution for a in (0, 1))
    near = solid.any(axis=2) & (x[:, None] ** 2 + y**2 < NEARBY**2)
    if not near.any():
        return None
    lowest = solid.argmax(axis=2)[near]
    return float(grid.origin[2] + (np.median(lowest) + 1) * grid.resolution)
