# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Classes of voxels out of 2D pseudo-labels: every point of a scan takes the label of the pixel that it is seen in, and votes.

MinkOcc teaches classes by rendering alone (Sze et al., Sec. IV-C). The scans that its occupancy is accumulated from say more: where
exactly the surface lies that a pixel shows. No voxel label and no point label is read.
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

from occle_core.datasets import Dataset
from occle_core.geometry.camera import Camera
from occle_core.geometry.grid import VoxelGrid
from occle_core.taxonomy import IGNORE
from occle_train.pseudo_labels.label_folder import LabelFolder
from occle_train.pseudo_labels.lidar import Moving, neighbours

REACH = 0.0125
"""Search radius around a point's pixel for points that hide it, share of the image's width: scans are sparser than images."""

BEHIND = 1.25
"""A point this many times as far as one beside it in the picture is hidden by it. The road is further from row to row as well, but
not by as much."""

SHARE = 0.5
"""The class of a cell has more than this share of its votes."""

PointLabels = tuple[NDArray[np.uint8], NDArray[np.float32]]
"""Class ids (N,) uint8, 255 unlabelled, and confidences (N,) float32, 0..1."""


def point_labels(dataset: Dataset, i: int, folder: LabelFolder) -> PointLabels:
    """Labels and confidences of the points of scan `i`, from the pixels that show them.

    Points that no labelled image shows, or that something nearer hides from the camera, are unlabelled. Where several cameras
    see a point, the most confident one decides.

    Raises:
        DatasetError: broken label files.
    """
    frame = dataset.frame(i)
    labels = np.full(len(frame.points), IGNORE, np.uint8)
    confidence = np.zeros(len(frame.points), np.float32)
    for name, camera in zip(dataset.camera_names, frame.cameras):
        if not folder.has(dataset, i, name):
            continue
        classes, sure = folder.read(dataset, i, name)
        seen, u, v = in_sight(frame.points, camera.resized(classes.shape[1], classes.shape[0]))
        better = sure[v, u] > confidence[seen]
        labels[seen[better]], confidence[seen[better]] = classes[v, u][better], sure[v, u][better]
    return labels, confidence


def in_sight(points: NDArray[np.floating], camera: Camera) -> tuple[NDArray[np.intp], NDArray[np.int64], NDArray[np.int64]]:
    """Points (N, 3 or more) of a scan that a camera sees: their numbers (M,), and their pixels' columns u (M,) and rows v (M,)."""
    uv, depth, visible = camera.project(points)
    rows = np.flatnonzero(visible)
    u, v = np.floor(uv[rows] + 0.5).astype(np.int64).T
    nearest = np.full((camera.height, camera.width), np.inf, np.float32)
    np.minimum.at(nearest, (v, u), depth[rows].astype(np.float32))
    size = 2 * reach_of(camera) + 1
    around = cv2.erode(nearest, np.ones((size, size), np.uint8))
    open_ = depth[rows] <= BEHIND * around[v, u]
    return rows[open_], u[open_], v[open_]


def reach_of(camera: Camera) -> int:
    """`REACH` in pixels, at least one."""
    return max(1, round(REACH * camera.width))


def lifted_labels(
    dataset: Dataset,
    index: int,
    grid: VoxelGrid,
    labels_of: Callable[[int], PointLabels],
    before: int,
    after: int = 0,
    moving: Moving = "remove",
    min_range: float = 0.0,
) -> NDArray[np.uint8]:
    """Classes of the cells around scan `index`, by the votes of its points and its neighbours', each as strong as it is sure.

    Args:
        dataset, index, grid, before, after, moving, min_range: see `accumulated_occupancy`.
        labels_of: the labels of a scan's points, see `point_labels`.

    Returns:
        (X, Y, Z) uint8 class ids, 255 where nobody voted, or no class has most of the votes.

    Raises:
        DatasetError: see `accumulated_occupancy`.
    """
    cells, classes, weights = [], [], []
    for scan in neighbours(dataset, index, before, after, moving, min_range):
        labels, confidence = (values[scan.rows] for values in labels_of(scan.number))
        ijk, inside = grid.index(scan.points)
        inside &= labels != IGNORE
        cells.append(np.ravel_multi_index(tuple(ijk[inside].T), grid.shape))
        classes.append(labels[inside])
        weights.append(confidence[inside])
    # The votes for each class of each cell; a class with more than half of them is the only one.
    keys, which = np.unique(np.concatenate(cells).astype(np.int64) * 256 + np.concatenate(classes), return_inverse=True)
    votes, cell = np.bincount(which, np.concatenate(weights)), keys // 256
    clear = votes > SHARE * np.bincount(cell, votes, grid.size)[cell]
    result = np.full(grid.size, IGNORE, np.uint8)
    result[cell[clear]] = (keys[clear] % 256).astype(np.uint8)
    return result.reshape(grid.shape)
