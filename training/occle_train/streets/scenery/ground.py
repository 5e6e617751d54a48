# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""The ground as a mesh: carriageway, kerbs, pavements, yards and lane markings."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from occle_train.streets.scenery.layout import Street
from occle_train.streets.shapes.classes import ID
from occle_train.streets.shapes.mesh import Material, Mesh, join, quads, surface


def ground(street: Street, rng: np.random.Generator) -> Mesh:
    """Ground, kerbs and lane markings."""
    s_lines = [np.arange(street.start, street.end, 1.0)]
    for j in street.junctions:
        s_lines.append(np.array([j.s - j.half - 2, j.s - j.half, j.s + j.half, j.s + j.half + 2]))
    s_lines.append(np.array([at + k * half for at, _, half in street.driveways for k in (-1, 1)]))
    s = np.unique(np.round(np.concatenate(s_lines), 3))
    borders = [0.0, street.edge, street.width, -street.width, street.median / 2, -street.median / 2]
    for side in (1, -1):
        borders += [side * street.edge, side * (street.edge + 2.5)] + [side * strip.outer for strip in street.strips[side]]
    fine = np.concatenate([np.arange(-14.0, 14.1, 1.5), np.arange(-street.width, street.width, 4.0)])
    d = np.unique(np.round(np.concatenate([borders, fine]), 3))
    s, d = s[np.concatenate([[True], np.diff(s) > 0.01])], d[np.concatenate([[True], np.diff(d) > 0.01])]
    middle_s, middle_d = np.meshgrid((s[:-1] + s[1:]) / 2, (d[:-1] + d[1:]) / 2, indexing="ij")
    cls, raised = street.surface_at(middle_s, middle_d)
    S, D = np.meshgrid(s, d, indexing="ij")
    xy, _ = street.at(S, D)
    corner = np.concatenate([xy, street.base(S, D)[..., None]], -1)
    lift = np.zeros(raised.shape + (3,))
    lift[..., 2] = raised
    a, b, c, e = corner[:-1, :-1] + lift, corner[1:, :-1] + lift, corner[1:, 1:] + lift, corner[:-1, 1:] + lift
    tops = quads(a.reshape(-1, 3), b.reshape(-1, 3), c.reshape(-1, 3), e.reshape(-1, 3))
    parts = [_ground_surface(tops, np.repeat(cls.ravel(), 2), rng)]
    for low, high, p, q, axis in ((slice(None, -1), slice(1, None), b, c, 0), (slice(None, -1), slice(1, None), e, c, 1)):
        first = (low, slice(None)) if axis == 0 else (slice(None), low)
        second = (high, slice(None)) if axis == 0 else (slice(None), high)
        step = raised[second] - raised[first]
        at = np.abs(step) > 0.005
        p0, p1 = p[first][at], q[first][at]
        rise = np.zeros_like(p0)
        rise[:, 2] = step[at]
        owner = np.where(step[at] > 0, cls[second][at], cls[first][at])
        risers = _ground_surface(quads(p0, p1, p1 + rise, p0 + rise), np.repeat(owner, 2), rng, kerb=True)
        parts.append(risers)
    parts.append(_markings(street, rng))
    return join(parts)


