# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""A hall: aisles between racks or shelves, a cross aisle, a staging area with gates, columns, machines and benches at the walls."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from occle_train.streets.shapes import machinery, people, storage
from occle_train.streets.shapes.mesh import Material, Mesh, box, surface
from occle_train.streets.sites.route import Route
from occle_train.streets.sites.site import Rectangle, Site, ground, wall

THICK = 0.25
"""Of the walls, metres."""
ROOM = 1.6
"""Metres between the outer aisles and the walls, for what stands along these."""
BEHIND, BEFORE = 1.2, 1.6
"""Metres from the west wall to the cross aisle, and from the racks to the robot's way through the staging area."""


@dataclass(frozen=True)
class HallPlan:
    """Measures of a hall, metres. Racks lie along x, from `cross` to `cross + long`; the first aisle begins at y = 0.

    Args:
        low: a low storage room with shelves, or a high hall with pallet racks.
        high: of the ceiling.
        blocks: racks back to back; there is an aisle on either side of each.
        aisle, deep: widths of aisles and blocks.
        long: length of the racks.
        cross, stage: widths of the cross aisle and of the staging area.
    """

    low: bool
    high: float
    blocks: int
    aisle: float
    deep: float
    long: float
    cross: float
    stage: float

    @property
    def inside(self) -> Rectangle:
        """Between the walls."""
        across = self.blocks * self.deep + (self.blocks + 1) * self.aisle
        return -BEHIND, self.cross + self.long + self.stage, -ROOM, across + ROOM

    def aisle_middle(self, k: int) -> float:
        """The y of an aisle's middle."""
        return self.aisle / 2 + k * (self.aisle + self.deep)


def hall(rng: np.random.Generator) -> Site:
    """A furnished hall."""
    plan = _plan(rng)
    site = _empty(plan, rng)
    site.parts += [ground(site.inside, 15.0, rng, Material.PLAIN, rng.uniform(0.22, 0.42)), *_shell(plan, rng)]
    _racks(site, plan, rng)
    _columns(site, plan, rng)
    _along_walls(site, plan, rng)
    _staging(site, plan, rng)
    return site


def _plan(rng: np.random.Generator) -> HallPlan:
    if rng.random() < 0.35:
        low, high, aisle, deep, long = True, rng.uniform(2.4, 2.62), rng.uniform(1.9, 2.5), 1.14, rng.uniform(7, 14)
    else:
        bays = int(rng.integers(4, 8))
        low, high, aisle, deep, long = False, rng.uniform(5.0, 8.5), rng.uniform(2.7, 3.6), 2.56, bays * storage.BAY + 0.1
    blocks = int(rng.integers(2, 5))
    return HallPlan(low, high, blocks, aisle, deep, long, rng.uniform(3.0, 4.2), rng.uniform(6.0, 9.0))


def _empty(plan: HallPlan, rng: np.random.Generator) -> Site:
    """The hall with the robot's way: up one aisle and down another."""
    one, other = sorted(rng.choice(plan.blocks + 1, 2, replace=False).tolist())
    y0, y1 = plan.aisle_middle(one), plan.aisle_middle(other)
    x0, x1 = plan.cross / 2, plan.cross + plan.long + BEFORE
    corners = [(x0, y0), (x1, y0), (x1, y1), (x0, y1)]
    route = Route(corners if rng.random() < 0.5 else corners[::-1], rng.uniform(0.9, 1.3))
    half = plan.aisle / 2 - 0.35
    middles = [plan.aisle_middle(k) for k in range(plan.blocks + 1)]
    top = plan.inside[3] - ROOM
    lanes = [(0.4, plan.cross + plan.long + 2.5, y - half, y + half) for y in middles]
    lanes += [(0.3, plan.cross - 0.6, 0.0, top), (x1 - 0.9, x1 + 0.9, 0.0, top)]
    return Site(plan.inside, route, lanes)


