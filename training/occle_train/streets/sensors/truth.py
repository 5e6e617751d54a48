# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Voxel truth: surfaces sampled once per drive, put into the grid of every frame, with what the sensors could see."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from occle_core.geometry.grid import VoxelGrid
from occle_train.streets.shapes.classes import CLASSES, RANK
from occle_train.streets.shapes.mesh import Mesh

EMPTY = 255
"""Internal class of a cell that holds nothing."""


@dataclass(frozen=True, eq=False)
class SurfaceSamples:
    """Points on surfaces, ordered so that later ones label a shared cell.

    Args:
        points: (N, 3) float32, metres; cls: (N,) uint8 internal class.
    """

    points: NDArray[np.float32]
    cls: NDArray[np.uint8]


def sample(mesh: Mesh, spacing: float, rng: np.random.Generator) -> SurfaceSamples:
    """Points on all triangles, on average two per spacing x spacing, and at least one per triangle.

    Within one rank the order is random, so that a shared cell takes each class as often as it has points there: a majority
    vote without counting. Higher ranks (thin things) come last and win.
    """
    edges = mesh.tri[:, 1:] - mesh.tri[:, :1]
    area = np.linalg.norm(np.cross(edges[:, 0], edges[:, 1]), axis=1) / 2
    want = area * (2.0 / spacing**2)
    count = np.maximum(np.floor(want + rng.random(len(want))), 1).astype(np.int64)
    owner = np.repeat(np.arange(len(mesh)), count)
    # The R2 sequence fills each triangle evenly.
    index = np.arange(len(owner)) - np.repeat(np.cumsum(count) - count, count)
    start = rng.random((2, len(mesh)))[:, owner]
    a, b = (start[0] + index * 0.7548776662466927) % 1, (start[1] + index * 0.5698402909980532) % 1
    swap = a + b > 1
    a, b = np.where(swap, 1 - a, a).astype(np.float32), np.where(swap, 1 - b, b).astype(np.float32)
    points = mesh.tri[owner, 0] + a[:, None] * edges[owner, 0] + b[:, None] * edges[owner, 1]
    cls = mesh.cls[owner]
    # Thin it to one point per class and half-spacing cell: nothing that a cell could notice is lost.
    key = np.floor(points / np.float32(spacing * 0.6)).astype(np.int64) & 0xFFFF
    packed = ((key[:, 0] << 40) | (key[:, 1] << 24) | (key[:, 2] << 8)) | cls
    _, first = np.unique(packed, return_index=True)
    points, cls = points[first], cls[first]
    order = np.argsort(RANK[cls] + rng.random(len(cls)) * 0.9, kind="stable")
    return SurfaceSamples(np.ascontiguousarray(points[order]), cls[order])


def voxelise(
    groups: list[tuple[SurfaceSamples, NDArray[np.float64]]], grid: VoxelGrid
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Put samples into the grid.

    Args:
        groups: the static samples first, then one entry per mover, each with its T_grid_samples (4, 4).

    Returns:
        cls (X, Y, Z) uint8 internal class, EMPTY where nothing is; moving (X, Y, Z) bool, True where a mover labels the cell.
    """
    cls = np.full(grid.size, EMPTY, np.uint8)
    moving = np.zeros(grid.size, np.bool_)
    rank_of = np.append(RANK, 0)
    for number, (samples, T) in enumerate(groups):
        near = _near(samples, T, grid)
        local = samples.points[near] @ T[:3, :3].T.astype(np.float32) + T[:3, 3].astype(np.float32)
        ijk, inside = grid.index(local)
        flat = (ijk[inside, 0] * grid.shape[1] + ijk[inside, 1]) * grid.shape[2] + ijk[inside, 2]
        own = samples.cls[near][inside]
        if number:
            held = cls[flat]
            wins = (held == EMPTY) | (RANK[own] >= rank_of[np.minimum(held, len(CLASSES))])
            flat, own = flat[wins], own[wins]
            moving[flat] = True
        cls[flat] = own
    return cls.reshape(grid.shape), moving.reshape(grid.shape)


def _near(samples: SurfaceSamples, T: NDArray[np.float64], grid: VoxelGrid) -> NDArray[np.intp]:
    """SurfaceSamples within the circle around the grid: a cheap cut before the full transform."""
    if len(samples.points) < 20000:
        return np.arange(len(samples.points))
    low, high = np.array(grid.origin), np.array(grid.upper)
    middle = np.append((low + high) / 2, 1.0)
    centre = (np.linalg.inv(T) @ middle)[:2].astype(np.float32)
    radius = float(np.hypot(*(high - low)[:2]) / 2 + 1)
    offset = samples.points[:, :2] - centre
    return np.flatnonzero(np.einsum("ij,ij->i", offset, offset) < radius**2)


def coarsen(occupied: NDArray[np.bool_], factor: int) -> NDArray[np.bool_]:
    """Occupied where any of the factor^3 children is; (X, Y, Z) -> (X/f, Y/f, Z/f)."""
    if factor == 1:
        return occupied
    x, y, z = (n // factor for n in occupied.shape)
    out: NDArray[np.bool_] = np.asarray(occupied.reshape(x, factor, y, factor, z, factor).any(axis=(1, 3, 5)))
    return out


def refine(cells: NDArray[np.bool_], factor: int) -> NDArray[np.bool_]:
    """Every cell repeated factor times along each axis."""
    out: NDArray[np.bool_] = cells.repeat(factor, 0).repeat(factor, 1).repeat(factor, 2)
    return out
