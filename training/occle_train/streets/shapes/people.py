# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""People, bicycles, motorcycles and their riders: x forward, z up, feet or wheels on z = 0."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from occle_train.streets.shapes.mesh import Material, Mesh, ball, box, hoop, join, surface, taper, tone, tube, wheel

_SKIN = ((0.55, 0.36, 0.27), (0.35, 0.2, 0.13), (0.16, 0.09, 0.06), (0.6, 0.42, 0.32))


def person(rng: np.random.Generator, stride: float | None = None) -> Mesh:
    """A standing or walking person; `stride` is the forward reach of a foot in metres (random when None)."""
    size = rng.uniform(0.9, 1.12) * (0.7 if rng.random() < 0.1 else 1.0)
    step = rng.uniform(0, 0.35) if stride is None else stride
    top, trousers, skin, hair = _clothes(rng)
    hip, shoulder = 0.9, 1.45
    parts = []
    for side in (-1, 1):
        foot = (side * step, side * 0.1, 0.04)
        knee = (side * step * 0.5 + 0.03, side * 0.1, 0.48)
        parts.append(
            surface(
                np.concatenate([tube(foot, knee, 0.06, 0.08), tube(knee, (0, side * 0.09, hip), 0.08, 0.1)]), "person", trousers
            )
        )
        parts.append(
            surface(box(foot[0] - 0.08, foot[0] + 0.18, foot[1] - 0.05, foot[1] + 0.05, 0, 0.09), "person", (0.04, 0.03, 0.03))
        )
        hand = (-side * step * 0.8 + 0.05, side * 0.3, 0.82)
        elbow = (-side * step * 0.4 - 0.03, side * 0.28, 1.13)
        shoulder_at = (0.0, side * 0.2, shoulder - 0.05)
        parts.append(surface(np.concatenate([tube(shoulder_at, elbow, 0.06, 0.05), tube(elbow, hand, 0.05, 0.04)]), "person", top))
    parts.append(surface(taper((-0.11, 0.11, -0.16, 0.16, hip - 0.06), (-0.12, 0.12, -0.21, 0.21, shoulder)), "person", top))
    parts.append(surface(ball((0.02, 0, 1.63), (0.1, 0.085, 0.13)), "person", skin))
    parts.append(surface(ball((-0.02, 0, 1.68), (0.105, 0.095, 0.11)), "person", hair))
    if rng.random() < 0.3:
        parts.append(surface(box(-0.3, -0.12, -0.15, 0.15, 0.98, 1.4), "person", tone(rng, 0.02, 0.4)))
    mesh = join(parts)
    return Mesh(mesh.tri * np.float32(size), mesh.cls, mesh.mat, mesh.rgb, mesh.par, mesh.inst)


def bicycle(rng: np.random.Generator, cls: str = "bicycle") -> Mesh:
    """A bicycle with two wheels, frame, handlebar and saddle."""
    frame = tone(rng, 0.02, 0.5)
    front, rear, r = 0.52, -0.5, 0.34
    tubes = [
        ((rear, 0, r), (-0.1, 0, 0.3)), ((rear, 0, r), (-0.2, 0, 0.85)), ((-0.1, 0, 0.3), (-0.22, 0, 0.92)),
        ((-0.1, 0, 0.3), (0.35, 0, 0.8)), ((-0.2, 0, 0.82), (0.35, 0, 0.85)), ((front, 0, r), (0.33, 0, 1.0)),
    ]  # fmt: skip
    parts = [surface(np.concatenate([tube(a, b, 0.025, 0.025, 4) for a, b in tubes]), cls, frame, Material.PAINT)]
    parts.append(surface(np.concatenate([hoop(x, r, r - 0.02, 0.025) for x in (front, rear)]), cls, (0.03, 0.03, 0.03)))
    spokes = [
        tube((x, 0, r), (x + 0.3 * np.cos(a), 0, r + 0.3 * np.sin(a)), 0.006, 0.006, 3)
        for x in (front, rear)
        for a in np.arange(6) * np.pi / 3
    ]
    parts.append(surface(np.concatenate(spokes), cls, (0.4, 0.4, 0.4), Material.SHINY))
    parts.append(
        surface(
            np.concatenate(
                [tube((0.33, -0.28, 1.02), (0.33, 0.28, 1.02), 0.02, 0.02, 4), box(-0.36, -0.12, -0.08, 0.08, 0.92, 0.97)]
            ),
            cls,
            (0.03, 0.03, 0.03),
        )
    )
    if rng.random() < 0.4:
        parts.append(surface(box(-0.72, -0.35, -0.15, 0.15, 0.74, 0.96), cls, (0.2, 0.15, 0.1)))
    return join(parts)