def _markings(street: Street, rng: np.random.Generator) -> Mesh:
    """Lane lines, edge lines, stop lines and zebra crossings, a few millimetres above the road."""
    lines: list[tuple[float, float, float, float]] = []
    wide = rng.uniform(0.1, 0.16)
    if rng.random() < 0.75:
        dash, gap = rng.uniform(2.0, 4.0), rng.uniform(2.0, 6.0)
        middles = [0.0] if not street.median else []
        middles += [side * (street.median / 2 + street.lane) for side in (-1, 1)] if street.lanes == 2 else []
        solid = rng.random() < 0.2
        for at in np.arange(street.start, street.end - dash, dash if solid else dash + gap):
            lines += [(at, at + dash, m - wide / 2, m + wide / 2) for m in middles]
    if rng.random() < 0.35:
        for at in np.arange(street.start, street.end - 2, 2.0):
            lines += [(at, at + 2.0, side * (street.edge - 0.3), side * (street.edge - 0.3) + wide) for side in (-1, 1)]
    for j in street.junctions:
        kind = rng.random()
        if kind < 0.4:
            at = j.s + rng.choice([-1, 1]) * (j.half + 2.0)
            lines += [(at - 1.5, at + 1.5, x, x + 0.5) for x in np.arange(-street.edge + 0.3, street.edge - 0.5, 1.0)]
        elif kind < 0.7:
            lines += [(j.s - j.half - 1.5, j.s - j.half - 1.1, -street.edge + 0.1, -0.1)]
        for side in j.sides:
            if rng.random() < 0.6:
                lines += [
                    (j.s + x, j.s + x + 0.5, side * (street.edge + 0.2), side * (street.edge + 0.5))
                    for x in np.arange(-j.half + 0.2, j.half - 0.4, 1.0)
                ]
    for side in (1, -1):
        for strip in street.strips[side]:
            if strip.cls == "parking" and rng.random() < 0.5:
                pitch = 5.5 if strip.outer - strip.inner < 3 else 2.5
                lines += [
                    (at, at + 0.1, side * strip.inner, side * strip.outer)
                    for at in np.arange(street.start, street.end, pitch)
                    if street.clear_of_junctions(at, side)
                ]
    if not lines:
        return join([])
    q = np.array(lines)
    keep = np.ones(len(q), bool)
    for j in street.junctions:
        along = np.abs(q[:, 3] - q[:, 2]) < 0.3
        keep &= ~(along & (np.abs((q[:, 0] + q[:, 1]) / 2 - j.s) < j.half + 0.5))
    q = q[keep]
    corners = []
    for i, k in ((0, 2), (1, 2), (1, 3), (0, 3)):
        s, d = q[:, i], q[:, k]
        xy, _ = street.at(s, d)
        _, raised = street.surface_at((q[:, 0] + q[:, 1]) / 2, (q[:, 2] + q[:, 3]) / 2)
        corners.append(np.concatenate([xy, (street.base(s, d) + raised + 0.012)[:, None]], 1))
    return surface(quads(*corners), "lane_marking", np.array([0.62, 0.62, 0.6]) * rng.uniform(0.7, 1.15), Material.MARKING)


def _ground_surface(tri: NDArray[np.float32], cls: NDArray[np.uint8], rng: np.random.Generator, kerb: bool = False) -> Mesh:
    """Ground triangles coloured and textured by class."""
    look = {
        "road": (np.array([0.125, 0.125, 0.13]) * rng.uniform(0.75, 1.7), Material.ASPHALT),
        "parking": (np.array([0.2, 0.19, 0.18]) * rng.uniform(0.7, 1.5), (Material.COBBLE, Material.ASPHALT)[int(rng.integers(2))]),
        "sidewalk": (np.array([0.27, 0.26, 0.25]) * rng.uniform(0.7, 1.35), Material.SLABS),
        "other_ground": (
            np.array([0.3, 0.25, 0.2]) * rng.uniform(0.7, 1.3),
            (Material.COBBLE, Material.ASPHALT)[int(rng.integers(2))],
        ),
        "terrain": (
            np.array([0.12, 0.17, 0.05]) * rng.uniform(0.7, 1.4) * rng.uniform((0.9, 0.85, 0.8), (1.7, 1.1, 1.2)),
            Material.GRASS,
        ),
    }
    parts = []
    for name, (rgb, mat) in look.items():
        own = tri[cls == ID[name]]
        if kerb:
            rgb, mat = np.array([0.32, 0.31, 0.3]), Material.PLAIN
        parts.append(surface(own, name, rgb, mat))
    return join(parts)
