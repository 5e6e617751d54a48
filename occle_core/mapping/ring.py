# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""A volume that follows the robot: cells keep their place in memory, only what enters is cleared."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

import numpy as np
from numpy.typing import NDArray

Cell = tuple[int, int, int]


class Ring:
    """Ring indexing along three axes: the cell numbered c (whole numbers of an endless grid) is stored at `c mod shape`.

    "Window order" is that of a plain array whose element (0, 0, 0) is the cell `low`; "ring order" is that of the storage.

    Args:
        shape: cells along x, y, z.
        low: number of the window's lowest cell.
    """

    def __init__(self, shape: Cell, low: Cell = (0, 0, 0)) -> None:
        self.shape = shape
        self.low = low

    def move(self, low: Cell) -> list[tuple[slice, slice, slice]]:
        """Put the window's lowest cell at `low`.

        Returns:
            slices of the storage that hold cells which just entered; what is there belongs to cells that left.
        """
        entered: list[tuple[slice, slice, slice]] = []
        everywhere = slice(None)
        for axis, (old, new, count) in enumerate(zip(self.low, low, self.shape)):
            shift = new - old
            if abs(shift) >= count:
                entered = [(everywhere, everywhere, everywhere)]
                break
            first, last = (old + count, new + count) if shift > 0 else (new, old)
            for part in _wrapped(first, last, count):
                slices = [everywhere, everywhere, everywhere]
                slices[axis] = part
                entered.append((slices[0], slices[1], slices[2]))
        self.low = low
        return entered

    def to_ring(self, window: NDArray[np.generic], out: NDArray[np.generic]) -> None:
        """Copy an array in window order into one in ring order."""
        for there, here in self._parts():
            out[there] = window[here]

    def to_window(self, ring: NDArray[np.generic], out: NDArray[np.generic]) -> None:
        """Copy an array in ring order into one in window order."""
        for there, here in self._parts():
            out[here] = ring[there]

    def places(self, cells: NDArray[np.integer]) -> NDArray[np.intp]:
        """(N,) flat numbers of cells in window order -> in ring order; both in C order."""
        return self._shifted(cells, 1)

    def cells(self, places: NDArray[np.integer]) -> NDArray[np.intp]:
        """(N,) flat numbers of cells in ring order -> in window order; the inverse of `places`."""
        return self._shifted(places, -1)

    def _shifted(self, numbers: NDArray[np.integer], sign: int) -> NDArray[np.intp]:
        x, y, z = ((np.arange(count) + sign * low) % count for low, count in zip(self.low, self.shape))
        columns = numbers // self.shape[2]
        heights = numbers - columns * self.shape[2]
        return np.asarray((np.add.outer(x * self.shape[1], y) * self.shape[2]).reshape(-1)[columns] + z[heights])

    def _parts(self) -> Iterator[tuple[tuple[slice, ...], tuple[slice, ...]]]:
        """Boxes that are contiguous in both orders: slices of the ring and of the window; at most eight."""
        axes = []
        for low, count in zip(self.low, self.shape):
            split = low % count
            parts = [(slice(split, count), slice(0, count - split))]
            if split:
                parts.append((slice(0, split), slice(count - split, count)))
            axes.append(parts)
        for x, y, z in product(*axes):
            yield (x[0], y[0], z[0]), (x[1], y[1], z[1])


def _wrapped(first: int, last: int, count: int) -> list[slice]:
    """Places of the cells first..last-1, at most `count` of them, as slices of a ring."""
    if first == last:
        return []
    begin, end = first % count, (last - 1) % count + 1
    return [slice(begin, end)] if begin < end else [slice(begin, count), slice(0, end)]
