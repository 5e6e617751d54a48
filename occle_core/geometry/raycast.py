# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Ray casting through a voxel grid: which occupied cell does a ray meet first."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from occle_core.geometry.grid import VoxelGrid

Floats = NDArray[np.float64]

CHUNK = 16384  # rays stepped together: their state stays in the processor's cache
EMPTY, FILLED, OUTSIDE = 0, 1, 2


@dataclass(frozen=True, eq=False)
class RayHits:
    """Hits of R rays: cells, distances and faces.

    Args:
        hit: (R,) bool, the ray met an occupied cell.
        cell: (R, 3) int32, the first occupied cell; without a hit the last cell before the ray left the grid; -1 when it never
            entered the grid.
        entry: (R,) metres from the origin along the unit direction to where the ray enters `cell`, 0 when it starts inside;
            -1 when it never entered the grid.
        exit: (R,) metres to where the ray leaves `cell`; -1 when it never entered the grid.
        axis: (R,) int8, 0, 1 or 2: the face through which the ray entered `cell` is perpendicular to x, y or z;
            -1 when it started inside the cell or never entered the grid.
        sign: (R,) int8, +1 or -1: that face's outward normal along `axis`, pointing at the ray's origin; 0 when axis is -1.
    """

    hit: NDArray[np.bool_]
    cell: NDArray[np.int32]
    entry: Floats
    exit: Floats
    axis: NDArray[np.int8]
    sign: NDArray[np.int8]


def cast(grid: VoxelGrid, occupied: NDArray[np.bool_], origins: ArrayLike, directions: ArrayLike) -> RayHits:
    """First occupied cell along each ray (Amanatides and Woo, "A fast voxel traversal algorithm", 1987), in float64.

    Args:
        occupied: (X, Y, Z) bool.
        origins: (3,) or (R, 3), grid frame, metres; they may lie outside the grid.
        directions: (R, 3), any length but zero.

    Raises:
        ValueError: shapes do not fit, a direction is zero, or a number is not finite.
    """
    occupied = np.asarray(occupied)
    if occupied.shape != grid.shape or occupied.dtype != np.bool_:
        raise ValueError(f"occupied must be bool {grid.shape} as the grid, not {occupied.dtype} {occupied.shape}")
    ways = np.asarray(directions, np.float64)
    if ways.ndim != 2 or ways.shape[1] != 3:
        raise ValueError(f"directions must be (R, 3), not {ways.shape}")
    starts = np.asarray(origins, np.float64)
    if starts.shape not in ((3,), ways.shape):
        raise ValueError(f"origins must be (3,) or {ways.shape} as the directions, not {starts.shape}")
    lengths = np.linalg.norm(ways, axis=1)
    if not (np.isfinite(ways).all() and np.isfinite(starts).all() and (lengths > 0).all()):
        raise ValueError("a ray's origin or direction is not finite, or its direction is zero")

    # In cells: the grid is the box 0..shape, and t still counts metres.
    ways = ways / lengths[:, None] / grid.resolution
    starts = np.broadcast_to((starts - np.asarray(grid.origin)) / grid.resolution, ways.shape)
    cells = np.full([n + 2 for n in grid.shape], OUTSIDE, np.uint8)  # a rim of one cell: no bounds checks when stepping
    cells[1:-1, 1:-1, 1:-1] = occupied

    count = len(ways)
    found = RayHits(
        np.zeros(count, np.bool_),
        np.full((count, 3), -1, np.int32),
        np.full(count, -1.0),
        np.full(count, -1.0),
        np.full(count, -1, np.int8),
        np.zeros(count, np.int8),
    )
    for begin in range(0, count, CHUNK):
        part = slice(begin, begin + CHUNK)
        rows = RayHits(found.hit[part], found.cell[part], found.entry[part], found.exit[part], found.axis[part], found.sign[part])
        _march(cells, starts[part], ways[part], rows)
    return found


