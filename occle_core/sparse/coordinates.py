# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""The active cells of one level of a grid, who is whose neighbour, and which cells a convolution makes.

Cells are numbered in a box that is one cell larger on every side, so that a neighbour's number is the cell's own plus a
constant and nothing needs a bounds check: cells of the margin are never active.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from functools import cached_property, lru_cache

import numpy as np
import torch
from torch import Tensor

from occle_core.native.conv import Pairs
from occle_core.sparse import native_gemm
from occle_core.sparse.runs import DENSE_SHARE, Runs

Shape = tuple[int, int, int]


def offsets_of(kernel_size: int) -> list[tuple[int, int, int]]:
    """Kernel offsets in C order: -r..r for odd sizes (centred), 0..k-1 for even ones."""
    first = -(kernel_size // 2) if kernel_size % 2 else 0
    span = range(first, first + kernel_size)
    return list(itertools.product(span, span, span))


def divided(shape: Shape, stride: int) -> Shape:
    """The shape of a grid that is `stride` times coarser, rounded up."""
    x, y, z = (-(-n // stride) for n in shape)
    return (x, y, z)


def multiplied(shape: Shape, stride: int) -> Shape:
    """The shape of a grid that is `stride` times finer."""
    return (shape[0] * stride, shape[1] * stride, shape[2] * stride)


def take(features: Tensor, rows: Tensor) -> Tensor:
    """Rows of features (N, C) by their numbers (M,); row N is zero."""
    return torch.cat([features, features.new_zeros(1, features.shape[1])]).index_select(0, rows)


def rows_where(mask: Tensor) -> Tensor:
    """Rows of a mask (N,) that are True: int64, ascending."""
    if mask.device.type != "cpu":
        return mask.nonzero()[:, 0]
    return torch.from_numpy(np.flatnonzero(mask.numpy()))  # much faster than torch's nonzero


KEEPING_DEVICES = ("cuda",)
"""Devices on which small constants stay: each upload waits for the device, which no CPU does."""


def constant(values: Sequence[int] | Sequence[Shape], device: torch.device, dtype: torch.dtype = torch.int64) -> Tensor:
    """A small tensor of integers, kept on the device after its first use; for offsets (N, 3) give N triples."""
    if device.type not in KEEPING_DEVICES or torch.compiler.is_exporting():
        return torch.tensor(values, dtype=dtype, device=device)
    return _kept(tuple(values), device, dtype)


@lru_cache(maxsize=512)
def _kept(values: tuple[int | Shape, ...], device: torch.device, dtype: torch.dtype) -> Tensor:
    with torch.inference_mode(False):  # a tensor of inference mode could not be used in training
        return torch.tensor(values, dtype=dtype, device=device)


class Coordinates:
    """Active cells of a batch of equally shaped grids, as many as there are.

    Args:
        keys: (N,) int64, distinct numbers of cells in the padded boxes (see `keys_of`).
        shape: cells along x, y, z (without the margin).
        batch_size: number of grids.
        counts: where the sizes of all sets that are made from this one are written down, in order.
    """

    def __init__(self, keys: Tensor, shape: Shape, batch_size: int, counts: list[int] | None = None) -> None:
        self.keys = keys
        self.shape = shape
        self.batch_size = batch_size
        self.counts: list[int] = [] if counts is None else counts
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

    @cached_property
    def coords(self) -> Tensor:
        """(N, 4) int64 batch, x, y, z."""
        sx, sy, _ = self.strides
        plane = torch.div(self.keys, sx, rounding_mode="floor")
        rest = self.keys - plane * sx
        y = torch.div(rest, sy, rounding_mode="floor")
        batch = torch.div(plane, self.shape[0] + 2, rounding_mode="floor")
        return torch.stack([batch, plane - batch * (self.shape[0] + 2) - 1, y - 1, rest - y * sy - 1], 1)

    @cached_property
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
            # Offset by offset the reads of the table run in order; int32 halves them (cells are far fewer than 2^31).
            keys = self.keys.int() + constant(steps, self.keys.device, torch.int32)[:, None]
            self._neighbours[kernel_size] = self.table.index_select(0, keys.view(-1)).view(keys.shape).t()
        return self._neighbours[kernel_size]

    @cached_property
    def runs(self) -> Runs | None:
        """The cells' neighbours in runs along z, where that is the fastest way to a 3x3x3 kernel: on CPUs, if they stand close."""
        on_cpu = self.keys.device.type == "cpu"
        return Runs.of(self.keys, self.strides, self.cells, DENSE_SHARE) if on_cpu else None

    @cached_property
    def pairs(self) -> Pairs | None:
        """The cells' pairs of a 3x3x3 kernel for compiled kernels; None where these are not loaded."""
        return native_gemm.pairs_of_keys(self.keys, self.strides, self.cells) if self.keys.device.type == "cpu" else None

    def mean(self, features: Tensor) -> Tensor:
        """Mean of features (N, C) over each grid's active cells, (B, C); zeros for a grid without any."""
        if self.batch_size == 1:
            return features.sum(0, keepdim=True) / max(1, len(self))
        total = features.new_zeros(self.batch_size, features.shape[1]).index_add(0, self.batch, features)
        return total / torch.bincount(self.batch, minlength=self.batch_size).clamp(min=1)[:, None]

    def strided(self, kernel_size: int, stride: int) -> tuple[Coordinates, Tensor]:
        """The coarser cells that hold an active cell, and (M, K^3) int32 rows of the fine cells under each one's kernel."""
        if kernel_size == stride == 2 and (found := native_gemm.strided(self.keys, self.shape, self.batch_size)) is not None:
            keys, rows = found
            return Coordinates(keys, divided(self.shape, 2), self.batch_size, self.counts)._counted(), rows
        fine = self.coords
        coarse = torch.div(fine, constant((1, stride, stride, stride), fine.device), rounding_mode="floor")
        out = Coordinates(self.keys[:0], divided(self.shape, stride), self.batch_size, self.counts)
        keys = out.keys_of(coarse)
        out = out._with_distinct(keys)
        if kernel_size != stride or kernel_size % 2:  # odd kernels are centred, and reach into their neighbours' boxes
            offsets = constant(offsets_of(kernel_size), self.keys.device)
            return out, self._rows_of_cells(out.coords[:, None, 1:] * stride + offsets, out.batch)
        # Every fine cell lies under one kernel: it writes itself into the map, which else would be looked up place by place.
        _, x, y, z = torch.sub(fine, coarse, alpha=stride).unbind(1)
        places = out.rows_at(keys).long() * kernel_size**3 + (x * kernel_size + y) * kernel_size + z
        rows = torch.full((len(out) * kernel_size**3,), len(self), dtype=torch.int32, device=self.keys.device)
        rows[places] = torch.arange(len(self), dtype=torch.int32, device=self.keys.device)
        return out, rows.view(len(out), kernel_size**3)

    def transposed(self, kernel_size: int, stride: int) -> tuple[Coordinates, Tensor]:
        """The finer cells stride * c + offset of all active cells c, and (M, K^3) int32 rows of each one's parents."""
        offsets = constant(offsets_of(kernel_size), self.keys.device)
        made = self.coords[:, None, 1:] * stride + offsets
        batch = self.batch[:, None, None].expand(-1, len(offsets), 1)
        made = torch.cat([batch, made], 2).reshape(-1, 4)
        out = Coordinates.unique(made, multiplied(self.shape, stride), self.batch_size, self.counts)
        parents = out.coords[:, None, 1:] - offsets
        whole = (parents % stride == 0).all(2, keepdim=True)
        parents = torch.where(whole, torch.div(parents, stride, rounding_mode="floor"), -1)
        return out, self._rows_of_cells(parents, out.batch)

    def children(self) -> Coordinates:
        """The eight cells of the grid of half the cell size that each active cell falls into, parent by parent."""
        empty = Coordinates(self.keys[:0], multiplied(self.shape, 2), self.batch_size)
        first = empty.keys_of(self.coords * constant((1, 2, 2, 2), self.keys.device))
        sx, sy, sz = empty.strides
        steps = [x * sx + y * sy + z * sz for x, y, z in offsets_of(2)]
        keys = (first[:, None] + constant(steps, self.keys.device)).view(-1)
        return Coordinates(keys, empty.shape, self.batch_size, self.counts)

    def pruned(self, features: Tensor, keep: Tensor) -> tuple[Coordinates, Tensor]:
        """The cells where `keep` (N,) bool is True, in the same order, and their features (M, C)."""
        rows = rows_where(keep)
        coordinates = Coordinates(self.keys[rows], self.shape, self.batch_size, self.counts)._counted()
        return coordinates, features.index_select(0, rows)

    def union(self, features: Tensor, other: Coordinates, more: Tensor) -> tuple[Coordinates, Tensor]:
        """These cells in their order, then the other's that are not among them; features (N, C) and more (M, C) added."""
        rows = self.rows_at(other.keys).long()  # index_add_ is slow with int32
        new = rows_where(rows == len(self))
        rows[new] = torch.arange(len(self), len(self) + len(new), device=rows.device)
        keys = torch.cat([self.keys, other.keys[new]])
        room = torch.cat([features, more.new_zeros(len(new), more.shape[1])])  # of the wider type of the two
        return Coordinates(keys, self.shape, self.batch_size, self.counts), room.index_add_(0, rows, more.to(room.dtype))

    def volume(self, values: Tensor, fill: float) -> Tensor:
        """(B, X, Y, Z) grids of values (N,), with `fill` in inactive cells."""
        out = values.new_full((self.cells,), fill)
        out[self.keys] = values
        x, y, z = (n + 2 for n in self.shape)
        return out.view(self.batch_size, x, y, z)[:, 1:-1, 1:-1, 1:-1]

    @classmethod
    def from_coords(cls, coords: Tensor, shape: Shape, batch_size: int) -> Coordinates:
        """From (N, 4) batch, x, y, z.

        Raises:
            ValueError: a cell lies outside the grids, or stands twice.
        """
        if (keys := native_gemm.keys_of(coords, shape, batch_size)) is not None:
            return cls(keys, shape, batch_size)._counted()
        upper = constant((batch_size, *shape), coords.device)
        if len(coords) and bool(((coords < 0) | (coords >= upper)).any()):
            raise ValueError(
                f"cells outside of {batch_size} grids of shape {shape}: coordinates run up to {coords.amax(0).tolist()}"
            )
        empty = cls(torch.zeros(0, dtype=torch.int64, device=coords.device), shape, batch_size)
        found = cls(empty.keys_of(coords), shape, batch_size)
        if not torch.equal(found.rows_at(found.keys).long(), torch.arange(len(found), device=coords.device)):
            raise ValueError("a cell stands twice among the coordinates; merge its features first")
        return found._counted()

    @classmethod
    def unique(cls, coords: Tensor, shape: Shape, batch_size: int, counts: list[int] | None = None) -> Coordinates:
        """The distinct cells among (M, 4) batch, x, y, z, in C order; cells outside the grids are left out."""
        upper = constant((batch_size, *shape), coords.device)
        inside = ((coords >= 0) & (coords < upper)).all(1)
        empty = cls(torch.zeros(0, dtype=torch.int64, device=coords.device), shape, batch_size, counts)
        return empty._with_distinct(empty.keys_of(coords[inside]))

    def _with_distinct(self, keys: Tensor) -> Coordinates:
        """The distinct cells among keys (M,) of this grid, in C order."""
        active = torch.zeros(self.cells, dtype=torch.bool, device=keys.device)
        active.index_fill_(0, keys, True)  # a value that is assigned is uploaded to a GPU, which waits
        return Coordinates(rows_where(active), self.shape, self.batch_size, self.counts)._counted()

    def _counted(self) -> Coordinates:
        self.counts.append(len(self))
        return self

    def _rows_of_cells(self, cells: Tensor, batch: Tensor) -> Tensor:
        """(M, K, 3) cells, possibly outside the grid, of grids (M,) -> (M, K) int32 rows, N where none is active."""
        upper = constant(self.shape, cells.device)
        inside = ((cells >= 0) & (cells < upper)).all(2)
        coords = torch.cat([batch[:, None, None].expand(-1, cells.shape[1], 1), cells], 2).reshape(-1, 4)
        keys = torch.where(inside.reshape(-1), self.keys_of(coords), 0)
        return self.rows_at(keys).view(inside.shape)
