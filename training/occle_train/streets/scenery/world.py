# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Everything that does not move: puts houses, plants, parked vehicles and street furniture along a Street."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from occle_train.streets.scenery.ground import ground
from occle_train.streets.scenery.layout import GroundStrip, Street
from occle_train.streets.shapes import buildings, furniture, people, vegetation, vehicles
from occle_train.streets.shapes.boxes import Box, box_of
from occle_train.streets.shapes.mesh import Mesh, join, pose

RARE: tuple[tuple[Callable[[np.random.Generator], Mesh], float], ...] = (
    (vehicles.truck, 5.2), (vehicles.bus, 6.3), (vehicles.trailer, 4.5), (vehicles.construction_vehicle, 3.6),
    (vehicles.other_vehicle, 2.2), (people.bicycle, 0.9), (people.bicycle, 0.9), (people.motorcycle, 1.1), (people.motorcycle, 1.1),
    (people.bicyclist, 1.0), (people.motorcyclist, 1.1), (people.person, 0.5), (people.person, 0.5),
    (furniture.cone, 0.3), (furniture.pushable, 0.8), (furniture.clutter, 0.8), (furniture.signboard, 0.9),
)  # fmt: skip
"""Shapes that every drive shows more often than a real street would, and the radius that each needs."""


CLEAR = 1.35
"""Metres that stay free of things on either side of the ego vehicle's middle."""


