# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""The static form of a set of cells: a fixed capacity and a mask, so that inference engines can run the network.

The layers are the same, and so are their weights; what differs is this set of cells. It uses only scatter, gather, where,
comparisons and cumsum: TensorRT has no usable converter for sort, unique, nonzero, searchsorted or scatter-add.

Rows that hold no cell have the key `cells`, one behind the last cell of the padded box. Their features are arbitrary and
nobody reads them: tables lead only to rows that hold a cell.

Sets are ordered from near to far, so that what does not fit a capacity is what is farthest away.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache, cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from occle_core.sparse.coordinates import Coordinates, Shape, divided, multiplied, offsets_of, take

RING = 4
"""Cells of one ring are as near as each other; inside it they keep the grid's order, which is kinder to caches."""


class Budget:
    """The capacities of all sets that a network makes, in the order in which it makes them, and how full they became.

    Args:
        capacities: rows of each set; the first is the network's input.
        center: x, y of the sensor in cells of the input's grid; cells near to it are kept when a set overflows.
    """

    def __init__(self, capacities: Sequence[int], center: tuple[float, float]) -> None:
        self._capacities: Iterator[int] = iter(capacities)
        self.center = center
        self.counts: list[Tensor] = []

    def take(self, count: Tensor) -> int:
        """The next set's capacity; `count` (1,) int32 is how many cells it would have to hold."""
        self.counts.append(count)
        return next(self._capacities)


