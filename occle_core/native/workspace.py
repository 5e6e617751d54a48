# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Memory that kernels work in, kept from frame to frame: fresh pages of memory cost more time than some kernels."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from occle_core.native.library import Library, Pool

GROWTH = 1.25
"""A buffer that is too small is replaced by one with this much more room than asked for."""


class Workspace:
    """What one thread needs to run kernels; no two threads may use it at the same time.

    Args:
        library: the kernels.
        threads: that share the work of a kernel, the caller's own included.
    """

    def __init__(self, library: Library, threads: int = 1) -> None:
        self.library = library
        self.pool = Pool(library, threads)
        self._buffers: list[NDArray[np.uint8]] = []
        self._next = 0
        self._tables: dict[int, NDArray[np.int32]] = {}

    @contextmanager
    def frame(self) -> Iterator[None]:
        """Within it arrays of `empty` are valid: the next frame overwrites them."""
        self._next = 0
        try:
            yield
        except BaseException:
            self._tables.clear()  # whatever they hold now
            raise

    def empty(self, dtype: type[np.generic], *shape: int) -> NDArray[Any]:
        """An array with any contents. Frames ask for the same arrays in the same order, so the n-th gets the n-th buffer."""
        size = math.prod(shape) * np.dtype(dtype).itemsize
        if self._next == len(self._buffers):
            self._buffers.append(np.empty(0, np.uint8))
        if len(self._buffers[self._next]) < size:
            self._buffers[self._next] = np.empty(int(size * GROWTH), np.uint8)
        buffer = self._buffers[self._next]
        self._next += 1
        return np.ndarray(shape, dtype, buffer)

    def table(self, cells: int) -> NDArray[np.int32]:
        """(cells,) int32, negative everywhere; who fills it clears it."""
        if cells not in self._tables:
            self._tables[cells] = np.full(cells, -1, np.int32)
        return self._tables[cells]
