# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Houses, blocks, halls, walls and fences: x along the street, y away from it, base on z = 0."""

from __future__ import annotations

import numpy as np

from occle_train.streets.shapes.mesh import Material, Mesh, box, extrude, join, quads, surface, taper, tone, tube

_WALLS = (
    (0.72, 0.70, 0.66), (0.66, 0.60, 0.48), (0.58, 0.50, 0.36), (0.42, 0.40, 0.38), (0.62, 0.64, 0.66),
    (0.50, 0.36, 0.28), (0.32, 0.16, 0.11), (0.55, 0.55, 0.50), (0.70, 0.62, 0.40), (0.35, 0.40, 0.46),
)  # fmt: skip


def house(rng: np.random.Generator, width: float, depth: float, storeys: int, flat_roof: bool) -> Mesh:
    """A building with windows (drawn by the facade material), a door, a plinth, a roof, sometimes balconies."""
    storey = rng.uniform(2.7, 3.2)
    high = storeys * storey + rng.uniform(0.2, 0.8)
    colour = np.asarray(_WALLS[int(rng.integers(len(_WALLS)))]) * rng.uniform(0.8, 1.25)
    x0, x1 = -width / 2, width / 2
    # A base below the ground closes the gap that sloping terrain leaves.
    par = (0.0, rng.uniform(1.8, 3.6), storey, rng.uniform(0, 3))
    parts = [surface(box(x0, x1, 0, depth, -1.5, high), "building", colour, Material.FACADE, par)]
    parts.append(surface(box(x0 - 0.04, x1 + 0.04, -0.04, depth + 0.04, -1.5, 0.45), "building", colour * 0.6))
    roof = np.array([0.30, 0.10, 0.06]) * rng.uniform(0.5, 1.3) if rng.random() < 0.65 else np.array([0.1, 0.1, 0.11])
    if flat_roof:
        parts.append(surface(box(x0 - 0.15, x1 + 0.15, -0.15, depth + 0.15, high, high + 0.4), "building", (0.35, 0.35, 0.35)))
    else:
        rise, over = depth * rng.uniform(0.28, 0.5), 0.45
        hip = rng.choice([0.0, depth * 0.35])
        low = (x0 - over, x1 + over, -over, depth + over, high)
        parts.append(
            surface(
                taper(low, (x0 - over + hip, x1 + over - hip, depth / 2, depth / 2 + 0.01, high + rise)),
                "building",
                roof,
                Material.ROOF,
            )
        )
        chimney = rng.uniform(x0 + 1, x1 - 1)
        parts.append(
            surface(
                box(chimney - 0.3, chimney + 0.3, depth * 0.6, depth * 0.6 + 0.6, high, high + rise + 0.7),
                "building",
                (0.28, 0.13, 0.09),
                Material.BRICK,
            )
        )
    door = rng.uniform(x0 + 1, x1 - 1.2)
    parts.append(surface(box(door - 0.55, door + 0.55, -0.06, 0.1, -0.2, 2.15), "building", tone(rng, 0.03, 0.3)))
    parts.append(surface(box(door - 0.9, door + 0.9, -0.7, 0.0, 2.4, 2.5), "building", (0.3, 0.3, 0.3)))
    parts.append(surface(box(door - 0.8, door + 0.8, -0.9, 0.0, -0.6, 0.12), "building", (0.4, 0.4, 0.4)))
    if storeys > 1 and rng.random() < 0.4:
        for k in range(1, storeys):
            for centre in np.arange(x0 + 2.5, x1 - 1.5, 5.0):
                parts.append(
                    surface(
                        box(centre - 1.3, centre + 1.3, -1.1, 0, k * storey - 0.1, k * storey + 0.05), "building", (0.5, 0.5, 0.5)
                    )
                )
                rail = quads(
                    (centre - 1.3, -1.1, k * storey),
                    (centre + 1.3, -1.1, k * storey),
                    (centre + 1.3, -1.1, k * storey + 1.0),
                    (centre - 1.3, -1.1, k * storey + 1.0),
                )
                parts.append(surface(rail, "building", colour * 0.8))
    if rng.random() < 0.25:
        awning = taper((x0 + 0.5, x1 - 0.5, -1.6, 0.0, 2.6), (x0 + 0.5, x1 - 0.5, -0.1, 0.0, 3.2))
        parts.append(surface(awning, "building", tone(rng, 0.1, 0.7)))
    parts.append(surface(tube((x0 + 0.15, -0.08, 0), (x0 + 0.15, -0.08, high), 0.05, 0.05, 4), "building", (0.25, 0.24, 0.22)))
    return join(parts)


