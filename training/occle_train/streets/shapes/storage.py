# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Racks, shelves, pallets with goods and containers: x along them, y across, base on z = 0, centred."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from occle_train.streets.shapes.mesh import Material, Mesh, Triangles, box, join, shifted, surface, tone, tube

PALLET = (1.2, 0.8, 0.144)
"""Length, width and height of a EUR pallet, metres."""
BAY = 2.7
"""Width of a rack's bay, metres."""
_CARTON = np.array([0.42, 0.30, 0.18])
_WOOD = np.array([0.45, 0.32, 0.18])


def pallet_load(rng: np.random.Generator, high: float) -> Mesh:
    """Goods on a pallet, at most `high` metres: cartons in layers, one block in film, a few boxes, drums, or nothing."""
    long, wide, deck = PALLET
    slats = [box(-long / 2, long / 2, y - 0.07, y + 0.07, 0, deck - 0.03) for y in (-wide / 2 + 0.07, 0.0, wide / 2 - 0.07)]
    slats.append(box(-long / 2, long / 2, -wide / 2, wide / 2, deck - 0.03, deck))
    parts = [surface(np.concatenate(slats), "goods", _WOOD * rng.uniform(0.6, 1.3))]
    room = high - deck
    kind = rng.choice(["layers", "film", "boxes", "drums", "empty"], p=[0.4, 0.25, 0.2, 0.1, 0.05])
    if kind == "layers":
        count = (2, int(rng.integers(1, 3)), max(1, int(room * rng.uniform(0.5, 1.0) / 0.32)))
        step = np.array([long / count[0], wide / count[1], 0.32])
        for i, j, k in np.ndindex(*count):
            low = np.array([-long / 2, -wide / 2, deck]) + step * (i, j, k)
            span = np.column_stack([low + 0.008, low + step - 0.008]).ravel()
            parts.append(surface(box(*span.tolist()), "goods", _carton(rng)))
    elif kind == "film":
        top = deck + room * rng.uniform(0.5, 1.0)
        colour = np.clip(rng.uniform(0.3, 0.75) * rng.uniform(0.85, 1.1, 3), 0, 0.9)
        parts.append(surface(box(-0.58, 0.58, -0.38, 0.38, deck, top), "goods", colour, Material.SHINY))
    elif kind == "boxes":
        for x, y in ((-0.3, -0.2), (0.3, -0.2), (-0.3, 0.2), (0.3, 0.2)):
            a, b, c = rng.uniform(0.15, 0.28), rng.uniform(0.1, 0.18), deck + min(room, rng.uniform(0.2, 0.8))
            parts.append(surface(box(x - a, x + a, y - b, y + b, deck, c), "goods", _carton(rng)))
    elif kind == "drums":
        colour = tone(rng, 0.05, 0.5)
        for x in (-0.3, 0.3):
            drum = tube((x, 0, deck), (x, 0, deck + min(room, 0.88)), 0.29, 0.29, 10)
            parts.append(surface(drum, "goods", colour, Material.PAINT))
    return join(parts)


def stack(rng: np.random.Generator) -> Mesh:
    """Loaded pallets on the ground, one to three high, or a pile of empty ones."""
    if rng.random() < 0.2:
        count = int(rng.integers(3, 13))
        parts = []
        for k in range(count):
            x, y = rng.normal(0, 0.015, 2)
            z = k * PALLET[2]
            parts += [box(x - 0.6, x + 0.6, y + d - 0.06, y + d + 0.06, z, z + 0.11) for d in (-0.34, 0.0, 0.34)]
            parts.append(box(x - 0.6, x + 0.6, y - 0.4, y + 0.4, z + 0.11, z + 0.14))
        return surface(np.concatenate(parts), "goods", _WOOD * rng.uniform(0.5, 1.2))
    loads, high, top = list[Mesh](), rng.uniform(0.6, 1.3), 0.0
    for _ in range(int(rng.choice([1, 2, 3], p=[0.6, 0.3, 0.1]))):
        loads.append(_raised(pallet_load(rng, high), top))
        top = float(loads[-1].tri[:, :, 2].max())
    return join(loads)


