# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""What one frame says about the map's cells: evidence from the scan's rays and from the network."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from occle_core.frame import RayOrigins
from occle_core.geometry.grid import VoxelGrid
from occle_core.mapping.config import UNITS, MapConfig
from occle_core.mapping.resample import source_cells
from occle_core.occupancy import Occupancy
from occle_core.taxonomy import IGNORE
from occle_core.visibility import rays_cells

UNCALIBRATED_FREE = 0.05
"""Probability of occupancy of a free cell where the bundle has no calibration; an occupied cell's is then its confidence."""


@dataclass(frozen=True, eq=False)
class NamedCells:
    """Cells for which a network names a class.

    Args:
        cells: (N,) flat numbers in C order of the window.
        labels: (N,) uint8 class ids.
        confidence: (N,) uint8, the classes' probabilities in steps of 1 / UNITS.
    """

    cells: NDArray[np.intp]
    labels: NDArray[np.uint8]
    confidence: NDArray[np.uint8]


def observed_by_scan(evidence: NDArray[np.int8], config: MapConfig, points: NDArray[np.float32], origins: RayOrigins) -> None:
    """Write the scan's evidence over `evidence`: cells with a return, and cells that rays only passed.

    Args:
        evidence: (X, Y, Z) int8 of the map's window, in steps of 1 / UNITS of natural log-odds.
        config: constants.
        points: (N, 3) finite, metres from the window's lowest corner.
        origins: the LiDARs there.
    """
    window = VoxelGrid((0.0, 0.0, 0.0), config.shape, config.resolution)
    hit, miss = round(config.hit * UNITS), round(config.miss * UNITS)
    thinned = slice(None, None, 1 + len(points) // config.rays)
    np.multiply(rays_cells(window, points[thinned], origins.of(thinned)).view(np.int8), np.int8(-miss), out=evidence)
    evidence[window.occupied(points)] = hit


def observed_by_network(
    evidence: NDArray[np.int8], config: MapConfig, occupancy: Occupancy, T_window_grid: NDArray[np.float64]
) -> NamedCells:
    """Add the network's evidence.

    Args:
        evidence: (X, Y, Z) int8 of the map's window, in steps of 1 / UNITS of natural log-odds.
        config: constants.
        occupancy: cells of its label 255 say nothing.
        T_window_grid: (4, 4), maps the grid's frame into metres from the window's lowest corner.

    Returns:
        the cells that are rather occupied than free, and their classes.
    """
    weight = np.append(_network_evidence(config, occupancy).reshape(-1), np.int8(0))
    columns, sources = source_cells(occupancy.grid, T_window_grid, config.shape, config.resolution)
    found = weight[sources]
    heights = config.shape[2]
    evidence.reshape(-1, heights)[columns] += found
    numbers = np.flatnonzero(found > 0)
    source = sources.reshape(-1)[numbers]
    cells = columns[numbers // heights] * heights + numbers % heights
    sure = _CONFIDENCES[occupancy.confidence.reshape(-1)[source].view(np.uint16)]
    return NamedCells(cells, occupancy.labels.reshape(-1)[source], sure)


def _network_evidence(config: MapConfig, occupancy: Occupancy) -> NDArray[np.int8]:
    """(X, Y, Z) int8: the share of the probability's log-odds that counts."""
    said = occupancy.labels
    if occupancy.probability is None:
        free = np.float16(UNCALIBRATED_FREE)
        p = np.where(said == occupancy.taxonomy.free, free, np.maximum(occupancy.confidence, np.float16(0.5)))
    else:
        p = occupancy.probability
    steps = _steps_of(config.network_gain, config.network_limit)[p.view(np.uint16)]
    steps[said == IGNORE] = 0
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
