# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Cars, lorries, buses, trailers and the odder vehicles: x forward, y left, z up, wheels on z = 0, centred."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from occle_train.streets.shapes.mesh import (
    Material,
    Mesh,
    box,
    extrude,
    hexahedron,
    join,
    quads,
    shifted,
    surface,
    taper,
    tone,
    tube,
    wheel,
)

DARK = (0.02, 0.02, 0.025)
GLASS = (0.03, 0.04, 0.05)
_PAINTS = (
    (0.75, 0.76, 0.78), (0.80, 0.80, 0.78), (0.02, 0.02, 0.025), (0.03, 0.035, 0.05), (0.22, 0.23, 0.25), (0.38, 0.40, 0.42),
    (0.05, 0.08, 0.22), (0.30, 0.03, 0.03), (0.45, 0.05, 0.04), (0.06, 0.16, 0.10), (0.10, 0.22, 0.40), (0.35, 0.30, 0.22),
    (0.70, 0.50, 0.05),
)  # fmt: skip


def paint(rng: np.random.Generator) -> NDArray[np.float32]:
    """A car colour (3,): the usual greys and blacks more often than the rest."""
    index = int(rng.choice(len(_PAINTS), p=np.array([3, 3, 3, 2, 2, 3, 1, 1, 1, 0.7, 1, 0.7, 0.4]) / 21.8))
    return np.clip(np.asarray(_PAINTS[index]) * rng.uniform(0.85, 1.15, 3), 0.01, 0.9).astype(np.float32)


def car(rng: np.random.Generator, cls: str = "car") -> Mesh:
    """A hatchback, saloon, estate or van."""
    kind = rng.choice(["hatch", "saloon", "estate", "van", "suv"], p=[0.34, 0.22, 0.18, 0.12, 0.14])
    length = {"hatch": 3.9, "saloon": 4.6, "estate": 4.6, "van": 4.9, "suv": 4.5}[kind] * rng.uniform(0.94, 1.06)
    w = {"van": 0.95, "suv": 0.93}.get(kind, 0.88) * rng.uniform(0.96, 1.04)
    height = {"van": 1.95, "suv": 1.70}.get(kind, 1.45) * rng.uniform(0.96, 1.05)
    belt = 0.55 * height + 0.08
    clear, front, rear = 0.2 * rng.uniform(0.9, 1.2), length / 2, -length / 2
    hood = {"van": 0.85, "hatch": 1.0}.get(kind, 1.2)
    tail = {"saloon": 0.75, "hatch": 0.15, "estate": 0.12, "van": 0.05, "suv": 0.12}[kind]
    colour = paint(rng)
    body = [
        (rear, clear + 0.15), (rear + 0.15, clear), (front - 0.15, clear), (front, clear + 0.18),
        (front - 0.03, belt - 0.22), (front - 0.25, belt - 0.12), (front - hood, belt), (rear + 0.1, belt), (rear, belt - 0.2),
    ]  # fmt: skip
    glass_low = (rear + tail, front - hood + 0.05, -w * 0.95, w * 0.95, belt)
    roof_back = rear + tail + {"saloon": 0.55, "hatch": 0.45, "estate": 0.35, "van": 0.15, "suv": 0.3}[kind]
    roof_front = front - hood - {"van": 0.45}.get(kind, 0.75)
    roof = (roof_back, roof_front, -w * 0.78, w * 0.78, height - 0.04)
    parts = [
        surface(extrude(body, -w, w), cls, colour, Material.PAINT),
        surface(taper(glass_low, roof), cls, GLASS, Material.GLASS),
        surface(taper(roof, (roof_back + 0.1, roof_front - 0.1, -w * 0.7, w * 0.7, height)), cls, colour, Material.PAINT),
    ]
    # Pillars split the glass into windows.
    for share in (0.02, 0.36, 0.68, 0.98):
        for side in (-1, 1):
            low = glass_low[0] + share * (glass_low[1] - glass_low[0])
            high = roof[0] + share * (roof[1] - roof[0])
            post = tube((low, side * w * 0.955, belt), (high, side * w * 0.785, height - 0.04), 0.04, 0.04, 4, caps=False)
            parts.append(surface(post, cls, colour, Material.PAINT))
    if kind == "van" and rng.random() < 0.6:
        side_box = taper((rear + 0.1, 0.3, -w * 0.96, w * 0.96, belt), (roof_back, 0.3, -w * 0.79, w * 0.79, height - 0.03))
        parts.append(surface(side_box, cls, colour, Material.PAINT))
    radius = 0.31 if kind not in ("suv", "van") else 0.35
    for x in (front - 0.82, rear + 0.78):
        for side in (-1, 1):
            parts.append(surface(wheel(x, side * (w - 0.08), radius, 0.2), cls, DARK))
            parts.append(
                surface(
                    shifted(wheel(x, side * (w + 0.025), radius * 0.6, 0.02, 8), z=radius * 0.4),
                    cls,
                    (0.4, 0.4, 0.42),
                    Material.SHINY,
                )
            )
    parts += _lamps(cls, front, rear, w, belt - 0.3)
    return join(parts)