class World:
    """The static part of a drive.

    Args:
        rng: source of every choice.
        street: the ground to stand on.
        seen: (s0, s1), the stretch along which rare things are put, since they would be wasted elsewhere.
        lane: offset d of the lane that stays clear for the ego vehicle.

    `mesh` holds all triangles; every object has its own instance number from 1 up, `instances` of them; `boxes` are the boxes of
    those that nuScenes annotates, `obstacles` the rectangles s0, s1, d0, d1 of street coordinates that things below 2.2 m cover.
    """

    def __init__(self, rng: np.random.Generator, street: Street, seen: tuple[float, float], lane: float) -> None:
        self.street, self._rng, self._seen, self._lane = street, rng, seen, lane
        self._parts: list[Mesh] = [ground(street, rng)]
        self._taken: list[tuple[float, float, float]] = []
        self.instances = 0
        self.boxes: list[Box] = []
        self.obstacles: list[tuple[float, float, float, float]] = []
        self._rare()
        self._works()
        for side in (1, -1):
            self._houses(side)
            self._parked(side)
            self._front(side)
            self._greenery(side)
            self._posts(side)
        self.mesh = join(self._parts)

    def place(self, mesh: Mesh, s: float, d: float, turn: float = 0.0, radius: float = 0.0, sink: float = 0.0) -> bool:
        """Stand a shape on the ground at (s, d), turned against the street.

        Returns:
            False when the place is taken or in the ego vehicle's way.
        """
        low = mesh.tri[mesh.tri[:, :, 2].min(1) < 2.2].reshape(-1, 3)
        across = d + low[:, 0] * np.sin(turn) + low[:, 1] * np.cos(turn)
        if len(low) and across.min() < self._lane + CLEAR and across.max() > self._lane - CLEAR:
            return False
        along = s + low[:, 0] * np.cos(turn) - low[:, 1] * np.sin(turn)
        xy, heading = self.street.at(s, d)
        x, y = float(xy[0]), float(xy[1])
        if radius and any((x - a) ** 2 + (y - b) ** 2 < (radius + r) ** 2 for a, b, r in self._taken):
            return False
        if radius:
            self._taken.append((x, y, radius))
        z = float(self.street.ground(s, d))
        self.instances += 1
        if len(low):
            self.obstacles.append((along.min(), along.max(), across.min(), across.max()))
        T = pose(x, y, z - sink, float(heading) + turn)
        self._parts.append(mesh.moved(T).numbered(self.instances % 65536))
        box = box_of(mesh, T, self.instances % 65536, moving=False)
        if box is not None:
            self.boxes.append(box)
        return True

    def _yard(self, side: int) -> GroundStrip:
        return self.street.strips[side][-2]

    def _houses(self, side: int) -> None:
        rng, style = self._rng, self.street.style
        front = self._yard(side).outer
        for row, depth_off in ((0, 0.0), (1, rng.uniform(22, 28))):
            s = self.street.start + rng.uniform(0, 10)
            while s < self.street.end:
                width, depth = rng.uniform(8, 24), rng.uniform(8, 14)
                middle = s + width / 2
                if rng.random() < style.buildings and self.street.clear_of_junctions(middle, side, width / 2 + 2.5):
                    storeys = int(rng.integers(style.storeys[0], style.storeys[1] + 1))
                    shift = rng.uniform(0, 2.0) * (rng.random() < 0.5)
                    if rng.random() < 0.12:
                        mesh = buildings.hall(rng, width, depth)
                    else:
                        mesh = buildings.house(rng, width, depth, storeys, rng.random() < style.flat_roofs)
                    self.place(mesh, middle, side * (front + shift + depth_off), 0.0 if side > 0 else np.pi)
                s += width + rng.uniform(0.2, 2.0) * style.gap * (1 + row)
        for _ in range(int(rng.integers(0, 3))):
            s = rng.uniform(*self._seen)
            if self.street.clear_of_junctions(s, side, 5):
                d = side * (self._yard(side).inner + 0.3)
                self.place(buildings.carport(rng), s, d, 0.0 if side > 0 else np.pi, 2.5)

    def _front(self, side: int) -> None:
        """Hedges, fences and low walls along the front of the yards."""
        rng, style = self._rng, self.street.style
        yard = self._yard(side)
        if yard.outer - yard.inner < 1.2:
            return
        s = self.street.start
        while s < self.street.end:
            length = rng.uniform(5, 16)
            kind = rng.random()
            middle = s + length / 2
            clear = self.street.clear_of_junctions(middle, side, length / 2 + 2.0)
            clear = clear and all(k != side or abs(at - middle) > length / 2 + half for at, k, half in self.street.driveways)
            d = side * (yard.inner + 0.5)
            clear = clear and self._free_line(middle, d, length / 2)
            if clear and kind < style.hedges * 0.75:
                self.place(vegetation.hedge(rng, length, rng.uniform(0.7, 2.6), rng.uniform(0.5, 1.1)), middle, d)
            elif clear and kind < style.hedges * 0.75 + style.fences * 0.95:
                self.place(buildings.fence(rng, length), middle, side * (yard.inner + 0.2))
            s += length + rng.uniform(0.0, 2.5)

    def _free_line(self, s: float, d: float, half: float) -> bool:
        """True if nothing stands within 0.4 m of a line along the street."""
        along, _ = self.street.at(np.arange(s - half, s + half, 0.8), d)
        return all(((along - (a, b)) ** 2).sum(1).min() > (r + 0.4) ** 2 for a, b, r in self._taken)

    def _parked(self, side: int) -> None:
        rng, street = self._rng, self.street
        strip = next((x for x in street.strips[side] if x.cls == "parking"), None)
        if strip is not None:
            across = strip.outer - strip.inner > 3
            d, pitch, turn = (strip.inner + strip.outer) / 2, 2.7 if across else 6.2, np.pi / 2 if across else 0.0
        elif rng.random() < 0.5:
            d, pitch, turn = street.edge - 1.05, 7.5, 0.0
        else:
            return
        if strip is None and street.lane < 3.2:
            d = street.edge + 0.1
        for s in np.arange(street.start + 5, street.end - 5, pitch):
            if rng.random() < street.style.parked and street.clear_of_junctions(s, side, 4.0):
                facing = (0.0 if side < 0 else np.pi) if turn == 0.0 else turn * rng.choice([-1, 1])
                self.place(
                    vehicles.car(rng),
                    s + rng.normal(0, 0.25),
                    side * (d + rng.normal(0, 0.08)),
                    facing + rng.normal(0, 0.025),
                    1.35 if turn else 2.4,
                )
        for at, driveway_side, _ in street.driveways:
            yard = self._yard(side)
            if driveway_side == side and rng.random() < 0.45 and yard.outer - yard.inner > 5:
                self.place(vehicles.car(rng), at, side * (yard.inner + yard.outer) / 2, side * np.pi / 2 * rng.choice([-1, 1]), 2.2)

    def _greenery(self, side: int) -> None:
        rng, street, style = self._rng, self.street, self.street.style
        lines = [(x.inner + x.outer) / 2 for x in street.strips[side][:-2] if x.cls in ("terrain", "other_ground")]
        if lines and rng.random() < 0.4 + style.trees * 0.6:
            size, pitch = rng.uniform(0.6, 1.5), rng.uniform(7, 14)
            for s in np.arange(street.start, street.end, pitch):
                if rng.random() < 0.85 and street.clear_of_junctions(s, side):
                    self.place(vegetation.tree(rng, size), s + rng.normal(0, 0.4), side * lines[0], rng.uniform(0, 6), 0.6)
        yard, behind = self._yard(side), self._yard(side).outer
        length = street.end - street.start
        for _ in range(int(length * style.trees / 9)):
            d = rng.uniform(yard.inner + 1.0, max(yard.outer - 1.0, yard.inner + 1.1))
            s = rng.uniform(street.start, street.end)
            if street.clear_of_junctions(s, side) and yard.outer - yard.inner > 2.5:
                self.place(vegetation.tree(rng, rng.uniform(0.4, 1.2)), s, side * d, rng.uniform(0, 6), 1.0)
        for _ in range(int(length * (0.15 + style.trees) / 6)):
            s, d = rng.uniform(street.start, street.end), rng.uniform(behind + 15, street.width - 3)
            if street.clear_of_junctions(s, side):
                self.place(vegetation.tree(rng, rng.uniform(0.8, 1.8)), s, side * d, rng.uniform(0, 6), 1.5)
        if style.buildings < 0.8:
            for _ in range(int(length * style.trees * (1 - style.buildings) / 3)):
                s, d = rng.uniform(street.start, street.end), rng.uniform(yard.inner + 2, behind + 14)
                if street.clear_of_junctions(s, side):
                    self.place(vegetation.tree(rng, rng.uniform(0.6, 1.6)), s, side * d, rng.uniform(0, 6), 2.0)
        s = street.start
        while s < street.end:
            run = rng.uniform(4, 22)
            if rng.random() < 0.12 + 0.5 * style.trees:
                self._thicket(side, s, run, rng.uniform(yard.inner + 1.2, max(yard.inner + 1.5, yard.outer - 0.5)))
            s += run + rng.uniform(0, 15)
        for _ in range(int(length * (0.2 + style.hedges) / 6)):
            s, d = rng.uniform(street.start, street.end), rng.uniform(yard.inner + 0.8, yard.outer + 6)
            if street.clear_of_junctions(s, side):
                radius = rng.uniform(0.4, 1.4)
                self.place(vegetation.bush(rng, radius), s, side * d, 0.0, radius * 0.7, 0.15)

    def _thicket(self, side: int, start: float, run: float, d: float) -> None:
        """Shrubs that grow into each other."""
        rng, size = self._rng, self._rng.uniform(0.6, 1.8)
        for s in np.arange(start, start + run, size * 1.1):
            if self.street.clear_of_junctions(s, side, size + 1):
                radius = size * rng.uniform(0.7, 1.25)
                self.place(vegetation.bush(rng, radius), s, side * (d + rng.normal(0, 0.3 * size)), 0.0, 0.0, 0.15)

    def _walkway(self, side: int) -> GroundStrip:
        strips = self.street.strips[side]
        return next((x for x in strips if x.cls == "sidewalk"), strips[0])

    def _posts(self, side: int) -> None:
        rng, street, walk = self._rng, self.street, self._walkway(side)
        kerb, back = side * (walk.inner + 0.35), side * (walk.outer - 0.2)
        toward = -np.pi / 2 if side > 0 else np.pi / 2
        if rng.random() < 0.8:
            for s in np.arange(street.start, street.end, rng.uniform(18, 36)) + rng.uniform(0, 10):
                self.place(furniture.lamp(rng), s, kerb, toward - np.pi / 2, 0.3)
        for _ in range(int((street.end - street.start) / 16)):
            s = rng.uniform(street.start, street.end)
            shape = rng.choice([0, 0, 0, 1, 2, 3, 3])
            facing = (np.pi if side > 0 else 0.0) + rng.normal(0, 0.15) + rng.choice([0.0, np.pi], p=[0.75, 0.25])
            if shape == 0:
                self.place(furniture.sign(rng), s, kerb if rng.random() < 0.7 else back, facing, 0.4)
            elif shape == 1:
                self.place(furniture.clutter(rng), s, back, toward, 0.7)
            elif shape == 2:
                for k in range(int(rng.integers(1, 5))):
                    self.place(furniture.pole(rng), s + 1.6 * k, kerb, 0.0, 0.2)
            else:
                self.place(furniture.pole(rng), s, rng.choice([kerb, back]), 0.0, 0.3)
        for junction in street.junctions:
            if rng.random() < 0.55:
                self.place(furniture.traffic_light(rng), junction.s - junction.half - 1.5, -street.edge - 0.5, 0.0, 0.3)
                self.place(furniture.traffic_light(rng), junction.s + junction.half + 1.5, street.edge + 0.5, np.pi, 0.3)
        for _ in range(int(rng.poisson(street.style.people * (self._seen[1] - self._seen[0]) / 12))):
            s, d = rng.uniform(*self._seen), side * rng.uniform(walk.inner + 0.3, walk.outer - 0.2)
            self.place(people.person(rng, 0.05), s, d, rng.uniform(0, 6.3), 0.4)
        for _ in range(int(rng.poisson(street.style.people * 2.5))):
            s = rng.uniform(*self._seen)
            for k in range(int(rng.integers(1, 5))):
                self.place(people.bicycle(rng), s + 0.7 * k, back, np.pi / 2 + rng.normal(0, 0.2), 0.3)

    def _rare(self) -> None:
        """At least a few of every rare class where the sensors come past."""
        rng, street = self._rng, self.street
        s0, s1 = self._seen
        for make, radius in RARE:
            often = (s1 - s0) / rng.uniform(60, 130) * (0.5 if radius > 3 else 1.0)
            for _ in range(int(often + rng.random())):
                for _ in range(30):
                    s, side = rng.uniform(s0, s1), int(rng.choice([-1, 1]))
                    strips = street.strips[side]
                    inner = strips[0].inner + (0.4 if radius < 1.5 else 1.4)
                    outer = min(
                        strips[0].inner + (3.2 if radius < 1.5 else 6.5), self._yard(side).outer - (0.5 if radius < 1.5 else 1.6)
                    )
                    d = rng.uniform(inner, max(inner + 0.1, outer))
                    if radius > 3 and not street.clear_of_junctions(s, side, radius):
                        continue
                    turn = (np.pi if side > 0 else 0.0) + rng.normal(0, 0.06 if radius > 2 else 0.5)
                    if self.place(make(rng), s, side * d, turn, radius * 0.9):
                        break

    def _works(self) -> None:
        """Road works: barriers and cones at the road's edge."""
        rng, street = self._rng, self.street
        for _ in range(max(1, round((self._seen[1] - self._seen[0]) / 90))):
            s, side = rng.uniform(*self._seen), int(rng.choice([-1, 1]))
            length = rng.uniform(5, 16)
            d = street.edge - rng.uniform(-1.8, 0.3)
            self.place(furniture.barrier(rng, length), s, side * d)
            for k in range(int(rng.integers(2, 7))):
                self.place(furniture.cone(rng), s - length / 2 - 1.5 * k - 1, side * (d + 0.25 * k), 0.0, 0.25)
