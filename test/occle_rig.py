# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""A small street for OccLE's tests: a grid, cameras and random scans of two poses."""

import numpy as np

from occle_core.frame import Frame
from occle_core.geometry.camera import Camera
from occle_core.geometry.grid import VoxelGrid

GRID = VoxelGrid((0.0, -6.4, -2.0), (32, 32, 16), 0.4)
AHEAD = np.array([[0, -1, 0, 0], [0, 0, -1, -0.1], [1, 0, 0, -0.2], [0, 0, 0, 1.0]])
ASIDE = np.array([[-0.6, -0.8, 0, 0], [0, 0, -1, -0.1], [0.8, -0.6, 0, -0.2], [0, 0, 0, 1.0]])


def frame(seed=0, cameras=1, points=1500):
    rng = np.random.default_rng(seed)
    scan = rng.uniform([0, -6.4, -2, 0], [12.8, 6.4, 4.4, 1], (points, 4)).astype(np.float32)
    rig = [Camera([[50, 0, 31.5], [0, 50, 15.5], [0, 0, 1]], pose, 64, 32) for pose in (AHEAD, ASIDE)[:cameras]]
    images = [rng.integers(0, 255, (32, 64, 3), dtype=np.uint8) for _ in rig]
    return Frame(0, scan, images, rig)


def moved(metres):
    """T_world_lidar of a vehicle that stands so far along x."""
    pose = np.eye(4)
    pose[0, 3] = metres
    return pose
