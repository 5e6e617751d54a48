# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Poles, lamps, signs, barriers, cones and what else stands about: base on z = 0, front towards -x."""

from __future__ import annotations

import numpy as np

from occle_train.streets.shapes.mesh import Material, Mesh, ball, box, extrude, join, quads, shifted, surface, tone, tube, wheel

_GREY = (0.28, 0.29, 0.30)


def lamp(rng: np.random.Generator) -> Mesh:
    """A street lamp whose arm points to +y."""
    high, arm = rng.uniform(5.0, 9.0), rng.uniform(0.4, 2.2)
    r = rng.uniform(0.05, 0.1)
    colour = np.array(_GREY) * rng.uniform(0.4, 1.4)
    parts = [
        tube((0, 0, -0.3), (0, 0, high), r * 1.3, r * 0.8),
        tube((0, 0, 0), (0, 0, 1.0), r * 1.7, r * 1.6),
        tube((0, 0, high), (0, arm, high + 0.3), r * 0.6, r * 0.5),
    ]
    parts.append(box(-0.12, 0.12, arm - 0.3, arm + 0.3, high + 0.2, high + 0.36))
    return surface(np.concatenate(parts), "pole", colour)


def pole(rng: np.random.Generator) -> Mesh:
    """A bollard, a wooden mast or a plain post."""
    high = rng.choice([rng.uniform(0.8, 1.1), rng.uniform(2.5, 4.0), rng.uniform(6.0, 9.0)])
    r = 0.06 if high < 5 else 0.13
    colour = np.array(_GREY) if high < 5 else np.array([0.2, 0.15, 0.1])
    return surface(tube((0, 0, -0.3), (0, 0, high), r, r * 0.85, 7), "pole", colour * rng.uniform(0.5, 1.5))


def sign(rng: np.random.Generator) -> Mesh:
    """A traffic sign or street name plate on its post, facing -x."""
    high, turn = rng.uniform(2.1, 3.0), int(rng.integers(4))
    parts = [surface(tube((0, 0, -0.3), (0, 0, high + 0.3), 0.04, 0.04), "pole", _GREY)]
    size = rng.uniform(0.3, 0.45)
    angle = (
        np.linspace(0, 2 * np.pi, 13)[:-1]
        if turn == 0
        else np.linspace(0, 2 * np.pi, {1: 4, 2: 5, 3: 9}[turn])[:-1] + {1: np.pi / 2, 2: np.pi / 4, 3: np.pi / 8}[turn]
    )
    outline = np.stack([size * np.cos(angle), high + size * np.sin(angle)], 1)
    plate = shifted(extrude(outline, -0.02, 0.02)[:, :, [1, 0, 2]], x=-0.06)
    rim = np.array([[0.55, 0.03, 0.03], [0.03, 0.1, 0.45], [0.6, 0.45, 0.03], [0.6, 0.6, 0.6]][int(rng.integers(4))])
    parts.append(surface(plate, "traffic_sign", rim, Material.MARKING))
    inner = shifted(extrude((outline - (0, high)) * 0.68 + (0, high), -0.005, 0.005)[:, :, [1, 0, 2]], x=-0.085)
    parts.append(surface(inner, "traffic_sign", (0.75, 0.75, 0.75) if rng.random() < 0.6 else rim * 0.6, Material.MARKING))
    if rng.random() < 0.3:
        parts.append(
            surface(box(-0.09, -0.05, -0.35, 0.35, high - 0.85, high - 0.55), "traffic_sign", (0.7, 0.7, 0.7), Material.MARKING)
        )
    return join(parts)


def signboard(rng: np.random.Generator) -> Mesh:
    """A large direction or advertising board on two posts, facing -x."""
    w, low, h = rng.uniform(0.8, 1.6), rng.uniform(0.8, 2.2), rng.uniform(0.8, 1.6)
    posts = [tube((0, y, -0.3), (0, y, low + h), 0.05, 0.05) for y in (-w * 0.7, w * 0.7)]
    face = box(-0.1, -0.05, -w, w, low, low + h)
    return join(
        [surface(np.concatenate(posts), "pole", _GREY), surface(face, "traffic_sign", tone(rng, 0.05, 0.7), Material.MARKING)]
    )


def traffic_light(rng: np.random.Generator) -> Mesh:
    """A signal on a post, facing -x."""
    high = rng.uniform(2.6, 3.4)
    parts = [surface(tube((0, 0, -0.3), (0, 0, high), 0.07, 0.06), "pole", _GREY)]
    parts.append(surface(box(-0.22, -0.04, -0.15, 0.15, high - 0.9, high), "traffic_sign", (0.03, 0.03, 0.03)))
    for k, colour in enumerate(((0.9, 0.05, 0.05), (0.25, 0.18, 0.02), (0.03, 0.2, 0.06))):
        parts.append(
            surface(ball((-0.23, 0, high - 0.15 - 0.29 * k), (0.03, 0.09, 0.09), 0), "traffic_sign", colour, Material.SHINY)
        )
    return join(parts)


