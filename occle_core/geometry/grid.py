# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Voxel grids: which box of space is divided into which cells."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class VoxelGrid:
    """An axis-aligned box of cubic cells, indexed `[x, y, z]` in C order.

    Voxel (i, j, k) covers `origin + (i, j, k) * resolution` up to, not including, `origin + (i+1, j+1, k+1) * resolution`.

    Args:
        origin: (x, y, z) of the grid's lowest corner, metres, grid frame.
        shape: number of cells along x, y, z.
        resolution: edge length of a cell, metres.

    Raises:
        ValueError: the shape is not three positive whole numbers, or the resolution is not positive.
    """

    origin: tuple[float, float, float]
    shape: tuple[int, int, int]
    resolution: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "origin", tuple(float(v) for v in self.origin))
        object.__setattr__(self, "shape", tuple(int(v) for v in self.shape))
        object.__setattr__(self, "resolution", float(self.resolution))
        if len(self.origin) != 3 or len(self.shape) != 3 or min(self.shape) < 1:
            raise ValueError(
                f"a grid needs an origin of 3 numbers and a shape of 3 positive counts, not {self.origin} and {self.shape}"
            )
        if not self.resolution > 0:
            raise ValueError(f"a grid's resolution must be positive, not {self.resolution}")

    @property
    def size(self) -> int:
        """Number of cells."""
        return self.shape[0] * self.shape[1] * self.shape[2]

    @property
    def upper(self) -> tuple[float, float, float]:
        """(x, y, z) of the highest corner, metres, grid frame."""
        x, y, z = (o + n * self.resolution for o, n in zip(self.origin, self.shape))
        return (x, y, z)

    def index(self, points: NDArray[np.floating]) -> tuple[NDArray[np.int32], NDArray[np.bool_]]:
        """Cells that hold the points: `floor((p - origin) / resolution)` in float32, as the networks compute it.

        Args:
            points: (N, 3 or more) in the grid frame, metres; further columns are ignored.

        Returns:
            ijk (N, 3) int32, and inside (N,) bool: False where the point lies outside the grid or is not finite.
        """
        # Axis by axis: numpy is several times slower on rows of three.
        inside = np.ones(len(points), np.bool_)
        ijk: NDArray[np.int32] = np.zeros((len(points), 3), np.int32)
        scaled = np.empty((3, len(points)), np.float32)
        for axis, (origin, cells) in enumerate(zip(self.origin, self.shape)):
            np.subtract(points[:, axis], np.float32(origin), out=scaled[axis], dtype=np.float32)
            scaled[axis] /= np.float32(self.resolution)
            inside &= (scaled[axis] >= 0) & (scaled[axis] < cells)
        ijk[inside] = scaled[:, inside].T
        return ijk, inside

    def centers(self, ijk: NDArray[np.integer]) -> NDArray[np.float32]:
        """(N, 3) cell indices -> (N, 3) float32 centres in the grid frame, metres."""
        centers = (np.asarray(ijk, np.float64) + 0.5) * self.resolution + np.asarray(self.origin)
        return np.asarray(centers, np.float32)

    def centers_at(self, numbers: NDArray[np.integer], dtype: type[np.floating] = np.float32) -> NDArray[np.floating]:
        """(N,) numbers of cells in C order (`np.flatnonzero`) -> (N, 3) what `centers` gives, of any float type, much faster."""
        numbers = numbers.astype(np.min_scalar_type(self.size))  # division is faster the fewer bits it has
        columns = numbers // self.shape[2]
        lowest, heights = _column_centers(self, np.dtype(dtype))
        centers = np.take(lowest, columns, axis=0)
        centers[:, 2] = heights[numbers - columns * self.shape[2]]
        return centers

    def occupied(self, points: NDArray[np.floating]) -> NDArray[np.bool_]:
        """Grid (X, Y, Z) bool that is True in every cell that holds one of the points (N, 3+)."""
        ijk, inside = self.index(points)
        cells = np.zeros(self.shape, np.bool_)
        cells[tuple(ijk[inside].T)] = True
        return cells

    def coarser(self, factor: int) -> VoxelGrid:
        """The grid over the same box whose cells are `factor` times as long.

        Raises:
            ValueError: `factor` does not divide the shape.
        """
        if any(n % factor for n in self.shape):
            raise ValueError(f"cells of a {self.shape} grid cannot be grouped by {factor}")
        x, y, z = (n // factor for n in self.shape)
        return VoxelGrid(self.origin, (x, y, z), self.resolution * factor)

    def finer(self, factor: int) -> VoxelGrid:
        """The grid over the same box whose cells are `1 / factor` times as long."""
        x, y, z = (n * factor for n in self.shape)
        return VoxelGrid(self.origin, (x, y, z), self.resolution / factor)


@lru_cache(maxsize=8)
def _column_centers(grid: VoxelGrid, dtype: np.dtype[np.floating]) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
    """The centre of every column's lowest cell (X * Y, 3), and the heights of a column's cells (Z,)."""
    x, y, z = grid.shape
    lowest = grid.centers(np.stack([np.repeat(np.arange(x), y), np.tile(np.arange(y), x), np.zeros(x * y, np.intp)], 1))
    heights = grid.centers(np.stack([np.zeros(z, np.intp)] * 2 + [np.arange(z)], 1))[:, 2]
    return lowest.astype(dtype), heights.astype(dtype)


SEMANTICKITTI = VoxelGrid((0.0, -25.6, -2.0), (256, 256, 32), 0.2)
"""SemanticKITTI's completion volume in the LiDAR frame (SSCBench-KITTI-360 uses the same)."""

OCC3D_NUSCENES = VoxelGrid((-40.0, -40.0, -1.0), (200, 200, 16), 0.4)
"""Occ3D-nuScenes' volume in the ego frame."""
