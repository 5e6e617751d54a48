# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""The map at one instant, as plain arrays: what layers, files and messages are made from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from occle_core.geometry.grid import VoxelGrid
from occle_core.mapping.config import UNITS, MapConfig
from occle_core.taxonomy import Taxonomy


@dataclass(frozen=True, eq=False)
class MapSnapshot:
    """A copy of the map.

    Args:
        log_odds: (X, Y, Z) int8 of occupancy, in steps of 1 / UNITS of natural log-odds; 0 is unknown.
        labels: (X, Y, Z) uint8 class ids of the taxonomy; 255 where no network has named a class.
        votes: (X, Y, Z) uint8, how far the class is ahead of others, in steps of 1 / UNITS of a fully confident frame.
        grid: where the cells lie, in `frame_id`.
        taxonomy: what the ids mean.
        config: the map's constants.
        stamp: of the last update, integer nanoseconds.
        robot: (x, y, z) of the robot at `stamp`, metres, in `frame_id`.
        frame_id: name of the frame that the map lies in.
    """

    log_odds: NDArray[np.int8]
    labels: NDArray[np.uint8]
    votes: NDArray[np.uint8]
    grid: VoxelGrid
    taxonomy: Taxonomy
    config: MapConfig
    stamp: int = 0
    robot: tuple[float, float, float] = (0.0, 0.0, 0.0)
    frame_id: str = ""

    @property
    def occupied(self) -> NDArray[np.bool_]:
        """(X, Y, Z) bool."""
        return np.asarray(self.log_odds > self.config.occupied_log_odds * UNITS)

    @property
    def free(self) -> NDArray[np.bool_]:
        """(X, Y, Z) bool; cells that are neither occupied nor free are unknown."""
        return np.asarray(self.log_odds < self.config.free_log_odds * UNITS)

    @property
    def probability(self) -> NDArray[np.float32]:
        """(X, Y, Z) float32, of occupancy; 0.5 where nothing is known."""
        return np.take(_PROBABILITIES, self.log_odds.view(np.uint8))

    def probability_at(self, cells: NDArray[np.intp]) -> NDArray[np.float32]:
        """(N,) float32, of occupancy in cells given by their flat numbers."""
        return _PROBABILITIES[self.log_odds.reshape(-1)[cells].view(np.uint8)]

    def voxels(self) -> tuple[NDArray[np.floating], NDArray[np.uint8], NDArray[np.float32]]:
        """The occupied cells as a list in C order of the grid.

        Returns:
            centres (N, 3) in `frame_id` (metres), float32, or float64 so far from its origin (65 km with cells of 0.4 m, as in UTM)
            that float32 would move them by a hundredth of a cell; labels (N,) uint8, probability of occupancy (N,) float32.
        """
        numbers = np.flatnonzero(self.occupied)
        centers: NDArray[np.floating] = self.grid.centers_at(numbers)
        if float32_step(self.grid) > self.grid.resolution / 100:
            cells = np.stack(np.unravel_index(numbers, self.grid.shape), axis=1)
            centers = (cells + 0.5) * self.grid.resolution + self.grid.origin
        return centers, self.labels.reshape(-1)[numbers], self.probability_at(numbers)


def float32_step(grid: VoxelGrid) -> float:
    """Largest distance between two neighbouring float32 coordinates of a grid, metres."""
    return float(np.spacing(np.float32(np.abs([grid.origin, grid.upper]).max())))


_PROBABILITIES: NDArray[np.float32] = (1 / (1 + np.exp(-np.arange(256, dtype=np.uint8).view(np.int8) / UNITS))).astype(np.float32)
