# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""What one frame says about the map's cells: evidence from the scan's rays and from the network."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from occle_core.frame import RayOrigins
from occle_core.geometry.affine import transform_points
from occle_core.geometry.grid import VoxelGrid
from occle_core.mapping.classes import DYNAMIC, lookup
from occle_core.mapping.config import UNITS, MapConfig
from occle_core.mapping.resample import columns_in_reach, from_map_numbers, source_cells
from occle_core.native import mapping
from occle_core.native.library import loaded
from occle_core.occupancy import Occupancy
from occle_core.taxonomy import IGNORE
from occle_core.visibility import rays_cells

UNCALIBRATED_FREE = 0.05
"""Probability of occupancy of a free cell where the bundle has no calibration; an occupied cell's is then its confidence."""


@dataclass(frozen=True, eq=False)
class NamedCells:
    """Cells for which a network names a class.

    Args:
        cells: (N,) int32 different flat numbers in C order of the window.
        labels: (N,) uint8 class ids.
        confidence: (N,) uint8, the classes' probabilities in steps of 1 / UNITS.
    """

    cells: NDArray[np.int32]
    labels: NDArray[np.uint8]
    confidence: NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Returns:
    """Returns of a scan, in the map's window and in the network's grid.

    Args:
        cells: (N,) flat numbers of the window's cells that hold them.
        sources: (N,) flat numbers of the grid's cells, `grid.size` outside of it.
    """

    cells: NDArray[np.int32]
    sources: NDArray[np.int32]


