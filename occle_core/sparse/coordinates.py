"""The active cells of one level of a grid, and who is whose neighbour.

Cells are numbered in a box that is one cell larger on every side, so that a neighbour's number is the cell's own plus a
constant and nothing needs a bounds check: cells of the margin are never active.
"""

from __future__ import annotations

import itertools

import torch
from torch import Tensor

Shape = tuple[int, int, int]


def offsets_of(kernel_size: int) -> list[tuple[int, int, int]]:
    """Kernel offsets in C order: -r..r for odd sizes (centred), 0..k-1 for even ones."""
    first = -(kernel_size // 2) if kernel_size % 2 else 0
    span = range(first, first + kernel_size)
    return list(itertools.product(span, span, span))


class Coordinates:
    """Active cells of a batch of equally shaped grids.

    Args:
        keys: (N,) int64, distinct numbers of cells in the padded boxes (see `keys_of`).
        shape: cells along x, y, z (without the margin).
        batch_size: number of grids.
    """

    def __init__(self, keys: Tensor, shape: Shape, batch_size: int) -> None:
        self.keys = keys
        self.shape = shape
        self.batch_size = batch_size
        self._table: Tensor | None = None
        self._neighbours: dict[int, Tensor] = {}

    def __len__(self) -> int:
        return self.keys.shape[0]

    @property
    def strides(self) -> Shape:
        """Steps of a key along x, y, z."""
        return ((self.shape[1] + 2) * (self.shape[2] + 2), self.shape[2] + 2, 1)

    @property
    def cells(self) -> int:
        """Number of cells of all padded boxes."""
        return self.batch_size * (self.shape[0] + 2) * self.strides[0]

    def keys_of(self, coords: Tensor) -> Tensor:
        """(M, 4) batch, x, y, z -> (M,) int64 keys."""
        sx, sy, sz = self.strides
        batch, x, y, z = coords.long().unbind(1)
        return (batch * (self.shape[0] + 2) + x + 1) * sx + (y + 1) * sy + (z + 1) * sz

    @property
    def coords(self) -> Tensor:
        """(N, 4) int64 batch, x, y, z."""
        sx, sy, _ = self.strides
        plane = torch.div(self.keys, sx, rounding_mode="floor")
        rest = self.keys - plane * sx
        y = torch.div(rest, sy, rounding_mode="floor")
        batch = torch.div(plane, self.shape[0] + 2, rounding_mode="floor")
        return torch.stack([batch, plane - batch * (self.shape[0] + 2) - 1, y - 1, rest - y * sy - 1], 1)

    @property
    def batch(self) -> Tensor:
        """(N,) int64 number of the grid that each cell belongs to."""
        return torch.div(self.keys, (self.shape[0] + 2) * self.strides[0], rounding_mode="floor")

    @property
    def table(self) -> Tensor:
        """(cells,) int32: row of each active cell, N for all others."""
        if self._table is None:
            table = torch.full((self.cells,), len(self), dtype=torch.int32, device=self.keys.device)
            table[self.keys] = torch.arange(len(self), dtype=torch.int32, device=self.keys.device)
            self._table = table
        return self._table

    def rows_at(self, keys: Tensor) -> Tensor:
        """Keys of any shape (margin included) -> int32 rows, N where no cell is active."""
        return self.table[keys]

    def neighbours(self, kernel_size: int) -> Tensor:
        """(N, K^3) int32 rows of each cell's neighbours, N where there is none; computed once for all layers of a level."""
        if kernel_size not in self._neighbours:
            sx, sy, sz = self.strides
            steps = [x * sx + y * sy + z * sz for x, y, z in offsets_of(kernel_size)]
            keys = self.keys[:, None] + torch.tensor(steps, device=self.keys.device)
            self._neighbours[kernel_size] = self.rows_at(keys)
        return self._neighbours[kernel_size]

    def subset(self, keep: Tensor) -> Coordinates:
        """The cells where `keep` (N,) bool is True, in the same order."""
        return Coordinates(self.keys[keep], self.shape, self.batch_size)

    @classmethod
    def from_coords(cls, coords: Tensor, shape: Shape, batch_size: int) -> Coordinates:
        """From (N, 4) batch, x, y, z.

        Raises:
            ValueError: a cell lies outside the grids, or stands twice.
        """
        upper = torch.tensor([batch_size, *shape], device=coords.device)
        if len(coords) and bool(((coords < 0) | (coords >= upper)).any()):
            raise ValueError(
                f"cells outside of {batch_size} grids of shape {shape}: coordinates run up to {coords.amax(0).tolist()}"
            )
        empty = cls(torch.zeros(0, dtype=torch.int64, device=coords.device), shape, batch_size)
        found = cls(empty.keys_of(coords), shape, batch_size)
        if not torch.equal(found.rows_at(found.keys).long(), torch.arange(len(found), device=coords.device)):
            raise ValueError("a cell stands twice among the coordinates; merge its features first")
        return found

    @classmethod
    def unique(cls, coords: Tensor, shape: Shape, batch_size: int) -> Coordinates:
        """The distinct cells among (M, 4) batch, x, y, z, in C order; cells outside the grids are left out."""
        upper = torch.tensor([batch_size, *shape], device=coords.device)
        inside = ((coords >= 0) & (coords < upper)).all(1)
        empty = cls(torch.zeros(0, dtype=torch.int64, device=coords.device), shape, batch_size)
        active = torch.zeros(empty.cells, dtype=torch.bool, device=coords.device)
        active[empty.keys_of(coords[inside])] = True
        return cls(active.nonzero()[:, 0], shape, batch_size)
