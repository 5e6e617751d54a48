# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Scores of a data set's kind, counted frame by frame: SemanticKITTI's and Occ3D's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from occle_core.datasets import Dataset
from occle_core.errors import EngineError
from occle_core.geometry.grid import SEMANTICKITTI, VoxelGrid
from occle_core.native import library
from occle_core.taxonomy import Taxonomy
from occle_train.data.truth import TruthReader, sensor_mask
from occle_train.metrics import CompletionMetrics, Occ3DMetrics, RayIoU, scene_origins


@dataclass(frozen=True, eq=False)
class ScoredFrame:
    """A frame's prediction and its truth, on the grid that is scored.

    Args:
        labels, target: (X, Y, Z) uint8 class ids, predicted and true; 255 unknown in the truth.
        hit: (X, Y, Z) cells that the scan hit.
        dataset, i: the frame.
        truth: reads its truth on another grid.
    """

    labels: NDArray[np.uint8]
    target: NDArray[np.uint8]
    hit: NDArray[np.bool_]
    dataset: Dataset
    i: int
    truth: TruthReader


class KittiScores:
    """SemanticKITTI's scores on the bundle's grid and, where that fills the official volume, on the official one."""

    def __init__(self, taxonomy: Taxonomy, grid: VoxelGrid) -> None:
        classes, ignore, self.free = taxonomy.num_classes, taxonomy.ignore, taxonomy.free
        self.factor = max(1, round(grid.resolution / SEMANTICKITTI.resolution))
        self.grid, self.scan = (CompletionMetrics(classes, ignore, self.free) for _ in range(2))
        self.official = CompletionMetrics(classes, ignore, self.free) if grid.finer(self.factor) == SEMANTICKITTI else None

    def update(self, frame: ScoredFrame) -> None:
        """Add a frame."""
        self.grid.update(frame.labels, frame.target)
        something = 0 if self.free else 1
        self.scan.update(np.where(frame.hit, something, self.free).astype(np.uint8), frame.target)
        if self.official and (fine := frame.truth(frame.dataset, frame.i, SEMANTICKITTI)) is not None:
            self.official.update(np.kron(frame.labels, np.ones((self.factor,) * 3, np.uint8)), fine)

    def release(self) -> None:
        """Let go of what cannot be sent to another process: nothing."""

    def merge(self, other: KittiScores | Occ3DScores) -> None:
        """Add what another one of this kind has counted."""
        assert isinstance(other, KittiScores)
        self.grid.merge(other.grid)
        self.scan.merge(other.scan)
        if self.official and other.official:
            self.official.merge(other.official)

    def result(self) -> dict[str, Any]:
        """See `evaluate`."""
        official = {"official": self.official.result()} if self.official else {}
        return {"grid": self.grid.result(), "scan": self.scan.result(), **official}


class Occ3DScores:
    """Occ3D's mIoU under the camera mask and RayIoU; completion over all known cells beside them."""

    def __init__(self, taxonomy: Taxonomy, grid: VoxelGrid) -> None:
        count, free = taxonomy.num_classes, taxonomy.free
        self.free, self.cells = free, grid
        self.grid, self.scan = Occ3DMetrics(count, free), Occ3DMetrics(count, free)
        self.masked, self.all_masked = Occ3DMetrics(count, free), True
        self.rays = RayIoU(grid, count, free, library=_kernels())
        self._poses: dict[str, list[NDArray[np.float64] | None]] = {}

    def update(self, frame: ScoredFrame) -> None:
        """Add a frame."""
        labels, target, dataset, i = frame.labels, frame.target, frame.dataset, frame.i
        known = target != 255
        camera = sensor_mask(dataset, i, self.cells, ("camera",))
        self.grid.update(labels, target, known)
        self.scan.update(np.where(frame.hit, 0, self.free).astype(np.uint8), target, known)
        if camera is None:
            self.all_masked = False
        else:
            self.masked.update(labels, target, known & camera)
        if dataset.name not in self._poses:
            self._poses = {dataset.name: [dataset.pose(k) for k in range(len(dataset))]}
        poses = [pose for pose in self._poses[dataset.name] if pose is not None]
        if len(poses) == len(dataset):
            self.rays.update(labels, target, scene_origins(np.stack(poses), i, dataset.T_grid_lidar))

    def release(self) -> None:
        """Let go of what cannot be sent to another process, the compiled kernels."""
        self.rays.library, self._poses = None, {}

    def merge(self, other: KittiScores | Occ3DScores) -> None:
        """Add what another one of this kind has counted."""
        assert isinstance(other, Occ3DScores)
        self.grid.merge(other.grid)
        self.scan.merge(other.scan)
        self.masked.merge(other.masked)
        self.rays.merge(other.rays)
        self.all_masked &= other.all_masked

    def result(self) -> dict[str, Any]:
        """See `evaluate`."""
        # The benchmark's score is under the camera mask; over all cells it would be another one.
        masked = {"occ3d": self.masked.result()} if self.all_masked else {}
        return {"grid": self.grid.result(), "scan": self.scan.result(), **masked, "rayiou": self.rays.result()}


def _kernels() -> library.Library | None:
    """The compiled kernels, built the first time; None without a compiler, where NumPy counts rays, only slower."""
    try:
        return library.load()
    except EngineError:
        return None
