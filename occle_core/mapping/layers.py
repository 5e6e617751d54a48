# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Layers that a planner reads: what stands in the way at which height, where to drive, how high the ground is."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from occle_core.mapping.classes import ground, lookup
from occle_core.mapping.snapshot import MapSnapshot

UNKNOWN, DRIVABLE, OBSTACLE = 255, 0, 1
"""States of a column in a height band."""


@dataclass(frozen=True)
class HeightBand:
    """A slice of space above the ground in which things are obstacles.

    Args:
        low, high: metres above the ground of each column; cells whose centre lies in low <= height < high count.
        drivable: names of ground classes that may be driven on, others are unknown; None: all ground.

    Raises:
        ValueError: the band is empty.
    """

    low: float = 0.3
    high: float = 2.0
    drivable: Collection[str] | None = None

    def __post_init__(self) -> None:
        if not self.low < self.high:
            raise ValueError(f"a height band needs low < high, not {self.low} and {self.high}")


def obstacles(snapshot: MapSnapshot) -> NDArray[np.bool_]:
    """(X, Y, Z) bool: occupied cells of other classes than ground, and those for which no class was named.

    A cell without a class that lies on a cell of ground is ground too: its returns are those of a surface that is about to
    rise into it.
    """
    solid = np.zeros(snapshot.grid.shape, np.bool_)
    cells, labels = _occupied(snapshot)
    solid.reshape(-1)[_obstacle_cells(snapshot, cells, labels)] = True
    return solid


def columns_of_classes(snapshot: MapSnapshot, names: Collection[str]) -> NDArray[np.bool_]:
    """(X, Y) bool: columns in which some occupied cell carries one of the classes; names that the map does not have say nothing."""
    return np.asarray((snapshot.occupied & lookup(snapshot.taxonomy, names)[snapshot.labels]).any(axis=2))


def ground_elevation(snapshot: MapSnapshot) -> NDArray[np.float32]:
    """(X, Y) float32: height of the ground's surface per column, metres in the map's frame; NaN where no ground is mapped.

    It is the centre of the lowest occupied cell of a ground class, and of those that lie directly on it the highest.
    """
    column, level, _ = _ground_surface(snapshot, *_occupied(snapshot))
    return _elevation(snapshot, column, level)


def filled_elevation(snapshot: MapSnapshot, elevation: NDArray[np.float32]) -> NDArray[np.float32]:
    """(X, Y) float32: `ground_elevation` whose gaps take the nearest column's; all NaN where no ground is mapped at all."""
    known = np.isfinite(elevation)
    if not known.any() or known.all():
        return elevation
    _, nearest = cv2.distanceTransformWithLabels(
        (~known).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_5, labelType=cv2.DIST_LABEL_PIXEL
    )
    heights = np.full(int(nearest.max()) + 1, np.nan, np.float32)
    heights[nearest[known]] = elevation[known]
    return np.asarray(heights[nearest], np.float32)


def project_bands(snapshot: MapSnapshot, bands: Sequence[HeightBand]) -> list[NDArray[np.uint8]]:
    """The map from above, once per height band.

    A column is an obstacle where a cell of `obstacles` lies in the band; else drivable where its ground is mapped and of a
    drivable class; else unknown.

    Args:
        snapshot: the map.
        bands: several share the work.

    Returns:
        (X, Y) uint8 per band: UNKNOWN, DRIVABLE or OBSTACLE. Where no ground is mapped anywhere all is unknown.
    """
    cells, labels = _occupied(snapshot)
    column, level, surface = _ground_surface(snapshot, cells, labels)
    base = filled_elevation(snapshot, _elevation(snapshot, column, level)).reshape(-1)
    resolution, heights = snapshot.grid.resolution, snapshot.grid.shape[2]
    solid = _obstacle_cells(snapshot, cells, labels)
    at = solid // heights
    above = snapshot.grid.origin[2] + (solid % heights + 0.5) * resolution - base[at]
    layers = []
    for band in bands:
        layer = np.full(len(base), UNKNOWN, np.uint8)
        drivable = ground(snapshot.taxonomy) if band.drivable is None else band.drivable
        layer[column[lookup(snapshot.taxonomy, drivable)[surface]]] = DRIVABLE
        # Half a percent of a cell: the band's edges often lie exactly on a centre.
        slack = resolution * 0.005
        within = (above >= band.low - slack) & (above < band.high - slack)
        layer[at[within]] = OBSTACLE
        layers.append(layer.reshape(snapshot.grid.shape[:2]))
    return layers


def _occupied(snapshot: MapSnapshot) -> tuple[NDArray[np.intp], NDArray[np.uint8]]:
    """Flat numbers of the occupied cells, ascending, and their labels: few of a map's cells, which are read once."""
    cells = np.flatnonzero(snapshot.occupied)
    return cells, snapshot.labels.reshape(-1)[cells]


def _obstacle_cells(snapshot: MapSnapshot, cells: NDArray[np.intp], labels: NDArray[np.uint8]) -> NDArray[np.intp]:
    """Flat numbers of `obstacles`; arguments as `_occupied` gives."""
    is_ground = lookup(snapshot.taxonomy, ground(snapshot.taxonomy))[labels]
    kept = ~is_ground
    on_ground = np.zeros(len(cells), np.bool_)
    on_ground[1:] = is_ground[:-1] & (np.diff(cells) == 1) & (cells[1:] % snapshot.grid.shape[2] > 0)
    kept &= ~((labels == snapshot.taxonomy.ignore) & on_ground)
    return cells[kept]


def _ground_surface(
    snapshot: MapSnapshot, cells: NDArray[np.intp], labels: NDArray[np.uint8]
) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.uint8]]:
    """Flat numbers of the columns with ground, the level of its surface there, and the surface's class.

    Slopes and their discretisation fill two cells of a column: the upper one carries the wheel.
    """
    is_ground = lookup(snapshot.taxonomy, ground(snapshot.taxonomy))[labels]
    floor, named = cells[is_ground], labels[is_ground]
    heights = snapshot.grid.shape[2]
    column = floor // heights
    new_column = np.append(True, column[1:] != column[:-1])[: len(floor)]
    ends = np.flatnonzero(np.append(new_column[1:] | (np.diff(floor) != 1), True)[: len(floor)])
    first = np.flatnonzero(new_column)
    top = ends[np.searchsorted(ends, first)]
    return column[first], floor[top] % heights, named[top]


def _elevation(snapshot: MapSnapshot, column: NDArray[np.intp], level: NDArray[np.intp]) -> NDArray[np.float32]:
    x, y, _ = snapshot.grid.shape
    elevation = np.full(x * y, np.nan, np.float32)
    elevation[column] = snapshot.grid.origin[2] + (level + 0.5) * snapshot.grid.resolution
    return elevation.reshape(x, y)
