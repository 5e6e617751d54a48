# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""LiDAR scans to measure on: simulated ones, which everybody has, and those of data sets on disk."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from occle_train.streets import simulate
from torch import Tensor

from occle_core.datasets import Dataset, DatasetError, list_scenes, open_dataset
from occle_core.geometry.grid import OCC3D_NUSCENES, SEMANTICKITTI


def scans(rigs: Sequence[str], data: Path | None = None) -> Iterator[tuple[str, Dataset]]:
    """(name, sequence): a simulated drive of each rig, and the first sequence of every data set at `data`.

    Args:
        rigs: of `occle_train.streets`.
        data: a data set, or a folder of data sets; None, and a path that is not there, stand for simulated drives alone.
    """
    for rig in rigs:
        with TemporaryDirectory() as folder:
            simulate(Path(folder), rig, drives=1, frames=1, seed=7, scale=0.05, workers=1)
            yield f"simulated {rig}", open_dataset(folder)
    for place in [data, *sorted(data.iterdir())] if data and data.is_dir() else []:
        if place.is_dir():
            try:
                scene = list_scenes(place)[0]
            except DatasetError:
                continue
            yield f"{place.name} {scene}", open_dataset(place, scene=scene)


def voxelised(dataset: Dataset, resolutions: Sequence[float]) -> Iterator[tuple[float, tuple[int, int, int], Tensor]]:
    """(resolution, shape, (N, 4) cells) of the first scan, in the official volume of the data set's kind."""
    coarse = OCC3D_NUSCENES if dataset.kind == "nuscenes" else SEMANTICKITTI.coarser(2)
    points = dataset.points(0)[:, :3] @ dataset.T_grid_lidar[:3, :3].T + dataset.T_grid_lidar[:3, 3]
    for resolution in resolutions:
        grid = coarse.finer(round(coarse.resolution / resolution))
        cells = torch.from_numpy(np.argwhere(grid.occupied(points)))
        yield resolution, grid.shape, torch.cat([torch.zeros(len(cells), 1, dtype=torch.int64), cells], 1)
