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
from occle_core.mapping.classes import dynamic, lookup
from occle_core.mapping.classes import ground as ground_classes
from occle_core.mapping.config import UNITS, MapConfig
from occle_core.mapping.resample import columns_in_reach, from_map_numbers, source_cells
from occle_core.native import mapping
from occle_core.native.library import loaded
from occle_core.native.prepare import number_cells
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
        sources: (N,) flat numbers of the grid's cells, -1 outside of it.
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
    spared: NDArray[np.intp],
    turn: int,
) -> Returns:
    """Write the scan's evidence over `evidence`: cells with a return, and cells that rays only passed.

    Args:
        evidence: (X, Y, Z) int8 of the map's window, in steps of 1 / UNITS of natural log-odds.
        config: constants.
        points: (N, 3) finite, in the frame of the network's grid, metres.
        grid: the network's.
        T_window_grid: (4, 4), maps its frame into metres from the window's lowest corner.
        origins: the LiDARs there.
        spared: (M,) flat numbers of the window's cells that passing rays do not clear: a flat ray is inside the ground's cells
            for metres before it ends on the ground.
        turn: number of the frame: the next one's rays are others. A LiDAR's rows repeat, so some of its beams would never clear.

    Returns:
        those of the scan that lie in the window.
    """
    window = VoxelGrid((0.0, 0.0, 0.0), config.shape, config.resolution)
    hit, miss = round(config.hit * UNITS), round(config.miss * UNITS)
    there = transform_points(T_window_grid, points)
    step = 1 + len(points) // config.rays
    thinned = slice(turn % step, None, step)
    passed = rays_cells(window, there[thinned], origins.of(thinned))
    passed.reshape(-1)[spared] = False
    np.multiply(passed.view(np.int8), np.int8(-miss), out=evidence)
    cells, sources = _numbers(window, there), _numbers(grid, points)
    inside = cells >= 0
    returns = Returns(cells[inside], sources[inside])
    evidence.reshape(-1)[returns.cells] = hit
    return returns


def observed_by_network(
    evidence: NDArray[np.int8],
    config: MapConfig,
    occupancy: Occupancy,
    T_window_grid: NDArray[np.float64],
    returns: Returns,
    ground: NDArray[np.intp],
) -> NamedCells:
    """Add the network's evidence.

    The map's cells do not line up with the network's. Where returns lie in a cell that the network calls occupied, they say which
    part of it is: the map's cells that hold them take its class, and no other cell takes evidence from it. Everywhere else a cell
    of the map reads the network's cell in which its centre lies; on top of sure ground no other ground is taken from there, it
    only makes up for passing rays.

    Args:
        evidence: (X, Y, Z) int8 of the map's window, in steps of 1 / UNITS of natural log-odds.
        config: constants.
        occupancy: cells of its label 255 say nothing.
        T_window_grid: (4, 4), maps the grid's frame into metres from the window's lowest corner.
        returns: of the same frame.
        ground: (M,) flat numbers of the window's cells that are surely ground.

    Returns:
        the cells that are rather occupied than free, and their classes.
    """
    grid, weight = occupancy.grid, network_evidence(config, occupancy)
    sure = np.zeros(evidence.shape, np.bool_)
    sure.reshape(-1)[ground] = True
    if (library := loaded()) is not None:
        turn, shift = from_map_numbers(grid, T_window_grid, config.resolution)
        reach = columns_in_reach(grid, T_window_grid, config.shape, config.resolution)
        is_ground = lookup(occupancy.taxonomy, ground_classes(occupancy.taxonomy))
        kinds = occupancy.occupied.view(np.uint8) << is_ground[occupancy.labels]
        both = returns.cells, returns.sources
        cells, sources = mapping.read_grid(library, weight, kinds, turn, shift, *reach, both, sure, evidence)
    else:
        cells, sources = _read_grid(weight, occupancy, T_window_grid, config, returns, sure, evidence)
    confidence = _CONFIDENCES[occupancy.confidence.reshape(-1)[sources].view(np.uint16)]
    return NamedCells(cells, occupancy.labels.reshape(-1)[sources], confidence)