def truck(rng: np.random.Generator, cls: str = "truck") -> Mesh:
    """A lorry: a cab and a box, tipper or flat body."""
    length, w = rng.uniform(6.0, 10.5), rng.uniform(1.1, 1.27)
    high, cab_high = rng.uniform(2.8, 3.8), rng.uniform(2.3, 3.0)
    front, rear, cab_len = length / 2, -length / 2, rng.uniform(1.6, 2.1)
    colour, cargo = paint(rng), np.clip(rng.uniform(0.25, 0.85) * tone(rng, 0.8, 1.1), 0, 0.9)
    cab = [
        (front - cab_len, 0.55),
        (front, 0.55),
        (front, 1.35),
        (front - 0.18, cab_high - 0.1),
        (front - 0.5, cab_high),
        (front - cab_len, cab_high),
    ]
    parts = [
        surface(extrude(cab, -w, w), cls, colour, Material.PAINT),
        surface(quads(*_window(front + 0.012, front - 0.165, 1.4, cab_high - 0.15, w * 0.92)), cls, GLASS, Material.GLASS),
        surface(box(rear, front - 0.3, -0.5, 0.5, 0.55, 0.85), cls, DARK),
    ]
    for side in (-1, 1):
        pane = quads(
            (front - 1.2, side * (w + 0.01), 1.45),
            (front - 0.3, side * (w + 0.01), 1.45),
            (front - 0.4, side * (w + 0.01), 2.1),
            (front - 1.2, side * (w + 0.01), 2.1),
        )
        parts.append(surface(pane, cls, GLASS, Material.GLASS))
    back = front - cab_len - 0.15
    body = rng.choice(["box", "tipper", "flat"], p=[0.6, 0.25, 0.15])
    if body == "box":
        parts.append(surface(box(rear, back, -w, w, 0.95, high), cls, cargo, Material.PAINT))
    elif body == "tipper":
        parts.append(
            surface(taper((rear, back, -w * 0.85, w * 0.85, 0.95), (rear - 0.15, back, -w, w, 2.1)), cls, cargo, Material.PLAIN)
        )
    else:
        parts.append(surface(box(rear, back, -w, w, 0.95, 1.1), cls, (0.2, 0.15, 0.1)))
        parts.append(surface(box(back - 0.1, back, -w, w, 1.1, 1.9), cls, cargo))
        parts.append(surface(box(rear + 0.6, back - 1.0, -w * 0.8, w * 0.8, 1.1, rng.uniform(1.4, 2.2)), cls, (0.35, 0.28, 0.18)))
    for x in (front - 0.9, rear + 1.1, *((rear + 2.2,) if length > 8 else ())):
        for side in (-1, 1):
            parts.append(surface(wheel(x, side * (w - 0.15), 0.48, 0.3), cls, DARK))
    parts += _lamps(cls, front, rear, w, 0.8)
    return join(parts)


def bus(rng: np.random.Generator, cls: str = "bus") -> Mesh:
    """A city bus or coach with a window band."""
    length, w, high = rng.uniform(8.5, 12.5), rng.uniform(1.2, 1.28), rng.uniform(2.9, 3.3)
    front, rear, colour = length / 2, -length / 2, tone(rng, 0.1, 0.8)
    low, top = 1.15, high - 0.45
    parts = [
        surface(taper((rear, front, -w, w, 0.3), (rear, front, -w, w, low)), cls, colour, Material.PAINT),
        surface(
            taper((rear + 0.05, front, -w * 0.99, w * 0.99, low), (rear + 0.1, front - 0.12, -w * 0.98, w * 0.98, top)),
            cls,
            GLASS,
            Material.GLASS,
        ),
        surface(
            taper((rear + 0.05, front - 0.05, -w, w, top), (rear + 0.2, front - 0.3, -w * 0.93, w * 0.93, high)),
            cls,
            colour,
            Material.PAINT,
        ),
        surface(box(rear, rear + 0.3, -w, w, low, top), cls, colour, Material.PAINT),
    ]
    for x in np.arange(rear + 1.5, front - 0.5, 1.5):
        for side in (-1, 1):
            parts.append(surface(box(x - 0.06, x + 0.06, side * w * 0.97, side * w, low, top), cls, colour * 0.6, Material.PAINT))
    for x in (front - 2.4, rear + 2.6):
        for side in (-1, 1):
            parts.append(surface(wheel(x, side * (w - 0.12), 0.48, 0.3), cls, DARK))
    parts += _lamps(cls, front, rear, w, 0.7)
    return join(parts)