def _enter(shape: Floats, starts: Floats, ways: Floats) -> tuple[NDArray[np.intp], Floats, NDArray[np.intp], Floats]:
    """Rays that get into the box 0..shape: their numbers, t there, the axis of the box's face crossed (-1: none), first cell."""
    forward, still = ways > 0, ways == 0
    with np.errstate(divide="ignore", invalid="ignore"):
        near = np.where(forward, -starts, shape - starts) / ways
        far = np.where(forward, shape - starts, -starts) / ways
    near[still] = -np.inf
    far[still] = np.where((starts >= 0) & (starts < shape), np.inf, -np.inf)[still]
    t = np.maximum(near.max(axis=1), 0.0)
    ray = np.flatnonzero(t < far.min(axis=1))
    t = t[ray]
    face = np.where(t > 0, near[ray].argmax(axis=1), -1)
    first = np.floor(starts[ray] + t[:, None] * ways[ray])
    # Along the axis of entry the cell is known exactly; rounding must not move it.
    outside = np.flatnonzero(face >= 0)
    crossed = face[outside]
    first[outside, crossed] = np.where(forward[ray[outside], crossed], 0.0, shape[crossed] - 1)
    return ray, t, face, np.clip(first, 0, shape - 1)


def _march(cells: NDArray[np.uint8], starts: Floats, ways: Floats, found: RayHits) -> None:
    """Step the rays of one chunk (lengths in cells, t in metres) until all have ended; write where into `found`."""
    ray, t, face, first = _enter(np.array(cells.shape) - 2.0, starts, ways)
    base, ways = starts[ray].T.copy(), ways[ray].T.copy()

    # Per axis, as the rows of C-ordered (3, n) arrays: the next plane, in cells, and t there. That t comes from the plane
    # each time and is never summed up: it is as exact at the end of a long ray as at its start.
    strides = np.array([cells.shape[1] * cells.shape[2], cells.shape[2], 1])
    flat = ((first.astype(np.int64) + 1) * strides).sum(axis=1)
    step = np.where(ways > 0, 1, -1)
    jump = step * strides[:, None]
    plane = np.ascontiguousarray(first.T) + (ways > 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        inverse = 1.0 / ways
        following = np.where(ways == 0, np.inf, (plane - base) * inverse)
    contents = cells.reshape(-1)

    def finish(which: NDArray[np.bool_], hit: bool, cell: NDArray[np.int64], entry: Floats, through: NDArray[np.intp]) -> None:
        at = np.flatnonzero(which)
        if len(at):
            rays, axis = ray[at], through[at]
            found.hit[rays] = hit
            found.cell[rays] = np.stack(np.unravel_index(cell[at], cells.shape), axis=1) - 1
            found.entry[rays], found.exit[rays] = entry[at], following[:, at].min(axis=0) if hit else crossed[at]
            found.axis[rays], found.sign[rays] = axis, np.where(axis < 0, 0, -step[axis, at])

    struck = contents[flat] == FILLED
    crossed = t
    finish(struck, True, flat, t, face)
    alive = ~struck
    while alive.any():
        if not alive.all():
            # compress, not [:, alive]: the result must be C-ordered for the views below.
            ray, t, face, flat = ray[alive], t[alive], face[alive], flat[alive]
            inverse, step, jump, plane, base, following = (
                np.compress(alive, a, axis=1) for a in (inverse, step, jump, plane, base, following)
            )
        axis = np.where(following[0] < following[1], 0, 1)
        axis[following[2] < np.minimum(following[0], following[1])] = 2
        at = axis * len(ray) + np.arange(len(ray))  # each ray's entry of that axis in a flattened (3, n) array
        crossed = following.reshape(-1)[at]
        onward = flat + jump.reshape(-1)[at]
        moved = plane.reshape(-1)[at] + step.reshape(-1)[at]
        plane.reshape(-1)[at] = moved
        following.reshape(-1)[at] = (moved - base.reshape(-1)[at]) * inverse.reshape(-1)[at]

        content = contents[onward]
        over = content == OUTSIDE
        struck = ~over & (content == FILLED)
        finish(over, False, flat, t, face)
        finish(struck, True, onward, crossed, axis)
        alive = ~(over | struck)
        t, face, flat = crossed, axis, onward