def rack(rng: np.random.Generator, bays: int, levels: int, level: float, fill: float) -> Mesh:
    """A pallet rack.

    Args:
        rng: source of every choice.
        bays: of three pallets each, side by side.
        levels: beams above the floor, on which pallets stand too.
        level: height of a level, metres.
        fill: share of the places that hold a pallet.
    """
    deep, length = 1.1, bays * BAY
    top = levels * level + 0.6
    steel, beam = tone(rng, 0.1, 0.35) * (0.4, 0.6, 1.5), np.array([0.75, 0.26, 0.03]) * rng.uniform(0.7, 1.2)
    posts: list[Triangles] = []
    for x in -length / 2 + BAY * np.arange(bays + 1):
        for y in (-deep / 2 + 0.05, deep / 2 - 0.05):
            posts.append(box(x - 0.05, x + 0.05, y - 0.05, y + 0.05, 0, top))
        for z in np.arange(0.3, top - 0.6, 1.0):
            posts.append(tube((x, -deep / 2 + 0.05, z), (x, deep / 2 - 0.05, z + 0.6), 0.02, 0.02, 4, caps=False))
    beams = [
        box(-length / 2, length / 2, y - 0.025, y + 0.025, k * level - 0.12, k * level)
        for k in range(1, levels + 1)
        for y in (-deep / 2 + 0.025, deep / 2 - 0.025)
    ]
    parts = [surface(np.concatenate(posts), "rack", np.clip(steel, 0.01, 0.9), Material.PAINT)]
    if beams:
        parts.append(surface(np.concatenate(beams), "rack", beam, Material.PAINT))
    for bay, place, k in np.ndindex(bays, 3, levels + 1):
        if rng.random() < fill:
            x = -length / 2 + BAY * bay + 0.45 + 0.9 * place + rng.normal(0, 0.01)
            load = _turned(pallet_load(rng, level - 0.3 if k < levels else 1.2))
            parts.append(_raised(load, k * level, x))
    return join(parts)


def shelf(rng: np.random.Generator, length: float, high: float) -> Mesh:
    """A shelf of boards with cartons and bins, 0.5 m deep."""
    steel = tone(rng, 0.2, 0.6)
    posts = [box(x - 0.02, x + 0.02, y - 0.02, y + 0.02, 0, high) for x in _steps(-length / 2, length / 2) for y in (-0.23, 0.23)]
    heights = np.arange(0.1, high - 0.2, rng.uniform(0.4, 0.55))
    boards = [box(-length / 2, length / 2, -0.25, 0.25, z - 0.03, z) for z in heights]
    parts = [surface(np.concatenate([*posts, *boards]), "rack", steel, Material.PAINT)]
    for z in heights:
        x = -length / 2 + 0.05
        while x < length / 2 - 0.3:
            wide, tall = rng.uniform(0.2, 0.5), rng.uniform(0.12, 0.34)
            end = min(x + wide, length / 2 - 0.04)
            if rng.random() < 0.75:
                colour = _carton(rng) if rng.random() < 0.7 else tone(rng, 0.05, 0.6)
                parts.append(surface(box(x, end, -rng.uniform(0.12, 0.24), 0.22, z, z + tall), "goods", colour))
            x += wide + 0.03
    return join(parts)


def container(rng: np.random.Generator) -> Mesh:
    """A 20-foot freight container with ribbed walls."""
    half, wide, high = 3.03, 1.22, 2.59
    colour = tone(rng, 0.05, 0.35) * rng.uniform(0.7, 1.4, 3)
    parts = [box(-half + 0.04, half - 0.04, -wide + 0.04, wide - 0.04, 0.1, high - 0.03)]
    parts += [
        box(x - 0.08, x + 0.08, -wide + 0.01, wide - 0.01, 0.15, high - 0.05) for x in np.arange(-half + 0.3, half - 0.2, 0.4)
    ]
    parts += [box(x - 0.06, x + 0.06, y - 0.06, y + 0.06, 0, high) for x in (-half + 0.06, half - 0.06) for y in (-1.16, 1.16)]
    parts += [tube((half, y, 0.2), (half, y, high - 0.2), 0.03, 0.03, 4) for y in (-0.7, -0.3, 0.3, 0.7)]
    return surface(np.concatenate(parts), "goods", np.clip(colour, 0.01, 0.9), Material.PAINT)


def _carton(rng: np.random.Generator) -> NDArray[np.float64]:
    out: NDArray[np.float64] = np.clip(_CARTON * rng.uniform(0.6, 1.4) * rng.uniform(0.95, 1.05, 3), 0.01, 0.9)
    return out


def _steps(low: float, high: float) -> NDArray[np.float64]:
    """Places of posts, about a metre apart, both ends among them."""
    return np.linspace(low + 0.02, high - 0.02, max(2, round(high - low) + 1))


def _turned(mesh: Mesh) -> Mesh:
    """A quarter turn about z: a pallet stands across its rack."""
    tri = mesh.tri[:, :, [1, 0, 2]] * np.array([-1, 1, 1], np.float32)
    return Mesh(np.ascontiguousarray(tri), mesh.cls, mesh.mat, mesh.rgb, mesh.par, mesh.inst)


def _raised(mesh: Mesh, z: float, x: float = 0.0) -> Mesh:
    return Mesh(shifted(mesh.tri, x=x, z=z), mesh.cls, mesh.mat, mesh.rgb, mesh.par, mesh.inst)