def hall(rng: np.random.Generator, width: float, depth: float) -> Mesh:
    """A shed, garage or industrial hall."""
    high = rng.uniform(2.4, 7.0)
    colour = np.asarray(_WALLS[int(rng.integers(len(_WALLS)))]) * rng.uniform(0.7, 1.1)
    parts = [
        surface(
            box(-width / 2, width / 2, 0, depth, -1.0, high),
            "building",
            colour,
            Material.BRICK if rng.random() < 0.5 else Material.PLAIN,
        )
    ]
    for x in np.arange(-width / 2 + 1.8, width / 2 - 1.5, rng.uniform(3.2, 6.0)):
        parts.append(surface(box(x - 1.2, x + 1.2, -0.05, 0.05, 0, 2.2), "building", tone(rng, 0.1, 0.6)))
    parts.append(
        surface(box(-width / 2 - 0.2, width / 2 + 0.2, -0.3, depth + 0.2, high, high + 0.2), "building", (0.25, 0.25, 0.26))
    )
    return join(parts)


def carport(rng: np.random.Generator) -> Mesh:
    """A roof on posts, a bus shelter or kiosk: SemanticKITTI's other-structure."""
    w, depth, high = rng.uniform(2.5, 5.0), rng.uniform(1.4, 4.0), rng.uniform(2.3, 2.8)
    parts = [surface(box(-w / 2, w / 2, 0, depth, high, high + 0.15), "structure", (0.3, 0.3, 0.32))]
    posts = [tube((x, y, 0), (x, y, high), 0.06, 0.06, 5) for x in (-w / 2 + 0.1, w / 2 - 0.1) for y in (0.1, depth - 0.1)]
    parts.append(surface(np.concatenate(posts), "structure", (0.15, 0.15, 0.15)))
    if rng.random() < 0.6:
        parts.append(surface(box(-w / 2, w / 2, depth - 0.08, depth, 0.2, high), "structure", (0.25, 0.3, 0.32)))
    return join(parts)


def fence(rng: np.random.Generator, length: float) -> Mesh:
    """A picket, chain-link, panel or guard-rail fence, or a low wall, along x and centred."""
    kind = rng.choice(["picket", "panel", "wall", "mesh", "rail"], p=[0.3, 0.2, 0.25, 0.15, 0.1])
    half, high = length / 2, rng.uniform(0.8, 1.8)
    colour = np.array([0.3, 0.2, 0.12]) * rng.uniform(0.5, 1.8)
    posts = [box(x - 0.05, x + 0.05, -0.05, 0.05, -0.4, high) for x in np.arange(-half, half + 0.01, 2.0)]
    if kind == "picket":
        parts = posts + [box(x, x + 0.09, -0.015, 0.015, 0.1, high) for x in np.arange(-half, half - 0.09, 0.16)]
        parts += [box(-half, half, -0.03, 0.03, z - 0.04, z + 0.04) for z in (0.3, high - 0.2)]
    elif kind == "panel":
        parts = [*posts, box(-half, half, -0.02, 0.02, 0.05, high)]
    elif kind == "wall":
        colour = np.array([0.5, 0.47, 0.42]) * rng.uniform(0.6, 1.3)
        low = rng.uniform(0.4, 1.5)
        return surface(
            np.concatenate([box(-half, half, -0.12, 0.12, -0.6, low), box(-half, half, -0.17, 0.17, low, low + 0.08)]),
            "fence",
            colour,
            Material.BRICK if rng.random() < 0.5 else Material.PLAIN,
        )
    elif kind == "mesh":
        colour = np.array([0.12, 0.2, 0.14])
        parts = posts + [box(-half, half, -0.012, 0.012, z - 0.012, z + 0.012) for z in np.arange(0.1, high + 0.01, 0.13)]
        parts += [box(x - 0.01, x + 0.01, -0.01, 0.01, 0.1, high) for x in np.arange(-half, half, 0.25)]
    else:
        colour = np.array([0.45, 0.46, 0.47])
        section = extrude([(-0.04, 0.45), (0.04, 0.5), (0.0, 0.6), (0.04, 0.7), (-0.04, 0.75)], -half, half)
        parts = [section[:, :, [1, 0, 2]]] + [
            box(x - 0.06, x + 0.06, 0.05, 0.15, -0.3, 0.7) for x in np.arange(-half, half + 0.01, 3.0)
        ]
    return surface(np.concatenate(parts), "fence", colour)
