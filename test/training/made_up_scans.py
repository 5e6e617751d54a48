# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Data sets out of lists of points, for tests of accumulation."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from occle_core.geometry.grid import VoxelGrid
from occle_core.taxonomy import load

TAXONOMY = load("semantickitti")
CAR, ROAD, BUILDING, POLE = (TAXONOMY.id(name) for name in ("car", "road", "building", "pole"))
GRID = VoxelGrid((0, -2, -1), (10, 8, 4), 0.5)
WALL, BOX = 20.0, 1.0


class Scans:
    """A data set out of lists of (x, y, z, label), standing still unless poses are given."""

    kind, name, taxonomy = "made up", "test", TAXONOMY

    def __init__(self, scans, poses=None, moving=None, T_grid_lidar=None):
        self.scans = [np.array(scan, float).reshape(-1, 4) for scan in scans]
        self.poses = poses or [np.eye(4)] * len(scans)
        self.motion = moving or [np.zeros(len(scan), bool) for scan in scans]
        self.T_grid_lidar = np.eye(4) if T_grid_lidar is None else T_grid_lidar

    def __len__(self):
        return len(self.scans)

    def points(self, i):
        return self.scans[i].astype(np.float32)

    def point_labels(self, i):
        return self.scans[i][:, 3].astype(np.uint8)

    def pose(self, i):
        return self.poses[i]

    def moving(self, i):
        return self.motion[i]


def shift(x, y=0.0, z=0.0):
    pose = np.eye(4)
    pose[:3, 3] = x, y, z
    return pose


@dataclass
class Box:
    track: str
    T_world_box: np.ndarray
    size: tuple[float, float, float] = (0.4, 0.4, 0.4)


class TrackedScans(Scans):
    """Scans with boxes; labels are out of reach."""

    def __init__(self, scans, boxes, **more):
        super().__init__(scans, **more)
        self._boxes = boxes

    def boxes(self, i):
        return self._boxes[i]


def wall_scan(sensor, box):
    """What a LiDAR at `sensor` sees of a wall at y = 20 and of a box of 1 m whose nearest corner is at `box`; None for no box.

    Rays every half degree over 90 degrees of azimuth and 10 of elevation. Label column: 1 on the box.
    """
    azimuth, elevation = np.meshgrid(np.radians(np.arange(45, 135, 0.5)), np.radians(np.arange(-5, 5, 0.5)))
    rays = np.stack([np.cos(elevation) * np.cos(azimuth), np.cos(elevation) * np.sin(azimuth), np.sin(elevation)], -1).reshape(
        -1, 3
    )
    reach = (WALL - sensor[1]) / rays[:, 1]
    on_box = np.zeros(len(rays), bool)
    if box is not None:
        t = (box[1] - sensor[1]) / rays[:, 1]
        x = sensor[0] + t * rays[:, 0]
        on_box = (x >= box[0]) & (x < box[0] + BOX) & (t < reach)
        reach = np.where(on_box, t, reach)
    return np.concatenate([rays * reach[:, None], on_box[:, None]], 1)


def drive_past_a_wall(boxes, speed=0.5):
    """Scans of a sensor that moves along x, and their poses; `boxes` says where the box is in each."""
    places = [np.array([speed * i, 0.0, 0.0]) for i in range(len(boxes))]
    return Scans([wall_scan(place, box) for place, box in zip(places, boxes)], poses=[shift(place[0]) for place in places])
