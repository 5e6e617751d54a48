# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Features on the active cells of a grid."""

from __future__ import annotations

import torch
from torch import Tensor

from occle_core.sparse.coordinates import Coordinates, Shape, take


class SparseTensor:
    """A feature vector per active cell of a batch of equally shaped grids.

    Args:
        features: (N, C) float.
        coords: (N, 4) integer batch, x, y, z; (N, 3) x, y, z for a single grid.
        shape: cells of a grid along x, y, z.
        batch_size: number of grids.

    Raises:
        ValueError: features and coordinates do not fit, or a cell is outside or stands twice.
    """

    def __init__(self, features: Tensor, coords: Tensor, shape: Shape, batch_size: int = 1) -> None:
        if coords.ndim != 2 or coords.shape[1] not in (3, 4) or features.ndim != 2 or len(features) != len(coords):
            raise ValueError(
                f"features {tuple(features.shape)} and coords {tuple(coords.shape)}: expected (N, C) and (N, 4) or (N, 3)"
            )
        if coords.shape[1] == 3:
            coords = torch.cat([torch.zeros_like(coords[:, :1]), coords], 1)
        self.features = features
        self.coordinates = Coordinates.from_coords(coords, (shape[0], shape[1], shape[2]), batch_size)

    @classmethod
    def at(cls, coordinates: Coordinates, features: Tensor) -> SparseTensor:
        """Features (N, C) on cells that are known to be right, such as another tensor's."""
        new = cls.__new__(cls)
        new.features = features
        new.coordinates = coordinates
        return new

    def with_features(self, features: Tensor) -> SparseTensor:
        """Other features (N, D) on the same cells."""
        return SparseTensor.at(self.coordinates, features)

    def __len__(self) -> int:
        return len(self.coordinates)

    @property
    def coords(self) -> Tensor:
        """(N, 4) int64 batch, x, y, z."""
        return self.coordinates.coords

    @property
    def shape(self) -> Shape:
        """Cells of a grid along x, y, z."""
        return self.coordinates.shape

    @property
    def batch_size(self) -> int:
        """Number of grids."""
        return self.coordinates.batch_size

    def dense(self, fill: float = 0.0) -> Tensor:
        """(B, C, X, Y, Z) with `fill` in inactive cells."""
        channels = [self.coordinates.volume(channel, fill) for channel in self.features.unbind(1)]
        return torch.stack(channels, 1)

    def at_cells(self, volume: Tensor) -> Tensor:
        """Values of a dense (B, X, Y, Z) volume at the active cells, (N,)."""
        batch, x, y, z = self.coords.unbind(1)
        return volume[batch, x, y, z]


def prune(x: SparseTensor, keep: Tensor) -> SparseTensor:
    """Only the cells where `keep` (N,) bool is True, in the same order."""
    return SparseTensor.at(*x.coordinates.pruned(x.features, keep))


def add_at(a: SparseTensor, b: SparseTensor) -> SparseTensor:
    """b's features added to a's where both are active; the cells stay a's.

    Raises:
        ValueError: the grids or the channel counts differ.
    """
    _check_alike(a, b)
    return a.with_features(a.features + take(b.features, b.coordinates.rows_at(a.coordinates.keys)))


def union_add(a: SparseTensor, b: SparseTensor) -> SparseTensor:
    """Features added where both are active, taken over where one is: a's cells in their order, then b's others.

    Raises:
        ValueError: the grids or the channel counts differ.
    """
    _check_alike(a, b)
    return SparseTensor.at(*a.coordinates.union(a.features, b.coordinates, b.features))


def _check_alike(a: SparseTensor, b: SparseTensor) -> None:
    if a.shape != b.shape or a.batch_size != b.batch_size or a.features.shape[1] != b.features.shape[1]:
        raise ValueError(f"cannot add {b.features.shape[1]} channels on {b.shape} to {a.features.shape[1]} channels on {a.shape}")
