# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""People who walk and forklifts that drive to and fro in the lanes of a site."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from occle_train.streets.shapes import machinery, people
from occle_train.streets.shapes.mesh import Mesh, pose
from occle_train.streets.sites.site import Rectangle, Site, overlap, within

ROBOT = 0.5
"""Radius of the robot, metres."""
TRIES = 40


@dataclass(frozen=True, eq=False)
class Walker:
    """A shape that moves evenly between two points, to and fro.

    Args:
        mesh: in its own frame, x forward, with its instance number.
        start, end: (2,) metres.
        speed: metres per second.
        began: metres of its way at time 0.
        turns: whether it turns round at the ends, or goes back in reverse.
        radius: of a circle around all of it, metres.
    """

    mesh: Mesh
    start: NDArray[np.float64]
    end: NDArray[np.float64]
    speed: float
    began: float
    turns: bool
    radius: float

    def track(self, times: NDArray[np.float64]) -> NDArray[np.float64]:
        """(F, 2) positions at `times` (F,) seconds."""
        way, _ = self._way(times)
        return self.start + way[:, None] * (self.end - self.start) / self.length

    @property
    def length(self) -> float:
        """Of the line, metres."""
        return float(np.linalg.norm(self.end - self.start))

    def pose(self, time: float) -> NDArray[np.float64]:
        """T_world_mover (4, 4) at `time` seconds."""
        way, back = self._way(np.array([time]))
        x, y = self.start + way[0] * (self.end - self.start) / self.length
        yaw = float(np.arctan2(*(self.end - self.start)[::-1])) + (np.pi if self.turns and back[0] else 0.0)
        return pose(float(x), float(y), 0.0, yaw)

    def swept(self) -> Rectangle:
        """Rectangle that it covers on its way, which is parallel to an axis."""
        tri = self.mesh.tri.reshape(-1, 3)
        ahead, aside = float(np.abs(tri[:, 0]).max()), float(np.abs(tri[:, 1]).max())
        half = (ahead, aside) if abs(self.end[0] - self.start[0]) > abs(self.end[1] - self.start[1]) else (aside, ahead)
        low, high = np.minimum(self.start, self.end) - half, np.maximum(self.start, self.end) + half
        return float(low[0]), float(high[0]), float(low[1]), float(high[1])

    def _way(self, times: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """Metres from the start, and whether it is on its way back."""
        way = (self.began + self.speed * times) % (2 * self.length)
        back = way > self.length
        return np.where(back, 2 * self.length - way, way), back


def walkers(
    rng: np.random.Generator, site: Site, robot: NDArray[np.float64], times: NDArray[np.float64], forklifts: int, persons: int
) -> list[Walker]:
    """Movers that touch neither what stands, nor the robot, nor each other, at any of the times.

    Args:
        rng: source of every choice.
        site: furnished.
        robot: (F, 2) the robot's positions at `times`.
        times: (F,) seconds.
        forklifts, persons: how many are wanted; those that find no way are left out.
    """
    found: list[Walker] = []
    for make, turns, slow, fast, count in (
        (machinery.forklift, False, 0.8, 2.0, forklifts),
        (lambda r: people.person(r, 0.28), True, 0.6, 1.5, persons),
    ):
        for _ in range(count):
            mesh = make(rng)
            for _ in range(TRIES):
                walker = _walker(rng, mesh, site, turns, rng.uniform(slow, fast))
                if walker is not None and _is_free(walker, site, robot, found, times):
                    found.append(replace(walker, mesh=mesh.numbered(site.instances + 1 + len(found))))
                    break
    return found


def _walker(rng: np.random.Generator, mesh: Mesh, site: Site, turns: bool, speed: float) -> Walker | None:
    """A way along one of the lanes; None where the lane is too short."""
    x0, x1, y0, y1 = site.lanes[int(rng.integers(len(site.lanes)))]
    along_x = x1 - x0 > y1 - y0
    low, high = (x0, x1) if along_x else (y0, y1)
    length = rng.uniform(3.0, 12.0)
    if high - low < length:
        return None
    begin = rng.uniform(low, high - length)
    aside = rng.uniform(*((y0, y1) if along_x else (x0, x1)))
    ends = [np.array([at, aside] if along_x else [aside, at]) for at in (begin, begin + length)]
    start, end = ends if rng.random() < 0.5 else ends[::-1]
    radius = float(np.hypot(*mesh.tri.reshape(-1, 3)[:, :2].T).max())
    return Walker(mesh, start, end, speed, rng.uniform(0, 2 * length), turns, radius)


def _is_free(walker: Walker, site: Site, robot: NDArray[np.float64], others: list[Walker], times: NDArray[np.float64]) -> bool:
    swept = walker.swept()
    if not within(swept, site.inside) or any(overlap(swept, standing, 0.05) for standing in site.footprints):
        return False
    track = walker.track(times)
    if (np.linalg.norm(track - robot, axis=1) < walker.radius + ROBOT).any():
        return False
    return all((np.linalg.norm(track - o.track(times), axis=1) > walker.radius + o.radius).all() for o in others)