def trailer(rng: np.random.Generator, cls: str = "trailer") -> Mesh:
    """A small car trailer, a caravan or a parked semi-trailer."""
    kind = rng.choice(["small", "caravan", "semi"], p=[0.35, 0.3, 0.35])
    colour = np.clip(rng.uniform(0.3, 0.85) * tone(rng, 0.8, 1.1), 0, 0.9)
    if kind == "semi":
        length, w, high = rng.uniform(8, 12.5), 1.25, rng.uniform(3.4, 3.9)
        axles, radius, floor = [-length / 2 + 1.2, -length / 2 + 2.4, -length / 2 + 3.6], 0.48, 1.1
    elif kind == "caravan":
        length, w, high = rng.uniform(4.2, 6.0), 1.1, rng.uniform(2.3, 2.6)
        axles, radius, floor = [-0.2], 0.32, 0.45
    else:
        length, w, high = rng.uniform(2.2, 3.5), 0.8, rng.uniform(0.9, 1.8)
        axles, radius, floor = [-0.1], 0.28, 0.5
    front, rear = length / 2, -length / 2
    shape = [(rear, floor), (front - 0.1, floor), (front, floor + 0.4), (front - 0.1, high), (rear + 0.1, high)]
    parts = [surface(extrude(shape, -w, w), cls, colour, Material.PAINT)]
    parts.append(surface(box(rear + 0.2, front, -w * 0.5, w * 0.5, floor - 0.15, floor), cls, DARK))
    parts.append(surface(tube((front, 0, floor), (front + 1.1, 0, floor - 0.05), 0.06, 0.06, 5), cls, DARK))
    if kind == "caravan":
        for side in (-1, 1):
            y = side * (w + 0.01)
            pane = quads((rear + 0.8, y, 1.3), (rear + 2.0, y, 1.3), (rear + 2.0, y, 1.9), (rear + 0.8, y, 1.9))
            parts.append(surface(pane, cls, GLASS, Material.GLASS))
    if kind == "semi":
        for y in (-0.6, 0.6):
            parts.append(surface(tube((front - 2, y, 0), (front - 2, y, floor), 0.07, 0.07, 5), cls, DARK))
    else:
        parts.append(surface(tube((front + 0.9, 0, 0), (front + 0.9, 0, floor), 0.05, 0.05, 5), cls, DARK))
    for x in axles:
        for side in (-1, 1):
            parts.append(surface(wheel(x, side * (w - 0.05), radius, 0.22), cls, DARK))
    return join(parts)


def construction_vehicle(rng: np.random.Generator, cls: str = "construction_vehicle") -> Mesh:
    """An excavator on tracks or a wheel loader."""
    colour = np.array([0.75, 0.45, 0.03]) * rng.uniform(0.8, 1.1)
    if rng.random() < 0.5:
        parts = [surface(box(-1.8, 1.8, s * 1.2 - 0.28, s * 1.2 + 0.28, 0, 0.8), cls, DARK) for s in (-1, 1)]
        parts += [
            surface(box(-2.1, 1.3, -1.25, 1.25, 0.9, 1.9), cls, colour, Material.PAINT),
            surface(box(0.0, 1.4, 0.3, 1.25, 1.9, 2.9), cls, GLASS, Material.GLASS),
            surface(box(-0.05, 1.45, 0.25, 1.3, 2.9, 3.0), cls, colour),
        ]
        reach, lift = rng.uniform(2.6, 3.4), rng.uniform(3.0, 4.4)
        elbow, tip = (reach, -0.4, lift), (reach + 1.5, -0.4, rng.uniform(0.8, 1.6))
        parts.append(surface(tube((1.2, -0.4, 1.4), elbow, 0.28, 0.22, 4), cls, colour, Material.PAINT))
        parts.append(surface(tube(elbow, tip, 0.2, 0.14, 4), cls, colour, Material.PAINT))
        parts.append(surface(_bucket(tip), cls, DARK))
        return join(parts)
    parts = [
        surface(taper((-3.0, -0.2, -1.0, 1.0, 0.9), (-2.9, -0.3, -0.85, 0.85, 2.0)), cls, colour, Material.PAINT),
        surface(box(-0.4, 1.2, -0.5, 0.5, 0.8, 1.5), cls, colour, Material.PAINT),
        surface(box(-1.1, 0.3, -0.75, 0.75, 2.0, 3.1), cls, GLASS, Material.GLASS),
        surface(box(-1.2, 0.4, -0.8, 0.8, 3.1, 3.2), cls, colour, Material.PAINT),
        surface(extrude([(2.4, 0.2), (3.3, 0.15), (2.7, 0.5), (2.5, 1.2), (2.3, 0.9)], -1.3, 1.3), cls, DARK),
    ]
    for side in (-1, 1):
        parts.append(surface(tube((0.9, side * 0.5, 1.6), (2.5, side * 0.5, 0.8), 0.15, 0.12, 4), cls, colour))
        for x in (-1.9, 1.2):
            parts.append(surface(wheel(x, side * 1.0, 0.75, 0.55), cls, DARK))
    return join(parts)