class StaticCoordinates(Coordinates):
    """Active cells of one grid in a fixed number of rows.

    Args:
        keys: (capacity,) int32 numbers of distinct cells; `cells` in rows that hold none.
        xyz: (capacity, 3) int32 the same cells' coordinates; anything in rows that hold none. They are not computed from the
            keys, because engines divide integers as float32, which is exact only up to 2^24.
        shape: cells along x, y, z.
        budget: the network's capacities.
        scale: how many times coarser this grid is than the input's.
    """

    def __init__(self, keys: Tensor, xyz: Tensor, shape: Shape, budget: Budget, scale: float = 1.0) -> None:
        super().__init__(keys, shape, 1)
        self.xyz = xyz
        self.budget = budget
        self.scale = scale

    @classmethod
    def from_cells(cls, cells: Tensor, count: Tensor, shape: Shape, budget: Budget) -> StaticCoordinates:
        """The network's input: cells (capacity, 3) int32 from near to far, of which the first `count` (1,) int32 are meant."""
        rows = torch.arange(cells.shape[0], dtype=torch.int32, device=cells.device)
        budget.take(count)
        return cls(rows[:0], cells[:0], shape, budget)._at(cells, rows < count)

    @property
    def valid(self) -> Tensor:
        """(capacity,) bool: the row holds a cell."""
        return self.keys < self.cells

    @cached_property
    def coords(self) -> Tensor:
        """(capacity, 4) int32 batch (0), x, y, z; anything in rows that hold no cell."""
        return torch.cat([torch.zeros_like(self.xyz[:, :1]), self.xyz], 1)

    @cached_property
    def batch(self) -> Tensor:
        """(capacity,) int32 zeros."""
        return torch.zeros_like(self.keys)

    @property
    def table(self) -> Tensor:
        """(at least cells + 1,) int32: row of each active cell, the capacity for all others."""
        if self._table is None:
            rows = torch.arange(len(self), dtype=torch.int32, device=self.keys.device)
            # Rows that hold no cell all write the same, the capacity, to the place behind the last cell.
            self._table = _room(self.keys, torch.where(self.valid, rows, len(self)), self.cells + 1, len(self))
        return self._table

    def rows_at(self, keys: Tensor) -> Tensor:
        """Keys of any shape (margin and `cells` included) -> int32 rows, the capacity where no cell is active."""
        return self.table.index_select(0, keys.reshape(-1)).view(keys.shape)

    def neighbours(self, kernel_size: int) -> Tensor:
        """(capacity, K^3) int32 rows of each cell's neighbours, the capacity where there is none."""
        if kernel_size not in self._neighbours:
            sx, sy, sz = self.strides
            steps = [x * sx + y * sy + z * sz for x, y, z in offsets_of(kernel_size)]
            keys = self.keys[:, None] + torch.tensor(steps, dtype=torch.int32, device=self.keys.device)
            self._neighbours[kernel_size] = self.rows_at(torch.where(self.valid[:, None], keys, self.cells))
        return self._neighbours[kernel_size]

    @property
    def runs(self) -> None:
        """None: their number is not known beforehand."""
        return None

    @property
    def pairs(self) -> None:
        """None: as `runs`."""
        return None

    def mean(self, features: Tensor) -> Tensor:
        """Mean of features (capacity, C) over the active cells, (1, C)."""
        valid = self.valid[:, None]
        return torch.where(valid, features, 0).sum(0, keepdim=True) / valid.sum(0, keepdim=True).clamp(min=1)

    def strided(self, kernel_size: int, stride: int) -> tuple[Coordinates, Tensor]:
        """As Coordinates.strided, from near to far."""
        empty = StaticCoordinates(self.keys[:0], self.xyz[:0], divided(self.shape, stride), self.budget, self.scale * stride)
        out = empty._compacted(empty._keys_of(torch.div(self.xyz, stride, rounding_mode="floor"), self.valid))
        offsets = torch.tensor(offsets_of(kernel_size), dtype=torch.int32, device=self.keys.device)
        return out, self._rows_of_cells(out.xyz[:, None] * stride + offsets, out.valid)

    def transposed(self, kernel_size: int, stride: int) -> tuple[Coordinates, Tensor]:
        """As Coordinates.transposed, from near to far."""
        offsets = torch.tensor(offsets_of(kernel_size), dtype=torch.int32, device=self.keys.device)
        empty = StaticCoordinates(self.keys[:0], self.xyz[:0], multiplied(self.shape, stride), self.budget, self.scale / stride)
        cells = self.xyz[:, None] * stride + offsets
        out = empty._compacted(empty._keys_of(cells, self.valid[:, None]).reshape(-1))
        parents = out.xyz[:, None] - offsets
        whole = torch.div(parents, stride, rounding_mode="floor")
        return out, self._rows_of_cells(torch.where((whole * stride == parents).all(2, keepdim=True), whole, -1), out.valid)

    def children(self) -> Coordinates:
        """As Coordinates.children."""
        offsets = torch.tensor(offsets_of(2), dtype=torch.int32, device=self.keys.device)
        empty = StaticCoordinates(self.keys[:0], self.xyz[:0], multiplied(self.shape, 2), self.budget, self.scale / 2)
        valid = self.valid[:, None].expand(-1, 8).reshape(-1)
        return empty._at((self.xyz[:, None] * 2 + offsets).reshape(-1, 3), valid)

    def pruned(self, features: Tensor, keep: Tensor) -> tuple[Coordinates, Tensor]:
        """As Coordinates.pruned; rows that hold no cell are never kept."""
        rows = torch.arange(len(self), dtype=torch.int32, device=keep.device)
        rows = self._compact(keep & self.valid, rows, len(self))
        keys = torch.cat([self.keys, self.keys.new_full((1,), self.cells)]).index_select(0, rows)
        coordinates = StaticCoordinates(keys, take(self.xyz, rows), self.shape, self.budget, self.scale)
        return coordinates, take(features, rows)

    def union(self, features: Tensor, other: Coordinates, more: Tensor) -> tuple[Coordinates, Tensor]:
        """As Coordinates.union: as many rows as both have together."""
        assert isinstance(other, StaticCoordinates)
        new = self.rows_at(other.keys) == len(self)
        rows = torch.arange(len(other), dtype=torch.int32, device=new.device)
        rows = torch.cat([other.rows_at(self.keys), torch.where(new, rows, len(other))])
        keys = torch.cat([self.keys, torch.where(new, other.keys, self.cells)])
        xyz = torch.cat([self.xyz, other.xyz])
        coordinates = StaticCoordinates(keys, xyz, self.shape, self.budget, self.scale)
        return coordinates, take(more, rows) + torch.cat([features, torch.zeros_like(more)])

    def volume(self, values: Tensor, fill: float) -> Tensor:
        """(1, X, Y, Z) grid of values (capacity,), with `fill` in inactive cells."""
        x, y, z = (n + 2 for n in self.shape)
        return _scattered(self.keys, values, self.cells, fill).view(1, x, y, z)[:, 1:-1, 1:-1, 1:-1]

    def _at(self, cells: Tensor, valid: Tensor) -> StaticCoordinates:
        """The set of the cells (M, 3) int32 of this grid that are valid (M,)."""
        return StaticCoordinates(self._keys_of(cells, valid), cells, self.shape, self.budget, self.scale)

    def _keys_of(self, cells: Tensor, valid: Tensor) -> Tensor:
        """(..., 3) int32 cells -> (...) int32 keys; `cells` where not valid or outside the grid."""
        sx, sy, sz = self.strides
        x, y, z = cells.unbind(-1)
        return torch.where(valid & self._inside(cells), (x + 1) * sx + (y + 1) * sy + (z + 1) * sz, self.cells)

    def _inside(self, cells: Tensor) -> Tensor:
        upper = torch.tensor(self.shape, dtype=torch.int32, device=cells.device)
        return ((cells >= 0) & (cells < upper)).all(-1)

    def _rows_of_cells(self, cells: Tensor, batch: Tensor) -> Tensor:
        """(M, K, 3) cells, meant where `batch` (M,) bool, -> (M, K) int32 rows, the capacity where none is active."""
        return self.rows_at(self._keys_of(cells, batch[:, None]))

    def _compacted(self, keys: Tensor) -> StaticCoordinates:
        """The distinct cells among keys (M,), from near to far."""
        active = _scattered(keys, torch.ones_like(keys, dtype=torch.int32), self.cells, 0)
        center = (self.budget.center[0] / self.scale, self.budget.center[1] / self.scale)
        order = torch.from_numpy(_near_first(self.shape, center)).to(keys.device)
        ordered = self._keys_of(order, torch.ones_like(order[:, 0], dtype=torch.bool))
        places = torch.arange(len(order), dtype=torch.int32, device=keys.device)
        rows = self._compact(active.index_select(0, ordered) > 0, places, len(order))
        return self._at(take(order, rows), rows < len(order))

    def _compact(self, chosen: Tensor, values: Tensor, fill: int) -> Tensor:
        """The values (N,) int32 where chosen (N,) bool, in order, in the next capacity's rows; `fill` behind them."""
        position = torch.cumsum(chosen.to(torch.int32), 0, dtype=torch.int32)
        capacity = self.budget.take(position[-1:])
        place = torch.where(chosen & (position <= capacity), position - 1, capacity)
        return _scattered(place, values, capacity, fill)


def _scattered(places: Tensor, values: Tensor, size: int, fill: float) -> Tensor:
    """(size,) of `fill`, with values (N,) written at places (N,) int32; values at place `size` are left out."""
    return _room(places, values, size + 1, fill)[:size]


def _room(places: Tensor, values: Tensor, size: int, fill: float) -> Tensor:
    """The same, (at least size,), with all values."""
    # At least as long as the index: ONNX's ScatterElements asks for it.
    room = torch.full((max(size, places.shape[0]),), fill, dtype=values.dtype, device=values.device)
    return room.scatter(0, places.long(), values)


@cache
def _near_first(shape: Shape, center: tuple[float, float]) -> NDArray[np.int32]:
    """(cells, 3) int32 all cells of a grid, ring by ring around center (x, y in cells)."""
    cells = np.indices(shape).reshape(3, -1).T
    ring = (np.hypot(cells[:, 0] + 0.5 - center[0], cells[:, 1] + 0.5 - center[1]) / RING).astype(np.int64)
    return cells[np.argsort(ring, kind="stable")].astype(np.int32)
