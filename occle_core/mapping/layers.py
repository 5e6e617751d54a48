"""Layers that a planner reads: what stands in the way at which height, where to drive, how high the ground is."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from occle_core.mapping.classes import GROUND, lookup
from occle_core.mapping.snapshot import MapSnapshot

UNKNOWN, DRIVABLE, OBSTACLE = 255, 0, 1
"""States of a column in a height band."""


@dataclass(frozen=True)
class HeightBand:
    """A slice of space above the ground in which things are obstacles.

    Args:
        low, high: metres above the ground of each column; cells whose centre lies in low <= height < high count.
        drivable: names of ground classes that may be driven on; others are unknown.

    Raises:
        ValueError: the band is empty.
    """

    low: float = 0.3
    high: float = 2.0
    drivable: Collection[str] = GROUND

    def __post_init__(self) -> None:
        if not self.low < self.high:
            raise ValueError(f"a height band needs low < high, not {self.low} and {self.high}")


def obstacles(snapshot: MapSnapshot) -> NDArray[np.bool_]:
    """(X, Y, Z) bool: occupied cells of other classes than ground, and those for which no class was named.

    A cell without a class that lies on a cell of ground is ground too: its returns are those of a surface that is about to
    rise into it.
    """
    occupied, ground = snapshot.occupied, lookup(snapshot.taxonomy, GROUND)[snapshot.labels]
    surface = occupied & (snapshot.labels == snapshot.taxonomy.ignore)
    surface[:, :, 1:] &= (occupied & ground)[:, :, :-1]
    surface[:, :, 0] = False
    return np.asarray(occupied & ~ground & ~surface)


def ground_elevation(snapshot: MapSnapshot) -> NDArray[np.float32]:
    """(X, Y) float32: height of the ground's surface per column, metres in the map's frame; NaN where no ground is mapped.

    It is the centre of the lowest occupied cell of a ground class, and of those that lie directly on it the highest.
    """
    ground = snapshot.occupied & lookup(snapshot.taxonomy, GROUND)[snapshot.labels]
    lowest = ground.argmax(axis=2)
    levels = np.arange(ground.shape[2])
    # Slopes and their discretisation fill two cells of a column: the upper one carries the wheel.
    stack = np.logical_and.accumulate(ground | (levels < lowest[:, :, None]), axis=2)
    top = stack.sum(axis=2) - 1
    height = snapshot.grid.origin[2] + (top + 0.5) * snapshot.grid.resolution
    return np.where(ground.any(axis=2), height, np.nan).astype(np.float32)


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
    elevation = ground_elevation(snapshot)
    base = filled_elevation(snapshot, elevation)
    solid = obstacles(snapshot)
    resolution = snapshot.grid.resolution
    x, y, z = np.nonzero(solid)
    above = snapshot.grid.origin[2] + (z + 0.5) * resolution - base[x, y]
    level = np.nan_to_num((elevation - snapshot.grid.origin[2]) / resolution, nan=0.0).astype(np.intp)
    surface = np.take_along_axis(snapshot.labels, level[:, :, None], axis=2)[:, :, 0]
    layers = []
    for band in bands:
        drivable = np.isfinite(elevation) & lookup(snapshot.taxonomy, band.drivable)[surface]
        layer = np.where(drivable, np.uint8(DRIVABLE), np.uint8(UNKNOWN))
        # Half a percent of a cell: the band's edges often lie exactly on a centre.
        slack = resolution * 0.005
        within = (above >= band.low - slack) & (above < band.high - slack)
        layer[x[within], y[within]] = OBSTACLE
        layers.append(layer)
    return layers
