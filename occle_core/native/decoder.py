# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""The decoder's own layers on compiled kernels (see decoder.cpp): squeeze-excite, pruning, the finest level, labels."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from occle_core.native.cells import Cells, children
from occle_core.native.conv import Floats, Weight, check
from occle_core.native.library import Library, address
from occle_core.native.workspace import Workspace
from occle_core.occupancy import SparseLabels

NEVER = -1e30
"""Logit of a class that does not exist."""


class Excite:
    """Weights of a squeeze-excite layer: (H, C) and (H,), then (C, H) and (C,)."""

    def __init__(self, library: Library, w1: ArrayLike, b1: ArrayLike, w2: ArrayLike, b2: ArrayLike) -> None:
        squeeze, spread = np.asarray(w1, np.float32), np.asarray(w2, np.float32)
        hidden, channels = squeeze.shape
        width = library.padded(channels)
        self.squeeze: Floats = np.zeros((width, hidden), np.float32)
        self.squeeze[:channels] = squeeze.T
        self.spread: Floats = np.zeros((hidden, width), np.float32)
        self.spread[:, :channels] = spread.T
        self.squeeze_bias: Floats = np.array(b1, np.float32)
        self.spread_bias: Floats = np.zeros(width, np.float32)
        self.spread_bias[:channels] = b2
        parts = self.squeeze, self.squeeze_bias, self.spread, self.spread_bias
        self.addresses = tuple(address(part, np.float32, *part.shape) for part in parts)


def excite(space: Workspace, y: Floats, x: Floats, weights: Excite) -> None:
    """y = relu(gate(y) * y + x), in place; (N, padded C) both."""
    width, hidden = weights.squeeze.shape
    sums, between = space.empty(np.float32, len(y) // 1024 + 1, width), space.empty(np.float32, hidden + width)
    space.library.call(
        "excite",
        space.pool.handle,
        address(y, np.float32, None, width),
        address(x, np.float32, len(y), width),
        len(y),
        width,
        hidden,
        *weights.addresses,
        address(sums, np.float32, None, width),
        address(between, np.float32, hidden + width),
    )


class Occupancy:
    """Weights of an occupancy head, (C,) and a bias, and the logit that a cell must exceed to be kept."""

    def __init__(self, library: Library, weight: ArrayLike, bias: float, threshold: float) -> None:
        source = np.asarray(weight, np.float32)
        self.weight: Floats = np.zeros(library.padded(len(source)), np.float32)
        self.weight[: len(source)] = source
        self.bias, self.threshold = bias, threshold


def prune(space: Workspace, cells: Cells, x: Floats, head: Occupancy) -> tuple[Cells, Floats]:
    """The cells that the head keeps, in their order; keys and features are overwritten."""
    width = len(head.weight)
    kept = space.library.call(
        "prune_cells",
        address(x, np.float32, len(cells), width),
        cells.key_address,
        len(cells),
        width,
        address(head.weight, np.float32, width),
        head.bias,
        head.threshold,
    )
    return Cells(cells.keys[:kept], cells.shape), x[:kept]


def finest(
    space: Workspace, cells: Cells, x: Floats, up: Weight, skip: Cells, more: Floats, head: Occupancy
) -> tuple[Cells, Floats]:
    """Children of cells, skip features added, and what the head does not keep left out: union and prune in one pass.

    Args:
        cells: of the coarser level, x (N, C or more) their features.
        up: (1, C, 8 padded D), the matrices of the eight children side by side.
        skip: cells of the finest level, `more` (M, padded D) their features.
        head: of the finest level.

    Returns:
        kept cells, children in their parents' order and then skip's others, and their features (kept, padded D).
    """
    library, n, m, width = space.library, len(cells), len(skip), len(head.weight)
    if x.shape[1] < up.channels or len(x) != n or len(up.bias) != 8 * width:
        raise ValueError(f"features {x.shape} of {n} cells do not fit a weight of {up.channels} to {len(up.bias)} channels")
    weights, bias = up.addresses
    parents = library.constant("finest_parents")
    made = children(space, cells, skip.shape)
    used, work = space.empty(np.uint8, m), space.empty(np.float32, space.pool.threads * parents, 8 * width)
    kept = space.empty(np.int32, n // parents + 1)
    out, keys = space.empty(np.float32, 8 * n + m, width), space.empty(np.int32, 8 * n + m)
    total = library.call(
        "finest_level",
        space.pool.handle,
        address(x, np.float32, n, None),
        x.shape[1],
        n,
        up.channels,
        weights,
        width,
        bias,
        address(made, np.int32, 8 * n),
        skip.table_address(space),
        skip.key_address,
        m,
        address(more, np.float32, m, width),
        address(head.weight, np.float32, width),
        head.bias,
        head.threshold,
        address(used, np.uint8, m),
        address(work, np.float32, None, 8 * width),
        address(kept, np.int32, None),
        address(out, np.float32, 8 * n + m, width),
        address(keys, np.int32, 8 * n + m),
    )
    return Cells(keys[:total], skip.shape), out[:total]


def labels(space: Workspace, cells: Cells, x: Floats, head: Weight, free: int) -> SparseLabels:
    """The cells whose largest logit, of features (N, C or more) through the head, is not that of `free`; fill of `head`: NEVER."""
    check(x, head, len(cells), 1)
    n, weights, bias = len(cells), *head.addresses
    places, named, scores = (space.empty(kind, n) for kind in (np.int32, np.uint8, np.float16))
    kept = space.empty(np.int32, n)
    where = address(places, np.int32, n)
    space.library.call("places_of_cells", cells.key_address, n, *cells.box[1:], where)
    total = space.library.call(
        "label_cells",
        space.pool.handle,
        address(x, np.float32, n, None),
        x.shape[1],
        n,
        head.channels,
        weights,
        len(head.bias),
        bias,
        head.width,
        free,
        address(kept, np.int32, n),
        where,
        address(named, np.uint8, n),
        address(scores, np.float16, n),
    )
    return SparseLabels(places[:total].copy(), named[:total].copy(), scores[:total].copy(), cells.shape, free)
