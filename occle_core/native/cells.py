# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""The active cells of a level for compiled kernels, and the cells that convolutions make of them (see coordinates.cpp)."""

from __future__ import annotations

import itertools
import math
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from occle_core.native.conv import Floats, Int32, Pairs, pairs_of_cells, pairs_of_map
from occle_core.native.library import address
from occle_core.native.workspace import Workspace

Shape = tuple[int, int, int]


class Cells:
    """Cells of one grid.

    Args:
        keys: (N,) int32, distinct: (x + 1, y + 1, z + 1) in C order in a box that is one cell larger on every side.
        shape: cells of the grid along x, y, z.
    """

    def __init__(self, keys: Int32, shape: Shape) -> None:
        self.keys, self.shape = keys, shape
        self._neighbours: Pairs | None = None

    def __len__(self) -> int:
        return len(self.keys)

    @property
    def box(self) -> Shape:
        """Cells of the larger box."""
        return (self.shape[0] + 2, self.shape[1] + 2, self.shape[2] + 2)

    @property
    def steps(self) -> Int32:
        """(27,) from a key to those of its neighbours, offsets in C order."""
        return _steps(*self.box[1:])

    @property
    def key_address(self) -> int:
        """Where the keys lie."""
        return address(self.keys, np.int32, None)

    def table(self, space: Workspace) -> Int32:
        """The level's table, negative everywhere."""
        return space.table(math.prod(self.box))

    def table_address(self, space: Workspace) -> int:
        """Where the table lies."""
        return address(self.table(space), np.int32, None)

    def neighbours(self, space: Workspace) -> Pairs:
        """Pairs of a submanifold convolution of 3 x 3 x 3, found once."""
        if self._neighbours is None:
            self._neighbours = pairs_of_cells(space, self.table(space), self.keys, self.keys, self.steps)
        return self._neighbours


@lru_cache(maxsize=64)
def _steps(y: int, z: int) -> Int32:
    return np.array([(a * y + b) * z + c for a, b, c in itertools.product((-1, 0, 1), repeat=3)], np.int32)


def cells_of(space: Workspace, coords: NDArray[np.int64], shape: Shape) -> Cells:
    """From (N, 4) batch, x, y, z of a single grid.

    Raises:
        ValueError: a cell lies outside the grid, or stands twice.
    """
    keys, wrong = keys_of(space, coords, shape, 1)
    if wrong is not None:
        raise ValueError(f"cell {coords[wrong].tolist()} lies outside of one grid of shape {shape}, or stands twice")
    return Cells(keys, shape)


def keys_of(space: Workspace, coords: NDArray[np.int64], shape: Shape, grids: int) -> tuple[Int32, int | None]:
    """Keys of (N, 4) batch, x, y, z of several grids, and the first row that lies outside or stands twice."""
    keys = space.empty(np.int32, len(coords))
    table = space.table(grids * math.prod(size + 2 for size in shape))
    where, there = address(keys, np.int32, None), address(table, np.int32, None)
    found = space.library.call("enter_cells", address(coords, np.int64, None, 4), len(coords), grids, *shape, there, where)
    return keys, None if found < 0 else found


def strided(space: Workspace, cells: Cells) -> tuple[Cells, Pairs]:
    """The cells of the grid of twice the cell size that hold one of these, in C order, and the pairs of kernel 2, stride 2."""
    x, y, z = (-(-size // 2) for size in cells.shape)
    coarse = Cells(cells.keys[:0], (x, y, z))
    keys, rows = strided_keys(space, cells.keys, cells.box, coarse.box, 1, -1)
    return Cells(keys, coarse.shape), pairs_of_map(space, rows, len(cells))


def strided_keys(space: Workspace, keys: Int32, box: Shape, coarse_box: Shape, grids: int, none: int) -> tuple[Int32, Int32]:
    """The keys of the coarser cells of several grids, and (M, 8) int32 fine rows under each, `none` where there is none."""
    n = len(keys)
    coarse, rows = space.empty(np.int32, n), space.empty(np.int32, n, 8)
    parent, place = space.empty(np.int32, n), space.empty(np.uint8, n)
    table = space.table(grids * math.prod(coarse_box))
    made = space.library.call(
        "strided_cells",
        address(keys, np.int32, n),
        n,
        *box,
        len(table),
        *coarse_box,
        none,
        address(table, np.int32, None),
        address(coarse, np.int32, n),
        address(rows, np.int32, n, 8),
        address(parent, np.int32, n),
        address(place, np.uint8, n),
    )
    return coarse[:made], rows[:made]


def grown(space: Workspace, cells: Cells) -> tuple[Cells, Pairs]:
    """These cells and all next to them within the grid, in C order, and the pairs of a transposed kernel 3, stride 1."""
    keys, table = space.empty(np.int32, 27 * len(cells)), cells.table_address(space)
    made = space.library.call("grown_cells", cells.key_address, len(cells), *cells.box, table, address(keys, np.int32, None))
    out = Cells(keys[:made], cells.shape)
    # An output cell's source under an offset lies on the other side.
    return out, pairs_of_cells(space, cells.table(space), cells.keys, out.keys, -cells.steps)


def add_at(space: Workspace, out: Floats, cells: Cells, x: Floats, others: Cells) -> None:
    """Add features x of other cells to those of `cells`, where both are; in place."""
    width = out.shape[1]
    space.library.call(
        "add_at_cells",
        cells.table_address(space),
        cells.key_address,
        len(cells),
        others.key_address,
        len(others),
        width,
        address(x, np.float32, len(others), width),
        address(out, np.float32, len(cells), width),
    )


def children(space: Workspace, cells: Cells, shape: Shape) -> Int32:
    """(8 N,) keys, in a grid of half the cell size, of the eight cells that each cell falls into."""
    if shape != tuple(2 * size for size in cells.shape):
        raise ValueError(f"the grid {shape} has not twice as many cells along every axis as {cells.shape}")
    keys = space.empty(np.int32, 8 * len(cells))
    fine = Cells(keys, shape)
    space.library.call("children_cells", cells.key_address, len(cells), *cells.box[1:], *fine.box[1:], fine.key_address)
    return keys


def unite(space: Workspace, first: Cells, x: Floats, second: Cells, more: Floats) -> tuple[Cells, Floats]:
    """First's cells, then second's that are not among them; features (N, D) and (M, D) added where both are."""
    n, m, width = len(first), len(second), x.shape[1]
    keys, out = space.empty(np.int32, n + m), space.empty(np.float32, n + m, width)
    keys[:n], out[:n] = first.keys, x
    total = space.library.call(
        "unite_cells",
        first.table_address(space),
        address(keys, np.int32, n + m),
        n,
        second.key_address,
        m,
        width,
        address(more, np.float32, m, width),
        address(out, np.float32, n + m, width),
    )
    return Cells(keys[:total], first.shape), out[:total]
