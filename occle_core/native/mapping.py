# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Cells of the rolling map by the compiled library, equal to `occle_core.mapping` to the bit."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from occle_core.native.library import Library, address
from occle_core.taxonomy import IGNORE

Bytes = NDArray[np.int8]
Labels = NDArray[np.uint8]


def network_evidence(
    library: Library,
    labels: Labels,
    probability: NDArray[np.float16],
    moves: NDArray[np.bool_],
    free: int,
    still: Bytes,
    moving: Bytes,
    beside: Bytes,
) -> Bytes:
    """As `occle_core.mapping.observation.network_evidence`.

    Args:
        library: see `occle_core.native.library.load`.
        labels: (X, Y, Z).
        probability: (X, Y, Z) of occupancy.
        moves: (256,) ids of dynamic classes.
        free: the free class's id.
        still, moving: (65536,) evidence by the bits of a probability, of other and of dynamic classes.
        beside: (256,) by the bits of evidence, what is left of it next to an occupied cell.

    Returns:
        (X, Y, Z) int8.
    """
    steps, shape = np.empty(labels.shape, np.int8), labels.shape
    said, bits = np.ascontiguousarray(labels), np.ascontiguousarray(probability).view(np.uint16)
    library.call(
        "network_evidence",
        address(said, np.uint8, *shape),
        address(bits, np.uint16, *shape),
        *shape,
        address(moves, np.bool_, 256),
        free,
        IGNORE,
        address(still, np.int8, 1 << 16),
        address(moving, np.int8, 1 << 16),
        address(beside, np.int8, 256),
        address(steps, np.int8, *shape),
    )
    return steps


def read_grid(
    library: Library,
    grid: Bytes,
    kinds: Labels,
    turn: NDArray[np.float64],
    shift: NDArray[np.float64],
    low: NDArray[np.intp],
    high: NDArray[np.intp],
    returns: tuple[NDArray[np.int32], NDArray[np.int32]],
    sure: NDArray[np.bool_],
    evidence: Bytes,
) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """As `occle_core.mapping.observation.observed_by_network`: add a grid's evidence to the map's cells.

    Args:
        library: see `occle_core.native.library.load`.
        grid: (GX, GY, GZ) int8; it is changed.
        kinds: (GX, GY, GZ) of what the network names: 0 nothing, 1 something, 2 ground.
        turn, shift: (3, 3) and (3,), see `occle_core.mapping.resample.from_map_numbers`.
        low, high: (2,) columns of the map to look at, `high` not included.
        returns: (N,) flat numbers of the map's cells that hold returns, and of the grid's, -1 outside of it.
        sure: (X, Y, Z), the map's cell is surely ground.
        evidence: (X, Y, Z) int8 of the map; it is changed.

    Returns:
        (M,) flat numbers, in the map and in the grid, of different cells that take a class.
    """
    singles = [np.ascontiguousarray(a, np.float32) for a in (turn, shift, turn[:, 2] * (evidence.shape[2] - 1))]
    count = len(returns[0])
    room = max(0, int(np.prod(high - low))) * evidence.shape[2] + count
    cells, sources = np.empty(room, np.int32), np.empty(room, np.int32)
    found = library.call(
        "read_grid",
        address(grid, np.int8, None, None, None),
        address(kinds, np.uint8, *grid.shape),
        *grid.shape,
        address(singles[0], np.float32, 3, 3),
        address(singles[1], np.float32, 3),
        address(singles[2], np.float32, 3),
        int(low[0]),
        int(high[0]),
        int(low[1]),
        int(high[1]),
        *evidence.shape,
        *(address(numbers, np.int32, count) for numbers in returns),
        count,
        address(sure, np.bool_, *evidence.shape),
        address(evidence, np.int8, None, None, None),
        address(cells, np.int32, room),
        address(sources, np.int32, room),
    )
    return cells[:found], sources[:found]


def add_evidence(
    library: Library,
    evidence: Bytes,
    dynamic: NDArray[np.bool_],
    fading: Sequence[int],
    clearing: int,
    limits: tuple[int, int],
    log_odds: Bytes,
) -> None:
    """As `occle_core.mapping.evidence.Evidence.add`.

    Args:
        library: see `occle_core.native.library.load`.
        evidence: (X, Y, Z) of one frame, 0 where it says nothing.
        dynamic: (X, Y, Z), the cell's class may move.
        fading: steps by which cells without evidence fade: occupied dynamic ones, other occupied ones, free ones.
        clearing: least evidence of free space in dynamic cells.
        limits: of the log-odds.
        log_odds: (X, Y, Z); it is changed.
    """
    steps, shape = np.array(fading, np.int32), log_odds.shape
    library.call(
        "add_evidence",
        address(evidence, np.int8, *shape),
        address(dynamic, np.bool_, *shape),
        log_odds.size,
        address(steps, np.int32, 3),
        clearing,
        *limits,
        address(log_odds, np.int8, *shape),
    )


def vote_classes(
    library: Library,
    cells: NDArray[np.intp],
    labels: Labels,
    confidence: Labels,
    moves: NDArray[np.bool_],
    most: int,
    log_odds: Bytes,
    held: Labels,
    votes: Labels,
    dynamic: NDArray[np.bool_],
) -> None:
    """As `occle_core.mapping.evidence.Evidence.vote`.

    Args:
        library: see `occle_core.native.library.load`.
        cells: (N,) different flat numbers.
        labels, confidence: (N,) what a network says of them.
        moves: (256,) ids of dynamic classes.
        most: largest lead of a class.
        log_odds: (X, Y, Z) before the frame.
        held, votes, dynamic: (X, Y, Z) the cells' classes, their leads, and whether they move; all four are changed.
    """
    n, shape = len(cells), held.shape
    library.call(
        "vote_classes",
        address(cells, np.int64, n),
        n,
        address(labels, np.uint8, n),
        address(confidence, np.uint8, n),
        address(moves, np.bool_, 256),
        most,
        IGNORE,
        address(log_odds, np.int8, *shape),
        address(held, np.uint8, *shape),
        address(votes, np.uint8, *shape),
        address(dynamic, np.bool_, *shape),
    )