def _shell(plan: HallPlan, rng: np.random.Generator) -> list[Mesh]:
    """Walls with gates, ceiling, beams and lamps."""
    x0, x1, y0, y1 = plan.inside
    colour = rng.uniform(0.35, 0.75) * rng.uniform(0.92, 1.08, 3)
    mat = Material.BRICK if rng.random() < 0.3 else Material.PLAIN
    wide, tall = (1.8, 2.1) if plan.low else (rng.uniform(2.8, 3.6), rng.uniform(3.0, 3.8))
    count = int((y1 - y0) // (wide + 2.5))
    middles = y0 + (np.arange(count) + 0.5) * (y1 - y0) / count
    gates = [(float(y) - wide / 2, float(y) + wide / 2) for y in middles]
    pieces = [wall(plan.inside, "east", plan.high, THICK, gates, tall)]
    pieces += [wall(plan.inside, side, plan.high, THICK, [], 0.0) for side in ("west", "south", "north")]
    parts = [surface(tri, "wall", colour, mat) for tri in pieces]
    for low, up in gates:
        if rng.random() < 0.75:
            door = np.clip(rng.uniform(0.3, 0.6) * rng.uniform(0.85, 1.15, 3), 0, 0.9)
            parts.append(surface(box(x1 + 0.08, x1 + 0.14, low, up, 0, tall), "wall", door, Material.PAINT))
    above = rng.uniform(0.4, 0.7) * np.ones(3)
    parts.append(surface(box(x0 - THICK, x1 + THICK, y0 - THICK, y1 + THICK, plan.high, plan.high + 0.2), "ceiling", above))
    if not plan.low:
        beams = [box(x - 0.12, x + 0.12, y0, y1, plan.high - 0.45, plan.high) for x in np.arange(x0 + 3, x1, 5.0)]
        parts.append(surface(np.concatenate(beams), "ceiling", above * 0.7))
    drop = 0.06 if plan.low else 0.6
    lamps = [
        box(x - 0.7, x + 0.7, y - 0.1, y + 0.1, plan.high - drop - 0.05, plan.high - drop)
        for x in np.arange(x0 + 2, x1 - 1, 4.0)
        for y in np.arange(y0 + 1.5, y1, 3.5)
    ]
    parts.append(surface(np.concatenate(lamps), "ceiling", (0.95, 0.95, 0.9), Material.SHINY))
    return parts


def _racks(site: Site, plan: HallPlan, rng: np.random.Generator) -> None:
    """Racks back to back, yellow lines beside them, and a guard or a column before their ends."""
    fill, level = rng.uniform(0.55, 0.95), rng.uniform(1.5, 1.9)
    levels = int(np.clip((plan.high - 2.0) / level, 1, 4))
    middle = plan.cross + plan.long / 2
    for k in range(plan.blocks):
        y = plan.aisle_middle(k) + plan.aisle / 2 + plan.deep / 2
        for side in (-1, 1):
            if plan.low:
                shape, off = storage.shelf(rng, plan.long, rng.uniform(1.8, 2.2)), 0.31
            else:
                shape, off = storage.rack(rng, round((plan.long - 0.1) / storage.BAY), levels, level, fill), 0.67
            site.place(shape, middle, y + side * off, 0.0 if side < 0 else np.pi, 0.02)
            edge = y + side * (plan.deep / 2 + 0.12)
            site.marking(plan.cross, plan.cross + plan.long, edge - 0.05, edge + 0.05)
        for x in (plan.cross - 0.3, plan.cross + plan.long + 0.3):
            if rng.random() < 0.4:
                site.place(_column(plan.high, rng), x, y)
            elif not plan.low:
                half = plan.deep / 2 - 0.1
                rail = [box(-0.05, 0.05, -half, half, 0.12, 0.28), box(-0.05, 0.05, -half, -half + 0.1, 0, 0.4)]
                rail.append(box(-0.05, 0.05, half - 0.1, half, 0, 0.4))
                site.place(surface(np.concatenate(rail), "barrier", (0.65, 0.48, 0.03), Material.PAINT), x, y)


def _columns(site: Site, plan: HallPlan, rng: np.random.Generator) -> None:
    """Columns along the walls and through the staging area."""
    x0, x1, y0, y1 = plan.inside
    pitch = rng.uniform(4.5, 6.5)
    for x in np.arange(x0 + pitch / 2, x1 - 0.5, pitch):
        for y in (y0 + 0.2, y1 - 0.2):
            site.place(_column(plan.high, rng), x, y, gap=0.0)
    for y in np.arange(y0 + pitch / 2, y1 - 0.5, pitch):
        site.place(_column(plan.high, rng), plan.cross + plan.long + BEFORE + 2.0, y)


def _column(high: float, rng: np.random.Generator) -> Mesh:
    """A column of steel or concrete; its foot is painted where forklifts pass."""
    half = rng.uniform(0.12, 0.18)
    parts = surface(box(-half, half, -half, half, 0, high), "column", rng.uniform(0.3, 0.6) * np.ones(3))
    return parts


def _along_walls(site: Site, plan: HallPlan, rng: np.random.Generator) -> None:
    """Machines, benches, shelves, goods and people along the long walls and the west wall."""
    x0, x1, y0, y1 = plan.inside
    long = (x0 + 0.3, x1 - 0.3)
    for count, make, off in ((4, machinery.machine, 0.95), (4, machinery.bench, 0.42), (5, storage.stack, 0.5)):
        site.scatter(rng, make, count, (*long, y1 - off, y1 - off + 0.1), [0.0])
        site.scatter(rng, make, count, (*long, y0 + off - 0.1, y0 + off), [np.pi])
    site.scatter(rng, lambda r: storage.shelf(r, r.uniform(1.5, 3.0), 1.9), 2, (*long, y1 - 0.4, y1 - 0.35), [0.0])
    site.scatter(rng, machinery.bench, 2, (x0 + 0.42, x0 + 0.5, y0 + 1, y1 - 1), [np.pi / 2])
    for y in (y0 + 1.2, y1 - 1.2):
        site.scatter(rng, lambda r: people.person(r, 0.05), 2, (*long, y - 0.15, y + 0.15), [0.0, np.pi / 2, np.pi])


def _staging(site: Site, plan: HallPlan, rng: np.random.Generator) -> None:
    """Goods on marked places before the gates, parked forklifts and pallet trucks, machines and people."""
    _, x1, y0, y1 = plan.inside
    area = (plan.cross + plan.long + BEFORE + 1.3, x1 - 0.9, y0 + 1.0, y1 - 1.0)
    for y in np.arange(area[2], area[3], 1.6):
        site.marking(area[0], area[1], y - 0.04, y + 0.04)
    turns = [0.0, np.pi / 2, np.pi, -np.pi / 2]
    size = (area[1] - area[0]) * (area[3] - area[2])
    if not plan.low:
        site.scatter(rng, machinery.forklift, int(rng.integers(1, 3)), area, turns)
    site.scatter(rng, machinery.pallet_truck, int(rng.integers(1, 3)), area, turns)
    site.scatter(rng, machinery.machine, 1, area, turns)
    site.scatter(rng, storage.stack, int(size * rng.uniform(0.1, 0.22)), area, turns)
    site.scatter(rng, lambda r: people.person(r, 0.05), int(rng.integers(1, 4)), area, turns)