def barrier(rng: np.random.Generator, length: float) -> Mesh:
    """A row of concrete or red-white plastic barriers along x, centred."""
    parts = []
    plastic = rng.random() < 0.6
    step = rng.uniform(1.2, 2.0)
    for k, x in enumerate(np.arange(-length / 2, length / 2 - step * 0.8, step)):
        profile = [(-0.3, 0.0), (0.3, 0.0), (0.28, 0.18), (0.12, 0.4), (0.09, 0.95), (-0.09, 0.95), (-0.12, 0.4), (-0.28, 0.18)]
        shape = extrude(profile, x + 0.03, x + step - 0.03)[:, :, [1, 0, 2]]
        colour = ((0.55, 0.07, 0.03) if k % 2 else (0.7, 0.7, 0.7)) if plastic else (0.45, 0.44, 0.42)
        parts.append(surface(shape, "barrier", colour))
    return join(parts)


def cone(rng: np.random.Generator) -> Mesh:
    """A traffic cone."""
    high = rng.uniform(0.55, 0.95)
    body = [surface(box(-0.2, 0.2, -0.2, 0.2, 0, 0.05), "traffic_cone", (0.5, 0.12, 0.02))]
    rings = ((0.0, 0.4, (0.7, 0.16, 0.02)), (0.4, 0.6, (0.8, 0.8, 0.8)), (0.6, 1.0, (0.7, 0.16, 0.02)))
    for low, top, colour in rings:
        piece = tube((0, 0, 0.05 + low * high), (0, 0, 0.05 + top * high), 0.16 * (1 - low) + 0.02, 0.16 * (1 - top) + 0.02, 8)
        body.append(surface(piece, "traffic_cone", colour))
    return join(body)


def clutter(rng: np.random.Generator) -> Mesh:
    """A bin, box, bench, hydrant, letter box or advertising column."""
    kind = rng.choice(["bin", "box", "bench", "hydrant", "column", "pots"])
    colour = tone(rng, 0.03, 0.45)
    if kind == "bin":
        tri = np.concatenate([box(-0.28, 0.28, -0.3, 0.3, 0.06, 1.0), box(-0.32, 0.32, -0.34, 0.34, 1.0, 1.08)])
    elif kind == "box":
        w = rng.uniform(0.4, 1.0)
        tri, colour = box(-0.25, 0.25, -w, w, 0, rng.uniform(0.9, 1.5)), np.array([0.35, 0.37, 0.33])
    elif kind == "bench":
        tri = np.concatenate(
            [
                box(-0.25, 0.25, -0.9, 0.9, 0.42, 0.48),
                box(0.22, 0.28, -0.9, 0.9, 0.5, 0.9),
                box(-0.2, 0.25, -0.75, -0.65, 0, 0.42),
                box(-0.2, 0.25, 0.65, 0.75, 0, 0.42),
            ]
        )
        colour = np.array([0.25, 0.16, 0.08])
    elif kind == "hydrant":
        tri, colour = (
            np.concatenate([tube((0, 0, 0), (0, 0, 0.65), 0.12, 0.11), ball((0, 0, 0.68), (0.14, 0.14, 0.12), 0)]),
            np.array([0.5, 0.04, 0.03]),
        )
    elif kind == "column":
        return surface(
            np.concatenate([tube((0, 0, 0), (0, 0, 2.8), 0.6, 0.6, 12), tube((0, 0, 2.8), (0, 0, 3.2), 0.7, 0.1, 12)]),
            "structure",
            (0.6, 0.58, 0.52),
        )
    else:
        tri, colour = tube((0, 0, 0), (0, 0, 0.6), 0.35, 0.45, 8), np.array([0.3, 0.17, 0.1])
    return surface(tri, "clutter", colour)


def pushable(rng: np.random.Generator) -> Mesh:
    """A shopping cart, pallet of boxes or wheelbarrow: Occ3D's "others"."""
    if rng.random() < 0.5:
        tri = [box(-0.6, 0.6, -0.4, 0.4, 0, 0.14)]
        tri += [
            box(x, x + 0.5, y, y + 0.36, 0.14, 0.14 + h)
            for x, y, h in zip((-0.55, 0.02, -0.5), (-0.38, -0.35, 0.0), rng.uniform(0.3, 0.9, 3))
        ]
        return surface(np.concatenate(tri), "pushable", (0.32, 0.23, 0.13))
    rim = [quads((-0.4, y, 0.4), (0.4, y, 0.5), (0.5, y, 0.95), (-0.45, y, 0.95)) for y in (-0.28, 0.28)]
    ends = [
        box(-0.45, -0.4, -0.28, 0.28, 0.4, 0.95),
        box(0.42, 0.48, -0.28, 0.28, 0.5, 0.95),
        box(-0.4, 0.4, -0.28, 0.28, 0.4, 0.43),
    ]
    legs = [wheel(x, y, 0.08, 0.05, 6) for x in (-0.35, 0.35) for y in (-0.22, 0.22)]
    frame = [tube((-0.38, y, 0.1), (-0.42, y, 0.5), 0.02, 0.02, 4) for y in (-0.25, 0.25)]
    return surface(np.concatenate([*rim, *ends, *legs, *frame]), "pushable", (0.4, 0.41, 0.43), Material.SHINY)
