# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""A flat place that fills up: things stand on it, clear of each other, of its walls and of the robot's route."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from occle_train.streets.shapes.mesh import Material, Mesh, Triangles, box, pose, quads, surface
from occle_train.streets.sites.route import Route

Rectangle = tuple[float, float, float, float]
"""x0, x1, y0, y1, metres."""
Maker = Callable[[np.random.Generator], Mesh]

CLEAR = 0.6
"""Metres that stay free of things on either side of the robot's route."""
OVERHEAD = 2.2
"""Height above which nothing is in anybody's way, metres."""
_YELLOW = np.array([0.62, 0.47, 0.04])


class Site:
    """A place on the ground z = 0.

    Args:
        inside: the rectangle between its walls.
        route: of the robot.
        lanes: rectangles in which people and forklifts move.

    `parts` are its meshes, `footprints` the rectangles that things below OVERHEAD cover, `instances` how many things there are.
    """

    def __init__(self, inside: Rectangle, route: Route, lanes: Sequence[Rectangle]) -> None:
        self.inside, self.route, self.lanes = inside, route, list(lanes)
        self.parts: list[Mesh] = []
        self.footprints: list[Rectangle] = []
        self.instances = 0

    def place(self, mesh: Mesh, x: float, y: float, turn: float = 0.0, gap: float = 0.1) -> bool:
        """Stand a shape at (x, y), turned by `turn` radians.

        Returns:
            False where it would reach through a wall, come within `gap` of another thing, or stand in the robot's way.
        """
        moved = mesh.moved(pose(x, y, 0.0, turn))
        covered = footprint(moved)
        if not within(covered, self.inside) or any(overlap(covered, other, gap) for other in self.footprints):
            return False
        if self.route.distance(*covered) < CLEAR:
            return False
        self.instances += 1
        self.footprints.append(covered)
        self.parts.append(moved.numbered(self.instances))
        return True

    def scatter(self, rng: np.random.Generator, make: Maker, count: int, region: Rectangle, turns: Sequence[float] = (0.0,)) -> int:
        """Place up to `count` shapes in a region, each after at most twenty tries, with one of the turns (radians); how many."""
        placed = 0
        for _ in range(count):
            mesh = make(rng)
            for _ in range(20):
                x, y = rng.uniform(region[0], region[1]), rng.uniform(region[2], region[3])
                if self.place(mesh, x, y, float(rng.choice(turns)) + rng.normal(0, 0.02)):
                    placed += 1
                    break
        return placed

    def marking(self, x0: float, x1: float, y0: float, y1: float) -> None:
        """Paint a yellow rectangle on the floor."""
        z = 0.004
        tri = quads((x0, y0, z), (x1, y0, z), (x1, y1, z), (x0, y1, z))
        self.parts.append(surface(tri, "floor", _YELLOW, Material.MARKING))


def footprint(mesh: Mesh) -> Rectangle:
    """What a mesh covers of the ground below OVERHEAD."""
    low = mesh.tri[mesh.tri[:, :, 2].min(1) < OVERHEAD].reshape(-1, 3)
    (x0, y0), (x1, y1) = low[:, :2].min(0).tolist(), low[:, :2].max(0).tolist()
    return x0, x1, y0, y1


def within(one: Rectangle, other: Rectangle) -> bool:
    """Whether a rectangle lies inside another."""
    return one[0] >= other[0] and one[1] <= other[1] and one[2] >= other[2] and one[3] <= other[3]


def overlap(one: Rectangle, other: Rectangle, gap: float = 0.0) -> bool:
    """Whether two rectangles come closer than `gap` along both axes."""
    return one[0] < other[1] + gap and other[0] < one[1] + gap and one[2] < other[3] + gap and other[2] < one[3] + gap


def ground(inside: Rectangle, margin: float, rng: np.random.Generator, mat: Material, brightness: float) -> Mesh:
    """The floor, and `margin` metres of it outside the walls."""
    x0, x1, y0, y1 = inside[0] - margin, inside[1] + margin, inside[2] - margin, inside[3] + margin
    tri = quads((x0, y0, 0), (x1, y0, 0), (x1, y1, 0), (x0, y1, 0))
    return surface(tri, "floor", brightness * rng.uniform(0.8, 1.2) * rng.uniform(0.95, 1.05, 3), mat)


def wall(
    inside: Rectangle, side: str, high: float, thick: float, openings: Sequence[tuple[float, float]], opening_high: float
) -> Triangles:
    """Pieces of one of the four walls, outside the rectangle: between the openings, and above them.

    Args:
        inside: what the walls stand around.
        side: "west" (low x), "east", "south" (low y) or "north".
        high: of the wall, metres; opening_high: of the openings.
        thick: metres.
        openings: (low, high) along the wall, ascending.
    """
    x0, x1, y0, y1 = inside
    low, up = (y0, y1) if side in ("west", "east") else (x0 - thick, x1 + thick)
    edges = [low, *(value for gap in openings for value in gap), up]
    spans = [(a, b, 0.0, high) for a, b in zip(edges[::2], edges[1::2])]
    spans += [(a, b, opening_high, high) for a, b in openings if opening_high < high]
    across = {"west": (x0 - thick, x0), "east": (x1, x1 + thick), "south": (y0 - thick, y0), "north": (y1, y1 + thick)}[side]
    along_y = side in ("west", "east")
    boxes = [box(*across, a, b, z0, z1) if along_y else box(a, b, *across, z0, z1) for a, b, z0, z1 in spans if b > a]
    return np.concatenate(boxes)
