# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Trees, bushes and hedges: crowns are clouds of leaf triangles that rays can pass."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from occle_train.streets.shapes.mesh import Material, Mesh, ball, box, join, leaves, surface, tube

_BARK = np.array([0.11, 0.085, 0.06])


def tree(rng: np.random.Generator, size: float = 1.0) -> Mesh:
    """A broad-leaved tree, or now and then a conifer; `size` 1 is about 8 m high."""
    return _conifer(rng, size) if rng.random() < 0.15 else _broadleaf(rng, size)


def bush(rng: np.random.Generator, radius: float) -> Mesh:
    """A round bush with a dense core."""
    radii = np.array([radius, radius * rng.uniform(0.7, 1.2), radius * rng.uniform(0.7, 1.3)])
    colour = green(rng)
    n = int(210 * max(radius, 0.5) ** 2)
    at = _shell(rng, n, 0.75) * radii + (0, 0, radii[2] * 0.85)
    at[:, 2] = np.maximum(at[:, 2], 0.05)
    core = ball((0, 0, radii[2] * 0.7), radii * 0.72)
    return join([
        surface(core, "vegetation", colour * 0.35, Material.FOLIAGE),
        surface(leaves(at, 0.2, rng), "vegetation", _vary(rng, colour, n), Material.FOLIAGE),
    ])  # fmt: skip


def hedge(rng: np.random.Generator, length: float, height: float, thick: float) -> Mesh:
    """A clipped hedge along x, centred, standing on z = 0."""
    colour = green(rng)
    half, t = length / 2, thick / 2
    n = int(70 * (length * (2 * height + thick)) * 0.5)
    face = rng.integers(0, 3, n)
    at = rng.uniform((-half, -t, 0.02), (half, t, height), (n, 3))
    at[face < 2, 1] = (t * np.where(face == 0, 1.0, -1.0))[face < 2]
    at[face == 2, 2] = height
    at += rng.normal(0, 0.04, (n, 3))
    core = box(-half, half, -t * 0.85, t * 0.85, -0.2, height * 0.96)
    return join([
        surface(core, "vegetation", colour * 0.45, Material.FOLIAGE),
        surface(leaves(at, 0.17, rng), "vegetation", _vary(rng, colour, n), Material.FOLIAGE),
    ])  # fmt: skip


def green(rng: np.random.Generator) -> NDArray[np.float64]:
    """A leaf colour; now and then autumn or dark red."""
    base = np.array([0.09, 0.16, 0.035]) * rng.uniform(0.55, 1.3)
    kind = rng.random()
    if kind < 0.12:
        base = np.array([0.3, 0.2, 0.04]) * rng.uniform(0.6, 1.2)
    elif kind < 0.16:
        base = np.array([0.12, 0.04, 0.03]) * rng.uniform(0.6, 1.2)
    out: NDArray[np.float64] = base * rng.uniform(0.85, 1.15, 3)
    return out


def _broadleaf(rng: np.random.Generator, size: float) -> Mesh:
    height = 8.0 * size * rng.uniform(0.7, 1.3)
    stem = height * (rng.uniform(0.24, 0.38) if rng.random() < 0.6 else rng.uniform(0.08, 0.2))
    radius = 0.025 * height * rng.uniform(0.7, 1.3)
    bark, colour = _BARK * rng.uniform(0.7, 1.8), green(rng)
    lean = rng.normal(0, 0.04 * height, 2)
    fork = np.array([lean[0] * 0.4, lean[1] * 0.4, stem])
    wood = [tube((0, 0, -0.3), fork, radius * 1.15, radius * 0.85, 7, caps=False)]
    spread = height * rng.uniform(0.2, 0.32)
    at = []
    for k in range(int(rng.integers(4, 8))):
        angle = k * 2.4 + rng.uniform(-0.4, 0.4)
        reach = spread * rng.uniform(0.4, 1.0)
        tip = fork + np.array([np.cos(angle) * reach, np.sin(angle) * reach, (height - stem) * rng.uniform(0.3, 0.85)])
        wood.append(tube(fork, tip, radius * 0.6, radius * 0.15, 5, caps=False))
        blob = spread * rng.uniform(0.45, 0.75)
        at.append(_shell(rng, int(190 * blob**1.6) + 30, 0.3) * (blob, blob, blob * 0.75) + tip)
    crown = np.concatenate(at)
    return join([
        surface(np.concatenate(wood), "trunk", bark, Material.BARK),
        surface(leaves(crown, 0.36, rng), "vegetation", _vary(rng, colour, len(crown)), Material.FOLIAGE),
    ])  # fmt: skip


def _conifer(rng: np.random.Generator, size: float) -> Mesh:
    height = 9.0 * size * rng.uniform(0.7, 1.3)
    wide = height * rng.uniform(0.16, 0.24)
    colour = np.array([0.04, 0.085, 0.035]) * rng.uniform(0.7, 1.3)
    n = int(100 * height)
    z = height * (0.1 + 0.9 * (1 - np.sqrt(rng.random(n))))
    angle, r = rng.uniform(0, 2 * np.pi, n), wide * (1 - z / height) * np.sqrt(rng.uniform(0.3, 1, n))
    at = np.stack([np.cos(angle) * r, np.sin(angle) * r, z], 1)
    stem = tube((0, 0, -0.3), (0, 0, height * 0.9), 0.02 * height, 0.02, 6, caps=False)
    return join([
        surface(stem, "trunk", _BARK, Material.BARK),
        surface(leaves(at, 0.36, rng), "vegetation", _vary(rng, colour, n), Material.FOLIAGE),
    ])  # fmt: skip


def _shell(rng: np.random.Generator, n: int, inner: float) -> NDArray[np.float64]:
    """(n, 3) points between the spheres of radius `inner` and 1."""
    v = rng.normal(size=(n, 3))
    v /= np.linalg.norm(v, axis=1, keepdims=True)
    out: NDArray[np.float64] = v * rng.uniform(inner**3, 1, (n, 1)) ** (1 / 3)
    return out


def _vary(rng: np.random.Generator, colour: NDArray[np.float64], n: int) -> NDArray[np.float64]:
    out: NDArray[np.float64] = np.clip(colour * rng.uniform(0.6, 1.45, (n, 1)) * rng.uniform(0.9, 1.1, (n, 3)), 0.005, 0.9)
    return out
