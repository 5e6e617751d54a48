# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Figures of a frame's pseudo-labels: what is labelled, and where pixels and cells disagree."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from occle_core.datasets import Dataset
from occle_core.geometry.grid import VoxelGrid
from occle_core.taxonomy import IGNORE
from occle_train.pseudo_labels.cell_folder import Cells
from occle_train.pseudo_labels.lidar import FREE, OCCUPIED
from occle_train.pseudo_labels.lift import PointLabels


@dataclass(frozen=True, eq=False)
class FrameStatistics:
    """Figures of a frame.

    Args:
        dataset, number: the frame, by its place in the sequence.
        pixels: (256,) pixels per class id of its label images; 255 unlabelled.
        cells: (256,) occupied cells per class id; 255 without a class.
        free, unknown: cells.
        moving: points in motion, and points.
        pairs: (256, 256) points by the class of their pixel and the class of their cell, where both have one.
    """

    dataset: Dataset
    number: int
    pixels: NDArray[np.int64]
    cells: NDArray[np.int64]
    free: int
    unknown: int
    moving: tuple[int, int]
    pairs: NDArray[np.int64]

    @property
    def occupied(self) -> int:
        """Occupied cells."""
        return int(self.cells.sum())

    @property
    def with_class(self) -> float:
        """Share of the occupied cells that have a class; 0 without any."""
        return float(self.cells[:IGNORE].sum() / max(self.occupied, 1))

    @property
    def disagreement(self) -> float:
        """Share of the points whose pixel and cell have different classes; 0 without any."""
        return float(1 - np.trace(self.pairs) / self.pairs.sum()) if self.pairs.any() else 0.0


def frame_statistics(
    dataset: Dataset, i: int, grid: VoxelGrid, cells: Cells, points: PointLabels, images: list[NDArray[np.uint8]]
) -> FrameStatistics:
    """Figures of frame `i`.

    Args:
        dataset: the sequence.
        i: the frame.
        grid: of the cells.
        cells: its 3D labels.
        points: labels of its points, see `point_labels`.
        images: class ids of its label images, 255 unlabelled.
    """
    pixels = sum((np.bincount(image.ravel(), minlength=256) for image in images), np.zeros(256, np.int64))
    occupied = cells.occupancy == OCCUPIED
    scan = dataset.points(i)
    ijk, inside = grid.index(scan[:, :3] @ dataset.T_grid_lidar[:3, :3].T + dataset.T_grid_lidar[:3, 3])
    own, voted = points[0][inside], cells.classes[tuple(ijk[inside].T)]
    both = (own != IGNORE) & (voted != IGNORE)
    pairs = np.zeros((256, 256), np.int64)
    np.add.at(pairs, (own[both], voted[both]), 1)
    counts = np.bincount(cells.classes[occupied], minlength=256)
    free = int((cells.occupancy == FREE).sum())
    unknown = grid.size - free - int(occupied.sum())
    return FrameStatistics(dataset, i, pixels, counts, free, unknown, (int(cells.moving.sum()), len(cells.moving)), pairs)


def worst_frames(frames: list[FrameStatistics], count: int) -> list[int]:
    """Numbers of the frames to look at first: those with the most disagreement, then those with the fewest classes."""
    return sorted(range(len(frames)), key=lambda n: (-frames[n].disagreement, frames[n].with_class))[:count]