def other_vehicle(rng: np.random.Generator, cls: str = "other_vehicle") -> Mesh:
    """A tractor or a small utility cart."""
    colour = tone(rng, 0.05, 0.6)
    if rng.random() < 0.5:
        parts = [
            surface(taper((0.1, 2.0, -0.4, 0.4, 0.8), (0.2, 1.9, -0.35, 0.35, 1.5)), cls, colour, Material.PAINT),
            surface(box(-1.1, 0.2, -0.6, 0.6, 0.8, 1.4), cls, colour, Material.PAINT),
            surface(taper((-1.2, 0.2, -0.75, 0.75, 1.4), (-1.0, 0.0, -0.6, 0.6, 2.5)), cls, GLASS, Material.GLASS),
            surface(box(-1.2, 0.15, -0.7, 0.7, 2.5, 2.6), cls, colour, Material.PAINT),
            surface(tube((1.2, 0.3, 1.4), (1.2, 0.3, 2.3), 0.05, 0.05, 5), cls, DARK),
        ]
        wheels = ((-0.9, 0.85, 0.82, 0.45), (1.5, 0.75, 0.5, 0.3))
    else:
        parts = [
            surface(box(-1.4, 1.0, -0.7, 0.7, 0.35, 0.75), cls, colour, Material.PAINT),
            surface(box(-1.4, -0.2, -0.7, 0.7, 0.75, 1.2), cls, (0.3, 0.3, 0.3)),
            surface(box(-0.2, 1.0, -0.68, 0.68, 1.85, 1.92), cls, colour, Material.PAINT),
            surface(taper((0.8, 1.4, -0.7, 0.7, 0.4), (0.8, 1.05, -0.65, 0.65, 1.0)), cls, colour, Material.PAINT),
        ]
        parts += [surface(tube((x, y, 0.7), (x, y, 1.9), 0.04, 0.04, 4), cls, DARK) for x in (-0.15, 0.95) for y in (-0.6, 0.6)]
        wheels = ((-0.9, 0.62, 0.28, 0.2), (0.9, 0.62, 0.28, 0.2))
    for x, y, radius, wide in wheels:
        for side in (-1, 1):
            parts.append(surface(wheel(x, side * y, radius, wide), cls, DARK))
    return join(parts)


def _bucket(tip: tuple[float, float, float]) -> NDArray[np.float32]:
    """The bucket at the end of an excavator's arm."""
    x, y, z = tip
    low = [(x - 0.5, y - 0.5, z - 0.7), (x + 0.2, y - 0.5, z - 0.7), (x + 0.2, y + 0.5, z - 0.7), (x - 0.5, y + 0.5, z - 0.7)]
    high = [(x - 0.2, y - 0.4, z + 0.1), (x + 0.2, y - 0.4, z + 0.1), (x + 0.2, y + 0.4, z + 0.1), (x - 0.2, y + 0.4, z + 0.1)]
    return hexahedron(low + high)


def _window(x_low: float, x_high: float, z_low: float, z_high: float, w: float) -> tuple[tuple[float, float, float], ...]:
    return ((x_low, -w, z_low), (x_low, w, z_low), (x_high, w, z_high), (x_high, -w, z_high))


def _lamps(cls: str, front: float, rear: float, w: float, z: float) -> list[Mesh]:
    parts = []
    for side in (-1, 1):
        y0, y1 = side * (w - 0.32), side * (w - 0.04)
        parts.append(
            surface(
                box(front - 0.06, front + 0.01, min(y0, y1), max(y0, y1), z - 0.08, z + 0.07), cls, (0.8, 0.8, 0.75), Material.SHINY
            )
        )
        parts.append(
            surface(
                box(rear - 0.01, rear + 0.06, min(y0, y1), max(y0, y1), z - 0.08, z + 0.14), cls, (0.5, 0.02, 0.02), Material.SHINY
            )
        )
    plate = [
        box(rear - 0.015, rear + 0.02, -0.26, 0.26, z - 0.2, z - 0.09),
        box(front - 0.02, front + 0.015, -0.26, 0.26, z - 0.28, z - 0.17),
    ]
    parts.append(surface(np.concatenate(plate), cls, (0.8, 0.8, 0.8), Material.MARKING))
    return parts