def motorcycle(rng: np.random.Generator, cls: str = "motorcycle") -> Mesh:
    """A motorcycle or scooter."""
    colour, scooter = tone(rng, 0.02, 0.6), rng.random() < 0.4
    r = 0.24 if scooter else 0.31
    front, rear = (0.62, -0.55) if scooter else (0.75, -0.65)
    parts = [surface(np.concatenate([wheel(x, 0, r, 0.13, 12) for x in (front, rear)]), cls, (0.03, 0.03, 0.03))]
    parts.append(
        surface(
            np.concatenate([tube((front, y, r), (front - 0.28, y, 1.0), 0.035, 0.03, 5) for y in (-0.1, 0.1)]),
            cls,
            (0.35, 0.35, 0.36),
            Material.SHINY,
        )
    )
    parts.append(surface(tube((front - 0.3, -0.36, 1.05), (front - 0.3, 0.36, 1.05), 0.02, 0.02, 4), cls, (0.05, 0.05, 0.05)))
    if scooter:
        parts.append(surface(box(0.2, 0.36, -0.2, 0.2, 0.3, 0.95), cls, colour, Material.PAINT))
        parts.append(surface(box(-0.3, 0.3, -0.16, 0.16, 0.25, 0.33), cls, colour, Material.PAINT))
        parts.append(surface(taper((-0.75, -0.1, -0.16, 0.16, 0.3), (-0.8, -0.15, -0.14, 0.14, 0.75)), cls, colour, Material.PAINT))
    else:
        parts.append(surface(box(-0.25, 0.32, -0.16, 0.16, 0.3, 0.65), cls, (0.15, 0.15, 0.15), Material.SHINY))
        parts.append(surface(taper((-0.1, 0.45, -0.17, 0.17, 0.65), (-0.05, 0.35, -0.12, 0.12, 0.92)), cls, colour, Material.PAINT))
        parts.append(surface(taper((-0.85, -0.1, -0.14, 0.14, 0.68), (-0.9, -0.1, -0.11, 0.11, 0.82)), cls, (0.04, 0.04, 0.04)))
    parts.append(surface(box(front - 0.22, front - 0.1, -0.1, 0.1, 0.8, 0.98), cls, (0.8, 0.8, 0.7), Material.SHINY))
    return join(parts)


def bicyclist(rng: np.random.Generator) -> Mesh:
    """A person riding a bicycle; the bicycle counts as bicyclist, as in SemanticKITTI."""
    return join(
        [
            bicycle(rng, "bicyclist"),
            _rider(rng, "bicyclist", saddle=(-0.2, 0.95), grip=(0.33, 1.05), feet=(0.0, 0.25), helmet=rng.random() < 0.5),
        ]
    )


def motorcyclist(rng: np.random.Generator) -> Mesh:
    """A person riding a motorcycle."""
    return join(
        [
            motorcycle(rng, "motorcyclist"),
            _rider(rng, "motorcyclist", saddle=(-0.3, 0.82), grip=(0.45, 1.05), feet=(0.1, 0.35), helmet=True),
        ]
    )


def _rider(
    rng: np.random.Generator,
    cls: str,
    saddle: tuple[float, float],
    grip: tuple[float, float],
    feet: tuple[float, float],
    helmet: bool,
) -> Mesh:
    top, trousers, skin, hair = _clothes(rng)
    sx, sz = saddle
    neck = (sx + 0.28, sz + 0.5)
    parts = [surface(tube((sx, 0, sz), (neck[0], 0, neck[1]), 0.16, 0.19, 6), cls, top)]
    for side in (-1, 1):
        knee = (sx + 0.38, side * 0.13, sz - 0.2)
        foot = (feet[0], side * 0.13, feet[1] + side * 0.08)
        parts.append(
            surface(np.concatenate([tube((sx, side * 0.1, sz), knee, 0.09, 0.07), tube(knee, foot, 0.07, 0.05)]), cls, trousers)
        )
        arm = tube((neck[0], side * 0.2, neck[1] - 0.05), (grip[0], side * 0.26, grip[1]), 0.06, 0.045)
        parts.append(surface(arm, cls, top))
    head = (neck[0] + 0.07, 0, neck[1] + 0.2)
    parts.append(surface(ball(head, (0.11, 0.09, 0.13)), cls, skin))
    cap = tone(rng, 0.05, 0.8) if helmet else hair
    parts.append(
        surface(
            ball((head[0] - 0.02, 0, head[2] + 0.05), (0.14, 0.12, 0.12)), cls, cap, Material.SHINY if helmet else Material.PLAIN
        )
    )
    return join(parts)


def _clothes(rng: np.random.Generator) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    top = np.clip(rng.uniform(0.02, 0.7) * tone(rng, 0.5, 1.2), 0.01, 0.8)
    trousers = np.clip(rng.uniform(0.02, 0.25) * tone(rng, 0.7, 1.2), 0.01, 0.5)
    skin = np.asarray(_SKIN[int(rng.integers(len(_SKIN)))])
    return top, trousers, skin, np.array([0.06, 0.04, 0.03]) * rng.uniform(0.5, 4)