def observed_by_scan(
    evidence: NDArray[np.int8],
    config: MapConfig,
    points: NDArray[np.float32],
    grid: VoxelGrid,
    T_window_grid: NDArray[np.float64],
    origins: RayOrigins,
    spared: NDArray[np.bool_],
) -> Returns:
    """Write the scan's evidence over `evidence`: cells with a return, and cells that rays only passed.

    Args:
        evidence: (X, Y, Z) int8 of the map's window, in steps of 1 / UNITS of natural log-odds.
        config: constants.
        points: (N, 3) finite, in the frame of the network's grid, metres.
        grid: the network's.
        T_window_grid: (4, 4), maps its frame into metres from the window's lowest corner.
        origins: the LiDARs there.
        spared: (X, Y, Z) bool of the window, cells that passing rays do not clear: a flat ray is inside the ground's cells for
            metres before it ends on the ground.

    Returns:
        those of the scan that lie in the window.
    """
    window = VoxelGrid((0.0, 0.0, 0.0), config.shape, config.resolution)
    hit, miss = round(config.hit * UNITS), round(config.miss * UNITS)
    there = transform_points(T_window_grid, points)
    thinned = slice(None, None, 1 + len(points) // config.rays)
    passed = rays_cells(window, there[thinned], origins.of(thinned))
    passed &= ~spared
    np.multiply(passed.view(np.int8), np.int8(-miss), out=evidence)
    cells, sources = _numbers(window, there), _numbers(grid, points)
    inside = cells < window.size
    returns = Returns(cells[inside], sources[inside])
    evidence.reshape(-1)[returns.cells] = hit
    return returns


def observed_by_network(
    evidence: NDArray[np.int8], config: MapConfig, occupancy: Occupancy, T_window_grid: NDArray[np.float64], returns: Returns
) -> NamedCells:
    """Add the network's evidence.

    The map's cells do not line up with the network's. Where returns lie in a cell that the network calls occupied, they say which
    part of it is: the map's cells that hold them take its class, and no other cell takes evidence from it. Everywhere else a cell
    of the map reads the network's cell in which its centre lies.

    Args:
        evidence: (X, Y, Z) int8 of the map's window, in steps of 1 / UNITS of natural log-odds.
        config: constants.
        occupancy: cells of its label 255 say nothing.
        T_window_grid: (4, 4), maps the grid's frame into metres from the window's lowest corner.
        returns: of the same frame.

    Returns:
        the cells that are rather occupied than free, and their classes.
    """
    grid, weight = occupancy.grid, _network_evidence(config, occupancy)
    named = np.append(occupancy.occupied.reshape(-1), False)[returns.sources]
    cells_of_returns, sources_of_returns = returns.cells[named], returns.sources[named]
    weight.reshape(-1)[sources_of_returns] = 0
    if (library := loaded()) is not None:
        turn, shift = from_map_numbers(grid, T_window_grid, config.resolution)
        reach = columns_in_reach(grid, T_window_grid, config.shape, config.resolution)
        cells, sources = mapping.read_grid(library, weight, turn, shift, *reach, evidence)
    else:
        cells, sources = _read_grid(weight, grid, T_window_grid, config, evidence)
    # Of several returns in a cell the last one names it.
    numbers, newest = np.arange(len(cells_of_returns), dtype=np.int32), np.empty(evidence.size, np.int32)
    newest[cells_of_returns] = numbers
    last = newest[cells_of_returns] == numbers
    by_return = np.zeros(evidence.size, np.bool_)
    by_return[cells_of_returns] = True
    others = ~by_return[cells]
    cells = np.concatenate([cells[others], cells_of_returns[last]])
    sources = np.concatenate([sources[others], sources_of_returns[last]])
    sure = _CONFIDENCES[occupancy.confidence.reshape(-1)[sources].view(np.uint16)]
    return NamedCells(cells, occupancy.labels.reshape(-1)[sources], sure)


def _read_grid(
    weight: NDArray[np.int8], grid: VoxelGrid, T_window_grid: NDArray[np.float64], config: MapConfig, evidence: NDArray[np.int8]
) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """As `occle_core.native.mapping.read_grid`."""
    columns, sources = source_cells(grid, T_window_grid, config.shape, config.resolution)
    found = np.append(weight.reshape(-1), np.int8(0))[sources]
    heights = config.shape[2]
    evidence.reshape(-1, heights)[columns] += found
    numbers = np.flatnonzero(found > 0)
    cells = columns[numbers // heights] * heights + numbers % heights
    return cells.astype(np.int32), sources.reshape(-1)[numbers]


def _numbers(grid: VoxelGrid, points: NDArray[np.float32]) -> NDArray[np.int32]:
    """(N,) flat numbers of the cells that hold the points, `grid.size` outside."""
    at, inside = grid.index(points)
    numbers = (at[:, 0] * grid.shape[1] + at[:, 1]) * grid.shape[2] + at[:, 2]
    numbers[~inside] = grid.size
    return numbers


def _network_evidence(config: MapConfig, occupancy: Occupancy) -> NDArray[np.int8]:
    """(X, Y, Z) int8: the share of the probability's log-odds that counts."""
    said = occupancy.labels
    if occupancy.probability is None:
        free = np.float16(UNCALIBRATED_FREE)
        p = np.where(said == occupancy.taxonomy.free, free, np.maximum(occupancy.confidence, np.float16(0.5)))
    else:
        p = occupancy.probability
    bits = p.view(np.uint16)
    steps = _steps_of(config.network_gain, config.network_limit)[bits]
    steps[said == IGNORE] = 0
    moving = lookup(occupancy.taxonomy, DYNAMIC)[said]
    steps[moving] = _steps_of(config.dynamic_gain, config.network_limit)[bits[moving]]
    # The map's cells do not line up with the grid's: what is free by half a cell says little.
    occupied = occupancy.occupied
    beside = _grown(occupied) & ~occupied
    steps[beside] = np.floor(steps[beside] * config.beside).astype(np.int8)
    return steps


def _grown(cells: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Cells and their 26 neighbours."""
    for axis in range(3):
        wider = cells.copy()
        near, far = [slice(None)] * 3, [slice(None)] * 3
        near[axis], far[axis] = slice(1, None), slice(None, -1)
        wider[tuple(near)] |= cells[tuple(far)]
        wider[tuple(far)] |= cells[tuple(near)]
        cells = wider
    return cells


def _all_halves() -> NDArray[np.float64]:
    """(65536,) every float16 in 0..1 at the index of its bits; 0.5 for other bits. Tables over them replace slow arithmetic."""
    with np.errstate(invalid="ignore"):
        values = np.arange(1 << 16, dtype=np.uint16).view(np.float16).astype(np.float64)
    return np.where((values >= 0) & (values <= 1), values, 0.5)


_CONFIDENCES = np.round(_all_halves() * UNITS).astype(np.uint8)


@lru_cache(maxsize=4)
def _steps_of(gain: float, limit: float) -> NDArray[np.int8]:
    """(65536,) int8: the evidence of every float16 probability, by its bits."""
    p = np.clip(_all_halves(), 1e-6, 1 - 1e-6)
    return np.round(np.clip((np.log(p) - np.log1p(-p)) * gain, -limit, limit) * UNITS).astype(np.int8)
