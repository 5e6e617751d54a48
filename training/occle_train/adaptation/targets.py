# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Targets of unlabelled frames: accumulated occupancy, and classes by the teacher's votes and by label images."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from occle_core.bundle import BundleSpec
from occle_core.datasets import Dataset
from occle_core.taxonomy import IGNORE, Taxonomy
from occle_train.adaptation.config import AdaptConfig
from occle_train.adaptation.teacher import ClassVolume, accumulated_votes
from occle_train.data.samples import SOLID
from occle_train.minkocc.fit import minkocc_config
from occle_train.pseudo_labels.lidar import FREE, OCCUPIED, UNKNOWN, accumulated_occupancy, neighbours
from occle_train.pseudo_labels.lift import PointLabels, lifted_labels
from occle_train.pseudo_labels.unlabelled import UnlabelledDataset


def carved_cells(dataset: UnlabelledDataset, i: int, spec: BundleSpec, config: AdaptConfig) -> NDArray[np.uint8]:
    """(X, Y, Z) uint8: 1 occupied, 0 free, 255 unknown, from scans and poses alone; see `accumulated_occupancy`."""
    min_range = minkocc_config(spec).points.min_range
    return accumulated_occupancy(
        dataset, i, spec.voxel_grid, config.past_frames, config.future_frames, "remove", min_range, config.free_margin
    )


def occupied_cells(dataset: UnlabelledDataset, i: int, spec: BundleSpec, config: AdaptConfig) -> NDArray[np.uint8]:
    """(X, Y, Z) uint8: 1 where `carved_cells` is, 255 elsewhere; the rays, which take the time, are not followed."""
    min_range = minkocc_config(spec).points.min_range
    hit = np.zeros(spec.voxel_grid.shape, np.bool_)
    for scan in neighbours(dataset, i, config.past_frames, config.future_frames, "remove", min_range):
        hit |= spec.voxel_grid.occupied(scan.points)
    return np.where(hit, OCCUPIED, UNKNOWN).astype(np.uint8)


def pixel_classes(
    dataset: UnlabelledDataset, i: int, spec: BundleSpec, config: AdaptConfig, labels_of: Callable[[int], PointLabels]
) -> NDArray[np.uint8]:
    """(X, Y, Z) uint8 classes that points take from label images, 255 none; see `lifted_labels`."""
    min_range = minkocc_config(spec).points.min_range
    return lifted_labels(dataset, i, spec.voxel_grid, labels_of, config.past_frames, config.future_frames, "remove", min_range)


def moving_cells(dataset: Dataset, i: int, spec: BundleSpec) -> NDArray[np.bool_]:
    """(X, Y, Z) cells that hold points of scan `i` in motion."""
    moving = dataset.moving(i)
    points = dataset.points(i)[:, :3] @ dataset.T_grid_lidar[:3, :3].T + dataset.T_grid_lidar[:3, 3]
    return spec.voxel_grid.occupied(points[moving] if moving is not None else points[:0])


def votes_for(
    dataset: Dataset,
    i: int,
    occupancy: NDArray[np.uint8],
    spec: BundleSpec,
    config: AdaptConfig,
    volume_of: Callable[[int], ClassVolume | None],
) -> NDArray[np.float32]:
    """(N, C) the teacher's votes for the occupied cells, in C order."""
    cells = np.argwhere(occupancy == OCCUPIED)
    in_motion = moving_cells(dataset, i, spec)[tuple(cells.T)]
    return accumulated_votes(dataset, i, cells, in_motion, spec, volume_of, config.past_frames, config.future_frames)


def target_of(
    occupancy: NDArray[np.uint8],
    votes: NDArray[np.floating],
    pixels: NDArray[np.uint8] | None,
    thresholds: NDArray[np.floating],
    classes: Taxonomy,
    pixel_weight: float,
) -> NDArray[np.uint8]:
    """The target of a frame.

    Rays have the last word on occupancy: a cell that they passed is free and one that holds points is occupied, whatever the
    teacher says. It names the classes of occupied cells only, where it is sure enough or the label images agree.

    Args:
        occupancy: (X, Y, Z) uint8: 1 occupied, 0 free, 255 unknown.
        votes: (N, C) probabilities for the occupied cells, in C order.
        pixels: (X, Y, Z) uint8 classes by label images, 255 none; None without images.
        thresholds: (C,) least confidence per class.
        classes: the taxonomy.
        pixel_weight: of a pixel's class beside the teacher's 1.

    Returns:
        (X, Y, Z) uint8: a class id, free's id, `SOLID` where occupied by an unknown class, 255 unknown.
    """
    target = np.full(occupancy.shape, IGNORE, np.uint8)
    target[occupancy == FREE] = classes.free
    occupied = occupancy == OCCUPIED
    seen = np.full(len(votes), IGNORE, np.uint8) if pixels is None else pixels[occupied]
    both = votes.copy()
    named = np.flatnonzero(seen != IGNORE)
    both[named, seen[named]] += pixel_weight
    winner = both.argmax(1)
    confidence = votes[np.arange(len(votes)), winner]
    sure = (both.max(1, initial=0) > 0) & ((confidence >= thresholds[winner]) | ((seen == winner) & (confidence > 0)))
    target[occupied] = np.where(sure, winner, SOLID)
    return target