def _read_grid(
    weight: NDArray[np.int8],
    occupancy: Occupancy,
    T_window_grid: NDArray[np.float64],
    config: MapConfig,
    returns: Returns,
    sure: NDArray[np.bool_],
    evidence: NDArray[np.int8],
) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """As `occle_core.native.mapping.read_grid`."""
    named = (returns.sources >= 0) & occupancy.occupied.reshape(-1)[returns.sources]
    cells_of_returns, sources_of_returns = returns.cells[named], returns.sources[named]
    weight.reshape(-1)[sources_of_returns] = 0
    columns, sources = source_cells(occupancy.grid, T_window_grid, config.shape, config.resolution)
    found, heights = np.append(weight.reshape(-1), np.int8(0))[sources], config.shape[2]
    is_ground = lookup(occupancy.taxonomy, ground_classes(occupancy.taxonomy))
    is_ground = is_ground[np.append(occupancy.labels.reshape(-1), np.uint8(IGNORE))]
    doubled = np.zeros(found.shape, np.bool_)
    doubled[:, 1:] = is_ground[sources[:, 1:]] & (found[:, 1:] > 0) & sure.reshape(-1, heights)[columns, :-1]
    before = evidence.reshape(-1, heights)[columns]
    evidence.reshape(-1, heights)[columns] = np.where(doubled, np.minimum(before + found, np.maximum(before, 0)), before + found)
    found[doubled] = 0
    numbers = np.flatnonzero(found > 0)
    cells = (columns[numbers // heights] * heights + numbers % heights).astype(np.int32)
    # Of several returns in a cell the last one names it.
    order, newest = np.arange(len(cells_of_returns), dtype=np.int32), np.full(evidence.size, -1, np.int32)
    newest[cells_of_returns] = order
    last, others = newest[cells_of_returns] == order, newest[cells] < 0
    numbers = numbers[others]
    return (
        np.concatenate([cells[others], cells_of_returns[last]]),
        np.concatenate([sources.reshape(-1)[numbers], sources_of_returns[last]]),
    )


def _numbers(grid: VoxelGrid, points: NDArray[np.float32]) -> NDArray[np.int32]:
    """(N,) flat numbers of the cells that hold the points, -1 outside."""
    if (library := loaded()) is not None:
        return number_cells(library, points, grid)
    at, inside = grid.index(points)
    numbers = (at[:, 0] * grid.shape[1] + at[:, 1]) * grid.shape[2] + at[:, 2]
    numbers[~inside] = -1
    return numbers


def network_evidence(config: MapConfig, occupancy: Occupancy) -> NDArray[np.int8]:
    """(X, Y, Z) int8: the share of the probability's log-odds that counts."""
    said, free_class = occupancy.labels, occupancy.taxonomy.free
    if occupancy.probability is None:
        free = np.float16(UNCALIBRATED_FREE)
        p = np.where(said == free_class, free, np.maximum(occupancy.confidence, np.float16(0.5)))
    else:
        p = occupancy.probability
    moves = lookup(occupancy.taxonomy, dynamic(occupancy.taxonomy))
    still, moving = (_steps_of(gain, config.network_limit) for gain in (config.network_gain, config.dynamic_gain))
    # The map's cells do not line up with the grid's: what is free by half a cell says little.
    share = _share_of(config.beside)
    if (library := loaded()) is not None:
        return mapping.network_evidence(library, said, p, moves, free_class, still, moving, share)
    bits = p.view(np.uint16)
    steps = np.where(moves[said], moving[bits], still[bits])
    steps[said == IGNORE] = 0
    occupied = occupancy.occupied
    beside = grown(occupied) & ~occupied
    steps[beside] = share[steps[beside].view(np.uint8)]
    return steps


def grown(cells: NDArray[np.bool_]) -> NDArray[np.bool_]:
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


@lru_cache(maxsize=4)
def _share_of(share: float) -> NDArray[np.int8]:
    """(256,) int8: a share of evidence, rounded down, by the evidence's bits."""
    return np.floor(np.arange(256, dtype=np.uint8).view(np.int8) * np.float64(share)).astype(np.int8)
