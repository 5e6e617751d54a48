# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""A yard: an open court between walls and fences, a lane round an island of goods, vehicles and plants at its edges."""

from __future__ import annotations

import numpy as np

from occle_train.streets.shapes import buildings, furniture, machinery, people, storage, vegetation, vehicles
from occle_train.streets.shapes.mesh import Material, Mesh, box, pose, surface, tube
from occle_train.streets.sites.route import Route
from occle_train.streets.sites.site import Rectangle, Site, ground, wall

EDGE = 4.0
"""Metres between the walls and the lane, where things stand."""
THICK = 0.3
"""Of the walls, metres."""


def yard(rng: np.random.Generator) -> Site:
    """A furnished yard."""
    long, wide, lane = rng.uniform(28, 44), rng.uniform(24, 34), rng.uniform(3.2, 4.8)
    inside = (0.0, long, 0.0, wide)
    low = EDGE + lane / 2
    corners = [(low, low), (long - low, low), (long - low, wide - low), (low, wide - low)]
    route = Route(corners if rng.random() < 0.5 else corners[::-1], rng.uniform(1.4, 2.5))
    near, far = EDGE + 0.3, EDGE + lane - 0.3
    lanes = [(near, long - near, near, far), (near, long - near, wide - far, wide - near)]
    lanes += [(near, far, near, wide - near), (long - far, long - near, near, wide - near)]
    site = Site(inside, route, lanes)
    mat = Material.ASPHALT if rng.random() < 0.6 else Material.COBBLE
    site.parts.append(ground(inside, 25.0, rng, mat, rng.uniform(0.12, 0.26)))
    for side in ("west", "east", "south", "north"):
        site.parts += _border(inside, side, rng)
    _island(site, (EDGE + lane, long - EDGE - lane, EDGE + lane, wide - EDGE - lane), rng)
    _edges(site, rng)
    return site


