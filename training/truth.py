"""Voxel truth on a network's grid, which may be a part of the recorded one, coarser, or finer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from occle_core.datasets import Dataset
from occle_core.datasets.voxels import resample
from occle_core.grid import OCC3D_NUSCENES, SEMANTICKITTI, VoxelGrid
from training.accumulate import accumulate

RECORDED = {"nuscenes": OCC3D_NUSCENES, "semantickitti": SEMANTICKITTI}
"""What each layout records its truth on; other layouts give any grid that is asked for."""


def scored_grid(grid: VoxelGrid, dataset: Dataset) -> tuple[VoxelGrid, int]:
    """The grid on which predictions of `grid` can be compared with the truth, and how many of `grid`'s cells one of its is long.

    That is `grid` itself, and 1, unless its cells are smaller than the recorded ones.
    """
    recorded = RECORDED.get(dataset.kind, grid)
    finer = max(1, round(recorded.resolution / grid.resolution))
    return (grid, 1) if finer == 1 else (grid.coarser(finer), finer)


def voxel_truth(dataset: Dataset, i: int, grid: VoxelGrid) -> NDArray[np.uint8] | None:
    """(X, Y, Z) class ids, 255 unknown, or None where frame `i` has no truth; cells finer than recorded take their cell's label.

    Raises:
        DatasetError: the cells do not line up.
    """
    coarse, finer = scored_grid(grid, dataset)
    truth = dataset.truth(i, coarse)
    return truth if truth is None or finer == 1 else truth.repeat(finer, 0).repeat(finer, 1).repeat(finer, 2)


def accumulated(dataset: Dataset, i: int, grid: VoxelGrid) -> NDArray[np.uint8]:
    """(X, Y, Z) class ids from all labelled scans of the sequence and their poses; cells that no ray touched are unknown, 255.

    Raises:
        DatasetError: the data set has no poses or no point labels.
    """
    return accumulate(dataset, i, grid, before=len(dataset), after=len(dataset))


Truth = Callable[[Dataset, int, VoxelGrid], "NDArray[np.uint8] | None"]
TruthName = Literal["recorded", "accumulated"]
TRUTHS: dict[TruthName, Truth] = {"recorded": voxel_truth, "accumulated": accumulated}
"""Where a truth comes from; None where a frame has none."""


def sensor_mask(dataset: Dataset, i: int, grid: VoxelGrid, sensors: Sequence[str]) -> NDArray[np.bool_] | None:
    """(X, Y, Z) bool: cells that one of the sensors ("camera", "lidar") saw, or None where the data set does not say."""
    masks = dataset.masks(i)
    wanted = [masks[name] for name in sensors if name in masks]
    if not wanted:
        return None
    coarse, finer = scored_grid(grid, dataset)
    free = dataset.taxonomy.free
    seen = np.where(np.logical_or.reduce(wanted), np.uint8(free), np.uint8(255))
    cells = resample(seen, RECORDED.get(dataset.kind, coarse), coarse, dataset.taxonomy) != 255
    return np.asarray(cells.repeat(finer, 0).repeat(finer, 1).repeat(finer, 2))
