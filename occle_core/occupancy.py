# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Occupancy: the labelled voxel grid that a Predictor makes of a Frame."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from occle_core.geometry.grid import VoxelGrid
from occle_core.taxonomy import Taxonomy


@dataclass(frozen=True, eq=False)
class SparseLabels:
    """Class ids and confidence of the cells that are not free; volumes are made when they are asked for, and kept.

    Args:
        cells: (N,) int32 numbers of the cells in C order of the grid, each once, in the order of the engine.
        classes: (N,) uint8 class ids.
        scores: (N,) float16 in 0..1, the class's softmax probability.
        shape: (X, Y, Z) of the grid.
        free: class id of all other cells.
    """

    cells: NDArray[np.int32]
    classes: NDArray[np.uint8]
    scores: NDArray[np.float16]
    shape: tuple[int, int, int]
    free: int

    @classmethod
    def of_volumes(cls, labels: NDArray[np.uint8], confidence: NDArray[np.float16], free: int) -> SparseLabels:
        """The cells of (X, Y, Z) volumes that are not free; such a volume is not made again."""
        x, y, z = labels.shape
        cells = np.flatnonzero(labels != free).astype(np.int32)
        made = cls(cells, labels.reshape(-1)[cells], confidence.reshape(-1)[cells], (x, y, z), free)
        made.__dict__["labels"] = labels
        return made

    def renamed(self, table: NDArray[np.uint8], free: int) -> SparseLabels:
        """With other class ids, table[id]; cells that become `free` are left out."""
        renamed = replace(self, classes=table[self.classes], free=free)
        return renamed[renamed.classes != free]

    def __getitem__(self, kept: NDArray[np.bool_]) -> SparseLabels:
        """The cells of a mask (N,) alone."""
        return replace(self, cells=self.cells[kept], classes=self.classes[kept], scores=self.scores[kept])

    @cached_property
    def labels(self) -> NDArray[np.uint8]:
        """(X, Y, Z) uint8 class ids."""
        return self.volume(self.classes, np.uint8(self.free))

    @cached_property
    def confidence(self) -> NDArray[np.float16]:
        """(X, Y, Z) float16, 0 in free cells."""
        return self.volume(self.scores, np.float16(0))

    def volume(self, values: NDArray[Any], others: Any) -> NDArray[Any]:
        """(X, Y, Z) of values (N,), with one value in all other cells."""
        made = np.full(self.shape, others, values.dtype) if others else np.zeros(self.shape, values.dtype)
        made.reshape(-1)[self.cells] = values
        return made


@dataclass(frozen=True, eq=False)
class Occupancy:
    """A labelled voxel grid: a list of its cells that are not free. Volumes are made when they are asked for, and kept.

    Args:
        sparse: those cells with their classes, ids of the taxonomy.
        grid: where the cells lie, in `frame_id`.
        taxonomy: what the ids mean.
        stamp: the LiDAR scan's time, integer nanoseconds.
        frame_id: name of the grid frame.
        timings: milliseconds spent per stage of the prediction.
        overflow: cells (or points) that did not fit the engine's capacities and were left out, the farthest, per table.
        short_history: why a network of several frames saw copies in place of past ones, see `History`; empty where it did not.
        occupied_scores: (N,) float16 in 0..1, calibrated probability of occupancy; None where the bundle has no calibration.
        free_score: that of all other cells.
        unseen: (X, Y, Z) bool, free cells that no sensor saw, see `occle_core.visibility`; None where nobody looked.
    """

    sparse: SparseLabels
    grid: VoxelGrid
    taxonomy: Taxonomy
    stamp: int = 0
    frame_id: str = ""
    timings: dict[str, float] = field(default_factory=dict)
    overflow: dict[str, int] = field(default_factory=dict)
    short_history: str = ""
    occupied_scores: NDArray[np.float16] | None = None
    free_score: float = 0.0
    unseen: NDArray[np.bool_] | None = None

    @classmethod
    def of_volumes(
        cls, labels: NDArray[np.uint8], confidence: NDArray[np.float16], grid: VoxelGrid, taxonomy: Taxonomy, **others: Any
    ) -> Occupancy:
        """From (X, Y, Z) class ids and confidence; `others` as of the class."""
        return cls(SparseLabels.of_volumes(labels, confidence, taxonomy.free), grid, taxonomy, **others)

    @cached_property
    def labels(self) -> NDArray[np.uint8]:
        """(X, Y, Z) uint8 class ids; the taxonomy's free class where nothing is, 255 where a free cell is unseen."""
        if self.unseen is None:
            return self.sparse.labels
        labels = self.sparse.labels.copy()
        labels[self.unseen] = self.taxonomy.ignore
        return labels

    @property
    def confidence(self) -> NDArray[np.float16]:
        """(X, Y, Z) float16 in 0..1, the class's softmax probability; 0 in free cells."""
        return self.sparse.confidence

    @cached_property
    def probability(self) -> NDArray[np.float16] | None:
        """(X, Y, Z) float16 in 0..1, calibrated probability of occupancy; None where the bundle has no calibration."""
        if self.occupied_scores is None:
            return None
        return self.sparse.volume(self.occupied_scores, np.float16(self.free_score))

    @cached_property
    def occupied(self) -> NDArray[np.bool_]:
        """(X, Y, Z) bool: the cell is neither free nor unknown."""
        return self.sparse.volume(self.sparse.classes != self.taxonomy.ignore, np.False_)

    def voxels(self) -> tuple[NDArray[np.float32], NDArray[np.uint8], NDArray[np.float32]]:
        """The occupied cells as a list.

        Returns:
            centres (N, 3) float32 in the grid frame (metres), labels (N,) uint8, confidence (N,) float32.
        """
        known = self.sparse.classes != self.taxonomy.ignore
        cells, labels, scores = self.sparse.cells, self.sparse.classes, self.sparse.scores
        if not known.all():
            cells, labels, scores = cells[known], labels[known], scores[known]
        return self.grid.centers_at(cells), labels, scores.astype(np.float32)
