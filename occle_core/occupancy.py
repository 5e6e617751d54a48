# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Occupancy: the labelled voxel grid that a Predictor makes of a Frame."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from occle_core.geometry.grid import VoxelGrid
from occle_core.taxonomy import Taxonomy


@dataclass(frozen=True, eq=False)
class Occupancy:
    """A labelled voxel grid.

    Args:
        labels: (X, Y, Z) uint8 class ids of the taxonomy; its free class where nothing is.
        confidence: (X, Y, Z) float16 in 0..1, the class's softmax probability; 0 in free cells.
        grid: where the cells lie, in `frame_id`.
        taxonomy: what the ids mean.
        stamp: the LiDAR scan's time, integer nanoseconds.
        frame_id: name of the grid frame.
        timings: milliseconds spent per stage of the prediction.
        overflow: cells (or points) that did not fit the engine's capacities and were left out, the farthest, per table.
        short_history: why a network of several frames saw copies in place of past ones, see `History`; empty where it did not.
        probability: (X, Y, Z) float16 in 0..1, calibrated probability of occupancy; None where the bundle has no calibration.
    """

    labels: NDArray[np.uint8]
    confidence: NDArray[np.float16]
    grid: VoxelGrid
    taxonomy: Taxonomy
    stamp: int = 0
    frame_id: str = ""
    timings: dict[str, float] = field(default_factory=dict)
    overflow: dict[str, int] = field(default_factory=dict)
    short_history: str = ""
    probability: NDArray[np.float16] | None = None

    @property
    def occupied(self) -> NDArray[np.bool_]:
        """(X, Y, Z) bool: the cell is neither free nor unknown."""
        return np.asarray((self.labels != self.taxonomy.free) & (self.labels != self.taxonomy.ignore))

    def voxels(self) -> tuple[NDArray[np.float32], NDArray[np.uint8], NDArray[np.float32]]:
        """The occupied cells as a list in C order of the grid.

        Returns:
            centres (N, 3) float32 in the grid frame (metres), labels (N,) uint8, confidence (N,) float32.
        """
        numbers = np.flatnonzero(self.occupied)
        centers = self.grid.centers_at(numbers)
        return centers, self.labels.reshape(-1)[numbers], self.confidence.reshape(-1)[numbers].astype(np.float32)
