# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Small frames for tests of the viewers."""

from __future__ import annotations

import numpy as np

from occle_core import taxonomy
from occle_core.frame import Frame
from occle_core.geometry.grid import VoxelGrid
from occle_core.occupancy import Occupancy
from occle_core.viewer.view_frame import ViewFrame

CLASSES = taxonomy.load("semantickitti")
CAR, ROAD, BUILDING = (CLASSES.id(name) for name in ("car", "road", "building"))
GRID = VoxelGrid((0.0, -3.2, -1.6), (16, 16, 7), 0.4)  # 1792 cells; the height is odd, so that no axis ends at a byte
SECOND = 1_000_000_000


def view_frame(number=0, world=(0.0, 0.0, 0.0), timings=None, names=("cam2",), classes=CLASSES, pose=True, truth=True):
    """A street of three classes with confidences of all sizes; it drives 0.4 m per frame."""
    rng = np.random.default_rng(number)
    labels = np.zeros(GRID.shape, np.uint8)
    labels[:, 4:12, 0] = ROAD
    labels[5:9, 6:9, 1:4] = CAR  # solid: it has an inner cell
    labels[12:, :3, 1:6] = BUILDING
    labels[15, 15, 6] = BUILDING  # the last cell of all
    labels[0, 0, 6] = 255
    confidence = np.where((labels != 0) & (labels != 255), rng.uniform(0, 1, GRID.shape), 0).astype(np.float16)
    occupancy = Occupancy.of_volumes(
        labels,
        confidence,
        GRID,
        classes,
        stamp=(number + 1) * SECOND // 10,
        frame_id="velodyne",
        timings=timings or {"prepare": 4.5},
    )
    T = np.eye(4)
    T[:3, 3] = np.asarray(world) + (0.4 * number, 0, 0)
    points = np.zeros((5, 4), np.float32) + (3.0, 0.5, -1.0, 0.0)
    frame = Frame(occupancy.stamp, points.astype(np.float32), T_world_lidar=T if pose else None)
    images = {name: np.full((60, 160, 3), (200, 30, 30), np.uint8) for name in names}
    return ViewFrame(
        number, occupancy, frame, images, truth=np.where(labels == CAR, 255, labels).astype(np.uint8) if truth else None
    )
