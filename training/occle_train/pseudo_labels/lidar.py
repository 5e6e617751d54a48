# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Occupancy out of several LiDAR scans: the weak 3D target P_acc of MinkOcc (Sze et al., Sec. III and IV-A). No label is read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

import cv2
import numpy as np
from numpy.typing import NDArray

from occle_core.datasets import Dataset, DatasetError
from occle_core.datasets.poses import TrackedBox, inside_oriented_box
from occle_core.frame import RayOrigins
from occle_core.geometry.grid import VoxelGrid
from occle_core.taxonomy import IGNORE
from occle_train.data.accumulate import T_grid_world, crossed_cells, in_motion, placed, placed_sweeps, traversed

FREE, OCCUPIED, UNKNOWN = 0, 1, IGNORE

Moving = Literal["keep", "remove", "carry"]


@runtime_checkable
class MovingBoxDataset(Protocol):
    """A data set that knows the boxes of what moves."""

    def boxes(self, i: int) -> Sequence[TrackedBox]:
        """The boxes of the objects in motion in frame `i`."""


def accumulated_occupancy(
    dataset: Dataset,
    index: int,
    grid: VoxelGrid,
    before: int,
    after: int = 0,
    moving: Moving = "remove",
    min_range: float = 0.0,
    margin: int = 2,
    sweeps: int = 0,
) -> NDArray[np.uint8]:
    """Occupancy around scan `index`, accumulated from it and its neighbours in time.

    A cell that holds a point is occupied. Of the others, those that a ray from the sensor to a point crosses are free, unless an
    occupied one is near them at the same height; the rest is unknown. The margin is there because rays graze surfaces: between
    two rings of points on a street they cross cells that the street fills too. (On four simulated streets two cells of it took
    away 72 to 96 % of the cells that were wrongly called free, and 7 to 22 % of those that rightly were.)

    An object in motion would be smeared along its way:

    - "keep" smears it;
    - "remove" drops its points from all scans but `index` (nuScenes knows them by boxes, SemanticKITTI by point labels; an
      `UnlabelledDataset` by ray evidence, which needs no human labels);
    - "carry" moves them with the object's box to where that is in scan `index`; those of objects that are not there are
      dropped.

    Rays to a moving object's points free what they cross in any case.

    Args:
        dataset: a sequence with poses.
        index: the reference scan, whose grid frame the result is in.
        grid: the cells.
        before: how many scans before it to add (the paper's K); the sequence's start shortens this.
        after: how many scans after it to add (the paper: none); the sequence's end shortens this.
        moving: what happens to objects in motion.
        min_range: points within this horizontal distance of the sensor are the vehicle itself and are left out, metres.
        margin: how near to an occupied cell nothing is called free, cells along x and y; 0 frees every crossed cell.
        sweeps: how many scans before each frame to add, where the data set has some between its frames (nuScenes: ten). Nothing
            is carried in them or removed from them: boxes are of frames.

    Returns:
        (X, Y, Z) uint8: 1 occupied, 0 free, 255 unknown.

    Raises:
        DatasetError: scan `index` has no pose (others without are left out), or it is not known what moves.
    """
    hit = np.zeros(grid.shape, np.bool_)
    free = np.zeros(grid.shape, np.bool_)
    for scan in neighbours(dataset, index, before, after, moving, min_range):
        free |= crossed_cells(scan.origins, scan.ends, grid)
        hit |= grid.occupied(scan.points)
    for points, origin in placed_sweeps(dataset, index, before, after, sweeps, min_range):
        free |= traversed(origin, points, grid)
        hit |= grid.occupied(points)
    return carved(hit, free, margin)


def carved(hit: NDArray[np.bool_], crossed: NDArray[np.bool_], margin: int) -> NDArray[np.uint8]:
    """Occupancy (X, Y, Z) out of the cells that hold points and those that rays cross; see `accumulated_occupancy`."""
    free = crossed
    if margin:
        # The heights are the picture's channels: nothing spreads between them.
        free = crossed & (cv2.dilate(hit.astype(np.uint8), np.ones((2 * margin + 1, 2 * margin + 1), np.uint8)) == 0)
    return np.where(hit, OCCUPIED, np.where(free, FREE, UNKNOWN)).astype(np.uint8)


@dataclass(frozen=True, eq=False)
class PlacedScan:
    """A scan in the grid frame of another one.

    Args:
        number: of its frame.
        origins: where its rays began, metres.
        ends: (N, 3) where they ended, metres.
        points: (M, 3) the surfaces that they found, as far as these are known to be there at the other scan's time, metres.
        rows: (M,) which of the scan's points these are.
    """

    number: int
    origins: RayOrigins
    ends: NDArray[np.float64]
    points: NDArray[np.float64]
    rows: NDArray[np.intp]


def neighbours(dataset: Dataset, index: int, before: int, after: int, moving: Moving, min_range: float) -> Iterator[PlacedScan]:
    """Scan `index` and its neighbours in time; for the arguments and errors see `accumulated_occupancy`."""
    if moving == "carry" and not isinstance(dataset, MovingBoxDataset):
        raise DatasetError(
            f"{dataset.kind} {dataset.name} has no boxes to carry points along with; set moving points to rays, remove or keep "
            "(occle-train fit: --set recipe.moving_points=rays)"
        )
    T = T_grid_world(dataset, index)
    for i in range(max(index - before, 0), min(index + after, len(dataset) - 1) + 1):
        if dataset.pose(i) is None:
            continue  # nobody knows where it was taken
        rows = np.flatnonzero(np.hypot(*dataset.points(i)[:, :2].T) >= min_range)
        points, origins = placed(dataset, i, T)
        ends, origins = points[rows], origins.of(rows)
        points = ends
        if i != index and moving == "remove":
            stay = ~in_motion(dataset, i)[rows]
            points, rows = points[stay], rows[stay]
        elif i != index and isinstance(dataset, MovingBoxDataset) and moving == "carry":
            points, stay = _carried(points, dataset.boxes(i), dataset.boxes(index), T)
            points, rows = points[stay], rows[stay]
        yield PlacedScan(i, origins, ends, points, rows)


def _carried(
    points: NDArray[np.float64], then: Sequence[TrackedBox], now: Sequence[TrackedBox], T: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Points (N, 3) in the grid frame, those in `then`'s boxes moved to the same objects' boxes of `now`, and which are left."""
    targets = {box.track: T @ box.T_world_box for box in now}
    points, gone = points.copy(), np.zeros(len(points), np.bool_)
    taken = np.zeros(len(points), np.bool_)
    for box in then:
        source = T @ box.T_world_box
        inside = inside_oriented_box(points, source, box.size) & ~taken
        taken |= inside
        if box.track in targets:
            move = targets[box.track] @ np.linalg.inv(source)
            points[inside] = points[inside] @ move[:3, :3].T + move[:3, 3]
        else:
            gone |= inside
    return points, ~gone
