# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Scan mixing and beam randomisation: scans of other streets and of other LiDARs, made of those that are there."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from occle_core.frame import Frame
from occle_core.geometry.grid import VoxelGrid

BAND = math.radians(0.4)
"""Height of the bands that a scan is cut into where its beams are thinned, about the spacing of 64 beams."""
SECTOR = (math.pi / 3, math.pi)
"""Smallest and largest angle of the sector that is exchanged."""


def mix_scans(one: Frame, other: Frame, grid: VoxelGrid, rng: Generator) -> tuple[Frame, NDArray[np.bool_]]:
    """A frame whose points in a sector around the sensor are another frame's (Xiao et al., PolarMix, scene-level swapping).

    The images are left out: they show one of the two streets only.

    Args:
        one: whose sensor is the centre of the sector.
        other: whose points fill the sector, with its own T_grid_lidar.
        grid: the cells.
        rng: draws the sector.

    Returns:
        the mixed frame, with `one`'s transforms, and (X, Y, Z) bool: cells whose targets are those of `other`.
    """
    center, size = one.T_grid_lidar[:2, 3], rng.uniform(*SECTOR)
    columns = np.stack(np.meshgrid(*map(np.arange, grid.shape[:2]), [0], indexing="ij"), -1).reshape(-1, 3)
    # Around some cell, as a grid may lie on one side of the sensor only.
    middle = grid.centers(columns[rng.integers(len(columns), size=1)])[0, :2] - center
    begin = math.atan2(middle[1], middle[0]) - size / 2

    def within(xy: NDArray[np.floating]) -> NDArray[np.bool_]:
        angle = np.arctan2(xy[:, 1] - center[1], xy[:, 0] - center[0])
        return np.asarray((angle - begin) % (2 * math.pi) < size)

    own, foreign = (frame.points[:, :3] @ frame.T_grid_lidar[:3, :3].T + frame.T_grid_lidar[:3, 3] for frame in (one, other))
    stay, use = ~within(own), within(foreign)
    kept, taken = one.points[stay], other.points[use].copy()
    ages = None
    if one.ages is not None and other.ages is not None:
        ages = np.concatenate([one.ages[stay], other.ages[use]])
    T_one_grid = np.linalg.inv(one.T_grid_lidar)
    taken[:, :3] = foreign[use] @ T_one_grid[:3, :3].T + T_one_grid[:3, 3]
    mask = within(grid.centers(columns)).reshape(*grid.shape[:2], 1)
    mixed = replace(one, points=np.concatenate([kept, taken]), images=[None] * len(one.images), ages=ages, origins=None)
    return mixed, np.broadcast_to(mask, grid.shape)


def thin_beams(points: NDArray[np.float32], most: int, rng: Generator) -> NDArray[np.bool_]:
    """Rows (N,) bool of every k-th elevation band of a scan (N, 4), k drawn from 2 to `most`: a LiDAR of fewer beams.

    Args:
        points: x, y, z in the LiDAR's frame, intensity.
        most: largest k, at least 2.
        rng: draws k and the first band.
    """
    every = int(rng.integers(2, most + 1))
    band = np.floor(np.arctan2(points[:, 2], np.hypot(points[:, 0], points[:, 1])) / BAND).astype(np.int64)
    return np.asarray((band + int(rng.integers(every))) % every == 0)
