# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Objects: connected occupied cells of classes that may move, with their boxes."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from occle_core.mapping.classes import lookup, people, vehicles
from occle_core.mapping.snapshot import MapSnapshot

Point = tuple[float, float, float]


@dataclass(frozen=True)
class MapObject:
    """An object in the map.

    Args:
        label: class id that most of its cells carry, the lowest of equals.
        center: x, y, z of the box's middle, metres in the map's frame.
        size: along the box's own x (the longer side), y and z, metres.
        yaw: of the box's x axis in the map's frame, radians in (-pi/2, pi/2].
        cells: how many it has.
        probability: mean probability of occupancy of its cells.
    """

    label: int
    center: Point
    size: Point
    yaw: float
    cells: int
    probability: float


def find_objects(snapshot: MapSnapshot, min_cells: int = 3) -> list[MapObject]:
    """Vehicles, and people with what they ride: cells that touch each other as seen from above, by edge or corner.

    Objects of the two groups are kept apart; within a group classes may mix. What stands above each other is one object.

    Args:
        snapshot: the map.
        min_cells: smaller ones are left out.

    Returns:
        in the order of their first cell.
    """
    occupied = np.flatnonzero(snapshot.occupied)
    named = snapshot.labels.reshape(-1)[occupied]
    found: list[tuple[int, MapObject]] = []
    for names in (vehicles(snapshot.taxonomy), people(snapshot.taxonomy)):
        chosen = lookup(snapshot.taxonomy, names)[named]
        cells, labels = occupied[chosen], named[chosen]
        at = np.stack(np.unravel_index(cells, snapshot.grid.shape), axis=1)
        above = np.zeros(snapshot.grid.shape[:2], np.uint8)
        above[at[:, 0], at[:, 1]] = 1
        _, parts = cv2.connectedComponents(above, connectivity=8)
        owner = parts[at[:, 0], at[:, 1]]
        order = np.argsort(owner, kind="stable")
        for own in np.split(order, np.flatnonzero(np.diff(owner[order])) + 1):
            if len(own) >= min_cells:
                label = int(np.bincount(labels[own]).argmax())
                mean = float(snapshot.probability_at(cells[own]).mean())
                found.append((int(cells[own[0]]), MapObject(label, *_box(snapshot, at[own]), len(own), mean)))
    return [thing for _, thing in sorted(found, key=lambda entry: entry[0])]


def _box(snapshot: MapSnapshot, ijk: NDArray[np.intp]) -> tuple[Point, Point, float]:
    """Centre, size and yaw of the smallest upright box around whole cells (N, 3)."""
    resolution, origin = snapshot.grid.resolution, snapshot.grid.origin
    corners = np.concatenate([ijk[:, :2] + shift for shift in ((0, 0), (0, 1), (1, 0), (1, 1))])
    (x, y), (length, width), degrees = cv2.minAreaRect(corners.astype(np.float32))
    yaw = np.radians(degrees)
    if width > length:
        length, width, yaw = width, length, yaw + np.pi / 2
    yaw = np.pi / 2 - (np.pi / 2 - yaw) % np.pi
    low, high = int(ijk[:, 2].min()), int(ijk[:, 2].max()) + 1
    center = (origin[0] + x * resolution, origin[1] + y * resolution, origin[2] + (low + high) / 2 * resolution)
    return center, (length * resolution, width * resolution, (high - low) * resolution), float(yaw)
