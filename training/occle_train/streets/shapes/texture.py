# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Procedural surface detail: tileable value noise looked up by world position, and patterns per material."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from occle_train.streets.shapes.mesh import Material

Floats = NDArray[np.float32]


class Noise:
    """Value noise of several octaves in a 512 x 512 tile, values in -1..1."""

    def __init__(self, rng: np.random.Generator) -> None:
        tile = np.zeros((512, 512), np.float32)
        for power in range(3, 10):
            n = 2**power
            lattice = rng.uniform(-1, 1, (n, n)).astype(np.float32)
            tile += _enlarge(lattice, 512) * np.float32(0.8 ** (power - 3))
        self.tile = tile / np.float32(np.abs(tile).max())

    def __call__(self, u: Floats, v: Floats, size: float) -> Floats:
        """Noise at (u, v) metres when the tile covers `size` metres."""
        k = np.float32(512.0 / size)
        out: Floats = self.tile[(u * k).astype(np.int32) & 511, (v * k).astype(np.int32) & 511]
        return out


def surface_colour(points: Floats, normals: Floats, mat: NDArray[np.uint8], rgb: Floats, par: Floats, noise: Noise) -> Floats:
    """Albedo (N, 3) at hit points: base colour with the material's pattern.

    Args:
        points: (N, 3) world positions; normals: (N, 3) unit; mat: (N,) Material; rgb: (N, 3); par: (N, 4).
    """
    u, v = _plane(points, normals)
    fine, coarse = noise(u, v, 6.0), noise(u + 3, v - 7, 47.0)
    amount = _FINE[mat] * fine + _COARSE[mat] * coarse
    colour = rgb * (1 + amount)[:, None]
    asphalt = mat == Material.ASPHALT
    cracks = np.abs(coarse[asphalt] + 0.25 * fine[asphalt]) < 0.012
    patch = noise(u[asphalt], v[asphalt], 130.0) > 0.3
    colour[asphalt] *= np.where(cracks, 0.55, np.where(patch, 0.8, 1.0))[:, None].astype(np.float32)
    for material, size in ((Material.SLABS, 0.5), (Material.COBBLE, 0.16), (Material.BRICK, 0.3), (Material.ROOF, 0.3)):
        at = mat == material
        if at.any():
            row = v[at] / np.float32(size * (0.5 if material in (Material.BRICK, Material.ROOF) else 1.0))
            column = u[at] / np.float32(size) + 0.5 * (np.floor(row) % 2)
            joint = ((row % 1) < 0.09) | ((column % 1) < 0.07)
            colour[at] *= np.where(joint, 0.72, 1.0)[:, None].astype(np.float32)
    grass = mat == Material.GRASS
    dry = np.clip(coarse[grass] * 1.5, 0, 1)[:, None]
    colour[grass] = colour[grass] * (1 - dry) + _DRY_GRASS * dry * (1 + 0.3 * fine[grass])[:, None]
    facade = mat == Material.FACADE
    if facade.any():
        glass, frame = windows(points[facade], normals[facade], par[facade])
        wall = colour[facade]
        wall[frame] = 0.55
        wall[glass] = _PANE * (1 + 0.8 * coarse[facade][glass])[:, None]
        colour[facade] = wall
    out: Floats = np.clip(colour, 0.003, 1.0)
    return out


def windows(points: Floats, normals: Floats, par: Floats) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Masks (N,) of a facade's window panes and of its window frames. par: base z, pitch, storey height, phase."""
    along = points[:, 0] * -normals[:, 1] + points[:, 1] * normals[:, 0]
    pitch, storey = np.maximum(par[:, 1], 0.5), np.maximum(par[:, 2], 0.5)
    x = ((along + par[:, 3]) / pitch) % 1 * pitch
    height = points[:, 2] - par[:, 0]
    y = (height / storey) % 1 * storey
    upright = (np.abs(normals[:, 2]) < 0.3) & (height > 0.5)
    half = np.minimum(pitch * 0.3, 0.75)
    dx, low, high = np.abs(x - pitch / 2), 0.95, storey - 0.45
    frame = upright & (dx < half + 0.07) & (y > low - 0.07) & (y < high + 0.07)
    glass = upright & (dx < half) & (y > low) & (y < high) & (dx > 0.03)
    return glass, frame & ~glass


_DRY_GRASS = np.array([0.24, 0.19, 0.1], np.float32)
_PANE = np.array([0.035, 0.045, 0.055], np.float32)
_FINE = np.zeros(len(Material), np.float32)
_COARSE = np.zeros(len(Material), np.float32)
for _material, _fine, _coarse in (
    (Material.PLAIN, 0.12, 0.12), (Material.ASPHALT, 0.35, 0.3), (Material.SLABS, 0.25, 0.3), (Material.GRASS, 0.9, 0.4),
    (Material.FACADE, 0.1, 0.18), (Material.FOLIAGE, 0.8, 0.2), (Material.PAINT, 0.02, 0.03), (Material.BRICK, 0.3, 0.15),
    (Material.BARK, 0.6, 0.2), (Material.MARKING, 0.2, 0.25), (Material.COBBLE, 0.35, 0.25), (Material.ROOF, 0.3, 0.2),
):  # fmt: skip
    _FINE[_material], _COARSE[_material] = _fine, _coarse


def _plane(points: Floats, normals: Floats) -> tuple[Floats, Floats]:
    """Texture coordinates in the plane that faces the normal most."""
    axis = np.abs(normals).argmax(1)
    u = np.where(axis == 0, points[:, 1], points[:, 0])
    v = np.where(axis == 2, points[:, 1], points[:, 2])
    return u + 1000, v + 1000


def _enlarge(lattice: Floats, size: int) -> Floats:
    """Bilinear, periodic enlargement of a square lattice."""
    n = len(lattice)
    at = np.arange(size) * n / size
    low, share = at.astype(int), (at % 1).astype(np.float32)
    share = share * share * (3 - 2 * share)
    rows = lattice[low] * (1 - share)[:, None] + lattice[(low + 1) % n] * share[:, None]
    out: Floats = rows[:, low] * (1 - share) + rows[:, (low + 1) % n] * share
    return out
