# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Hilbert order of a grid's cells: neighbours in the sequence are neighbours in space."""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


def hilbert_order(shape: tuple[int, int, int]) -> Tensor:
    """Cells of a grid along a Hilbert curve (OccLE, Appendix A).

    On cubes of 2^b cells each step goes to a face neighbour. Other boxes take the curve of the cube of 2^b cells around them and
    leave out what is outside of the box: there the sequence jumps where the curve comes back in.

    Args:
        shape: cells along x, y, z, each at least 1.

    Returns:
        (X * Y * Z,) int64 on the CPU: numbers of the cells in C order, each once, from the curve's begin to its end. Computed once
        per shape.

    Raises:
        ValueError: the shape is not three positive counts.
    """
    if len(shape) != 3 or min(shape) < 1:
        raise ValueError(f"a Hilbert curve needs three positive counts of cells, not {tuple(shape)}")
    x, y, z = (int(n) for n in shape)
    # The cache holds an array: a tensor made while a program is traced would stay a tracer's.
    return torch.from_numpy(_order((x, y, z)).copy())


def inverse(order: Tensor) -> Tensor:
    """(N,) the position at which each cell is visited: values[order][inverse(order)] are the values."""
    back = torch.empty_like(order)
    back[order] = torch.arange(len(order), device=order.device)
    return back


@cache
def _order(shape: tuple[int, int, int]) -> NDArray[np.int64]:
    bits = max(1, (max(shape) - 1).bit_length())
    cells = np.indices(shape, dtype=np.int64).reshape(3, -1)
    return np.asarray(np.argsort(_distance(cells, bits), kind="stable"), np.int64)


def _distance(cells: NDArray[np.int64], bits: int) -> NDArray[np.int64]:
    """(3, N) cells of a cube of 2^bits -> (N,) how far along the curve each lies (Skilling, Programming the Hilbert Curve)."""
    x: NDArray[np.int64] = cells.copy()
    for bit in range(bits - 1, 0, -1):
        low = (1 << bit) - 1
        for axis in range(3):
            inverted = (x[axis] >> bit) & 1 == 1
            exchanged = np.where(inverted, 0, (x[0] ^ x[axis]) & low)
            x[0] ^= np.where(inverted, low, exchanged)
            x[axis] ^= exchanged
    # Gray code: each axis takes the one before it, then the last one's prefix turns all of them.
    x[1] ^= x[0]
    x[2] ^= x[1]
    turned = np.zeros_like(x[0])
    for bit in range(bits - 1, 0, -1):
        turned ^= np.where((x[2] >> bit) & 1 == 1, (1 << bit) - 1, 0)
    x ^= turned
    distance: NDArray[np.int64] = np.zeros_like(x[0])
    for bit in range(bits - 1, -1, -1):
        for axis in range(3):
            distance = (distance << 1) | ((x[axis] >> bit) & 1)
    return distance
