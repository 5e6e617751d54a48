# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Voxel truth on a network's grid, which may be a part of the recorded one, coarser, or finer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from occle_core.datasets import Dataset
from occle_core.datasets.files import warn_once
from occle_core.datasets.recordings.sequence import SequenceDataset
from occle_core.datasets.voxels import resample
from occle_core.geometry.grid import OCC3D_NUSCENES, SEMANTICKITTI, VoxelGrid
from occle_core.taxonomy import IGNORE
from occle_train.data.accumulate import accumulate

RECORDED = {"nuscenes": OCC3D_NUSCENES, "semantickitti": SEMANTICKITTI, "kitti360": SEMANTICKITTI}
"""Grid of each layout's recorded truth; other layouts give any grid that is asked for."""


def recorded_grid(dataset: Dataset, asked: VoxelGrid) -> VoxelGrid:
    """The grid of a data set's recorded truth: the layout's or the rig's; where there is none, the one that is asked for."""
    rig = dataset.rig if isinstance(dataset, SequenceDataset) else None
    return rig.grid.grid if rig is not None and rig.grid is not None else RECORDED.get(dataset.kind, asked)


def scored_grid(grid: VoxelGrid, dataset: Dataset) -> tuple[VoxelGrid, int]:
    """The grid on which predictions of `grid` can be compared with the truth, and how many of `grid`'s cells one of its is long.

    That is `grid` itself, and 1, unless its cells are smaller than the recorded ones.
    """
    recorded = recorded_grid(dataset, grid)
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
    return accumulate(dataset, i, grid, before=len(dataset), after=len(dataset), sweeps=SWEEPS)


SWEEPS = 10
"""Scans before each labelled one that add free space, as many as nuScenes' users read."""

MaskName = Literal["camera", "lidar", "either", "none"]
MASKS: dict[MaskName, tuple[str, ...]] = {
    "camera": ("camera",),
    "lidar": ("lidar",),
    "either": ("camera", "lidar"),
    "none": (),
}
"""Whose sight makes a cell of a recorded truth count, where the data set says what its sensors saw: Occ3D's benchmark takes the
camera's."""

TruthReader = Callable[[Dataset, int, VoxelGrid], "NDArray[np.uint8] | None"]
TruthName = Literal["recorded", "accumulated"]
TRUTHS: dict[TruthName, TruthReader] = {"recorded": voxel_truth, "accumulated": accumulated}
"""Reads the truth of a frame; None where it has none."""


def calls_unseen_free(dataset: Dataset) -> bool:
    """Whether recorded truths call cells that no sensor saw free, and leave it to masks to say so, as Occ3D's do."""
    return dataset.kind == "nuscenes"


def known_truth(
    dataset: Dataset, i: int, grid: VoxelGrid, sensors: Sequence[str], truth: TruthReader = voxel_truth
) -> NDArray[np.uint8] | None:
    """A frame's truth with 255 where a recorded one calls cells free that none of the sensors ("camera", "lidar") saw.

    Args:
        dataset: with a truth.
        i: number of the frame.
        grid: not finer than the recorded one.
        sensors: whose sight makes a cell known.
        truth: reads the truth; only the recorded one has masks.
    """
    found = truth(dataset, i, grid)
    seen = sensor_mask(dataset, i, grid, sensors) if truth is voxel_truth and calls_unseen_free(dataset) else None
    return found if found is None or seen is None else np.where(seen, found, IGNORE).astype(np.uint8)


def sensor_mask(dataset: Dataset, i: int, grid: VoxelGrid, sensors: Sequence[str]) -> NDArray[np.bool_] | None:
    """(X, Y, Z) bool: cells that one of the sensors ("camera", "lidar") saw; None where none is asked for or recorded.

    That a truth of Occ3D lacks a mask is logged once for a scene.
    """
    masks = dataset.masks(i) if sensors else {}
    wanted = [masks[name] for name in sensors if name in masks]
    if len(wanted) < len(sensors) and calls_unseen_free(dataset) and dataset.has_truth(i):
        lacking = " and ".join(name for name in sensors if name not in masks)
        warn_once(f"{dataset.name}: its truths have no mask of the {lacking}{'' if wanted else '; all of their cells count'}")
    if not wanted:
        return None
    coarse, finer = scored_grid(grid, dataset)
    free = dataset.taxonomy.free
    seen = np.where(np.logical_or.reduce(wanted), np.uint8(free), np.uint8(255))
    cells = resample(seen, recorded_grid(dataset, coarse), coarse, dataset.taxonomy) != 255
    return np.asarray(cells.repeat(finer, 0).repeat(finer, 1).repeat(finer, 2))