def _border(inside: Rectangle, side: str, rng: np.random.Generator) -> list[Mesh]:
    """A building's front with gates, a wall, or a fence with plants behind it."""
    x0, x1, y0, y1 = inside
    length = (y1 - y0) if side in ("west", "east") else (x1 - x0)
    start = y0 if side in ("west", "east") else x0
    kind = rng.choice(["building", "wall", "fence"], p=[0.45, 0.25, 0.3])
    colour = rng.uniform(0.3, 0.7) * rng.uniform(0.85, 1.12, 3)
    if kind == "building":
        high, gate = rng.uniform(4.0, 8.0), rng.uniform(2.8, 3.8)
        count = int(length // 9)
        middles = start + (np.arange(count) + 0.5) * length / count
        openings = [(float(m) - gate / 2, float(m) + gate / 2) for m in middles]
        par = (0.0, rng.uniform(2.0, 3.6), rng.uniform(2.8, 3.4), rng.uniform(0, 3))
        parts = [surface(wall(inside, side, high, THICK, openings, gate), "wall", colour, Material.FACADE, par)]
        door = rng.uniform(0.2, 0.6) * rng.uniform(0.8, 1.2, 3)
        for low, up in openings:
            across = {"west": (x0 - 0.16, x0 - 0.1), "east": (x1 + 0.1, x1 + 0.16), "south": (y0 - 0.16, y0 - 0.1),
                      "north": (y1 + 0.1, y1 + 0.16)}[side]  # fmt: skip
            span = (*across, low, up) if side in ("west", "east") else (low, up, *across)
            parts.append(surface(box(*span, 0, gate), "wall", np.clip(door, 0, 0.9), Material.PAINT))
        return parts
    if kind == "wall":
        return [surface(wall(inside, side, rng.uniform(2.2, 3.2), THICK, [], 0.0), "wall", colour, Material.BRICK)]
    at = {"west": (x0 - 0.2, (y0 + y1) / 2, np.pi / 2), "east": (x1 + 0.2, (y0 + y1) / 2, np.pi / 2),
          "south": ((x0 + x1) / 2, y0 - 0.2, 0.0), "north": ((x0 + x1) / 2, y1 + 0.2, 0.0)}[side]  # fmt: skip
    T = pose(at[0], at[1], 0.0, at[2])
    outward = 1.0 if side in ("north", "west") else -1.0
    parts = [buildings.fence(rng, length).moved(T)]
    for along in np.arange(-length / 2 + 2, length / 2 - 1, rng.uniform(4, 8)):
        tree = vegetation.tree(rng, rng.uniform(0.5, 1.0))
        parts.append(tree.moved(T @ pose(along, outward * rng.uniform(3.5, 6.0), 0.0, rng.uniform(0, 6))))
    return parts


def _island(site: Site, area: Rectangle, rng: np.random.Generator) -> None:
    """Containers, stacks of pallets, parked vehicles and forklifts in the middle."""
    x0, x1, y0, y1 = area
    size = (x1 - x0) * (y1 - y0)
    quarter = [0.0, np.pi / 2, np.pi, -np.pi / 2]
    whole = (x0 + 0.5, x1 - 0.5, y0 + 0.5, y1 - 0.5)
    site.scatter(rng, storage.container, max(1, int(size / 90)), whole, [0.0, np.pi / 2])
    site.scatter(rng, vehicles.truck, int(rng.random() < 0.5), whole, [0.0, np.pi])
    site.scatter(rng, machinery.forklift, int(rng.integers(1, 4)), whole, quarter)
    site.scatter(rng, storage.stack, int(size * rng.uniform(0.06, 0.14)), whole, [0.0, np.pi / 2])
    site.scatter(rng, machinery.machine, int(rng.integers(0, 3)), whole, quarter)
    site.scatter(rng, machinery.pallet_truck, 2, whole, quarter)
    site.scatter(rng, lambda r: people.person(r, 0.05), int(rng.integers(1, 4)), whole, quarter)
    site.scatter(rng, _lamp, 2, whole)


def _edges(site: Site, rng: np.random.Generator) -> None:
    """What stands along the four walls: parked vehicles, containers, pallets, machines, plants, barriers, people."""
    x0, x1, y0, y1 = site.inside
    sides = (
        ((x0 + 1, x1 - 1, y0 + 0.9, y0 + EDGE - 0.9), np.pi),
        ((x0 + 1, x1 - 1, y1 - EDGE + 0.9, y1 - 0.9), 0.0),
        ((x0 + 0.9, x0 + EDGE - 0.9, y0 + 1, y1 - 1), np.pi / 2),
        ((x1 - EDGE + 0.9, x1 - 0.9, y0 + 1, y1 - 1), -np.pi / 2),
    )
    for strip, turn in sides:
        site.scatter(rng, vehicles.car, int(rng.integers(0, 4)), strip, [turn, turn + np.pi])
        site.scatter(rng, storage.container, int(rng.integers(0, 2)), strip, [turn])
        site.scatter(rng, lambda r: vehicles.trailer(r) if r.random() < 0.5 else vehicles.truck(r), 1, strip, [turn])
        site.scatter(rng, machinery.machine, int(rng.integers(0, 3)), strip, [turn])
        site.scatter(rng, storage.stack, int(rng.integers(2, 6)), strip, [turn, turn + np.pi / 2])
        site.scatter(rng, lambda r: vegetation.bush(r, r.uniform(0.4, 0.9)), int(rng.integers(0, 4)), strip)
        site.scatter(rng, lambda r: vegetation.hedge(r, r.uniform(2, 5), r.uniform(0.7, 1.6), 0.7), 1, strip, [turn])
        site.scatter(rng, lambda r: furniture.barrier(r, r.uniform(2, 5)), 1, strip, [turn])
        site.scatter(rng, furniture.cone, int(rng.integers(0, 4)), strip)
        site.scatter(rng, _lamp, 1, strip)
        site.scatter(rng, lambda r: people.person(r, 0.05), int(rng.integers(0, 3)), strip, [turn, turn + np.pi / 2])


def _lamp(rng: np.random.Generator) -> Mesh:
    """A lamp post."""
    high = rng.uniform(5.0, 7.0)
    post = [tube((0, 0, 0), (0, 0, high), 0.09, 0.06, 7), box(-0.4, 0.4, -0.12, 0.12, high - 0.08, high)]
    return surface(np.concatenate(post), "column", (0.3, 0.31, 0.32))
