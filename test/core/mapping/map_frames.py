# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Small frames for tests of the map."""

from dataclasses import replace

import numpy as np

from occle_core import taxonomy
from occle_core.frame import Frame
from occle_core.geometry.grid import VoxelGrid
from occle_core.occupancy import Occupancy

CLASSES = taxonomy.load("semantickitti")
CAR, PERSON, ROAD, BUILDING = (CLASSES.id(name) for name in ("car", "person", "road", "building"))
GRID = VoxelGrid((0.0, -3.2, -1.6), (16, 16, 8), 0.4)
SECOND = 1_000_000_000


def pose(x=0.0, y=0.0, z=0.0, yaw=0.0):
    T = np.eye(4)
    T[:2, :2] = [[np.cos(yaw), -np.sin(yaw)], [np.sin(yaw), np.cos(yaw)]]
    T[:3, 3] = x, y, z
    return T


def occupancy(cells=(), label=BUILDING, stamp=0, grid=GRID, base=0, probability=0.95, free=0.02):
    """An occupancy whose listed cells carry a label, or labels of their own {cell: label}; all others carry `base`."""
    labels = np.full(grid.shape, base, np.uint8)
    for cell in cells:
        labels[cell] = cells[cell] if isinstance(cells, dict) else label
    named = (labels != 0) & (labels != 255)
    sure = np.where(named, np.float16(0.9), np.float16(0))
    made = Occupancy.of_volumes(labels, sure, grid, CLASSES, stamp=stamp, free_score=free)
    return replace(made, occupied_scores=np.full(len(made.sparse.cells), probability, np.float16))


def scan(points=(), stamp=0):
    xyz = np.asarray(points, np.float32).reshape(-1, 3)
    return Frame(stamp, np.c_[xyz, np.zeros(len(xyz), np.float32)])


def center(cell, grid=GRID):
    """Metres, grid frame."""
    return np.asarray(grid.origin) + (np.asarray(cell) + 0.5) * grid.resolution


def state(snapshot, point):
    """(log-odds in steps, label) of the map's cell at a point, metres."""
    cell = np.floor((np.asarray(point) - snapshot.grid.origin) / snapshot.grid.resolution).astype(int)
    return int(snapshot.log_odds[tuple(cell)]), int(snapshot.labels[tuple(cell)])
