# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Moving actors: vehicles in their lanes, cyclists, and people who walk along or across the street."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from occle_train.streets.scenery.layout import Street
from occle_train.streets.shapes import people, vehicles
from occle_train.streets.shapes.mesh import Mesh, pose

Track = NDArray[np.float64]
"""(F, 2) street coordinates over time."""


@dataclass(frozen=True, eq=False)
class Actor:
    """A shape that moves evenly in street coordinates.

    Args:
        mesh: in its own frame, x forward, with its instance number.
        s, d: street coordinates at time 0, metres.
        ds, dd: speed in both, metres per second.
        radius: half its length, metres.
    """

    mesh: Mesh
    s: float
    d: float
    ds: float
    dd: float
    radius: float

    def track(self, times: NDArray[np.float64]) -> Track:
        """(F, 2) street coordinates s, d at `times` (F,) seconds."""
        return np.stack([self.s + self.ds * times, self.d + self.dd * times], 1)

    def pose(self, street: Street, time: float) -> NDArray[np.float64]:
        """T_world_mover (4, 4) at `time` seconds, wheels on the ground."""
        s, d = self.s + self.ds * time, self.d + self.dd * time
        xy, heading = street.at(s, d)
        yaw = float(heading) + np.arctan2(self.dd, self.ds)
        T = pose(float(xy[0]), float(xy[1]), float(street.ground(s, d)), yaw)
        if self.radius > 1.2:
            ahead = np.sign(self.ds) * 1.3
            rise = float(street.base(s + ahead, d) - street.base(s - ahead, d))
            pitch = np.eye(4)
            c, k = np.cos(rise / 2.6), np.sin(rise / 2.6)
            pitch[0, 0], pitch[0, 2], pitch[2, 0], pitch[2, 2] = c, -k, k, c
            T = T @ pitch
        return T


def traffic(
    rng: np.random.Generator, street: Street, ego: Track, times: NDArray[np.float64], obstacles: NDArray[np.float64], first: int
) -> list[Actor]:
    """Movers that run into neither the ego vehicle, nor each other, nor anything that stands.

    Args:
        ego: (F, 2) street coordinates s, d of the ego vehicle at `times` (F,) seconds.
        obstacles: (M, 4) rectangles s0, s1, d0, d1 in street coordinates.
        first: instance number of the first mover.
    """
    stretch = (float(ego[0, 0]) - 35, float(ego[-1, 0]) + 60)
    duration = max(float(times[-1]), 0.1)
    wanted = [
        *_vehicles(rng, street, stretch, duration, float(ego[-1, 0] - ego[0, 0]) / duration),
        *_cyclists(rng, street, stretch),
        *_walkers(rng, street, stretch),
    ]
    movers: list[Actor] = []
    for mover in wanted:
        track = mover.track(times)
        gap = np.abs(track - ego)
        if ((gap[:, 0] < mover.radius + 3.2) & (gap[:, 1] < 1.9)).any() or _runs_into(mover, track, obstacles):
            continue
        if not any(_meet(mover, other, times) for other in movers):
            movers.append(replace(mover, mesh=mover.mesh.numbered((first + len(movers)) % 65536)))
    return movers


def _vehicles(
    rng: np.random.Generator, street: Street, stretch: tuple[float, float], duration: float, ego_speed: float
) -> list[Actor]:
    busy, span = rng.uniform(0.3, 1.2), (stretch[1] - stretch[0]) / 100
    makers = (vehicles.car, vehicles.truck, vehicles.bus, vehicles.construction_vehicle, vehicles.other_vehicle)
    reach = (2.4, 5.2, 6.2, 3.5, 2.2)
    found = []
    for lane in range(street.lanes):
        for side in (-1, 1):
            d = side * (street.median / 2 + (lane + 0.5) * street.lane)
            for _ in range(int(rng.poisson(2.4 * busy * span)) + (1 if side > 0 else 0)):
                kind = int(rng.choice(5, p=[0.82, 0.07, 0.05, 0.02, 0.04]))
                speed = rng.uniform(4, 13) if side > 0 else ego_speed * rng.uniform(0.75, 1.15)
                # Oncoming traffic starts further away, so that it passes within the drive.
                s = rng.uniform(stretch[0], stretch[1] + (speed * duration if side > 0 else 0))
                found.append(Actor(makers[kind](rng), s, d + rng.normal(0, 0.12), -side * speed, 0.0, reach[kind]))
    return found


def _cyclists(rng: np.random.Generator, street: Street, stretch: tuple[float, float]) -> list[Actor]:
    span, found = (stretch[1] - stretch[0]) / 100, []
    kinds = ((people.bicyclist, 2.5, 6.5, 2.2, 0.9), (people.motorcyclist, 5.0, 12.0, 1.3, 1.1))
    for maker, slow, fast, often, radius in kinds:
        for _ in range(int(rng.poisson(often * span)) + 1):
            side = int(rng.choice([-1, 1]))
            d = side * (street.edge - rng.uniform(0.4, 1.2))
            s = rng.uniform(stretch[0] + 20, stretch[1])
            found.append(Actor(maker(rng), s, d, -side * rng.uniform(slow, fast), 0.0, radius))
    return found


def _walkers(rng: np.random.Generator, street: Street, stretch: tuple[float, float]) -> list[Actor]:
    span, found = (stretch[1] - stretch[0]) / 100, []
    for _ in range(int(rng.poisson((2 + 9 * street.style.people) * span)) + 1):
        side = int(rng.choice([-1, 1]))
        strip = next((x for x in street.strips[side] if x.cls == "sidewalk"), street.strips[side][0])
        s, pace = rng.uniform(stretch[0] + 20, stretch[1]), rng.uniform(0.7, 1.8)
        if rng.random() < 0.15:
            d = side * (street.edge + rng.uniform(0, 3))
            found.append(Actor(people.person(rng, 0.3), s, d, 0.02, -side * pace, 0.4))
        else:
            d = side * rng.uniform(strip.inner + 0.3, strip.outer - 0.2)
            found.append(Actor(people.person(rng, 0.28), s, d, rng.choice([-1, 1]) * pace, 0.0, 0.4))
    return found


def _runs_into(mover: Actor, track: Track, obstacles: NDArray[np.float64]) -> bool:
    """True if anything stands in the actor's way."""
    half = float(np.abs(mover.mesh.tri[:, :, 1]).max())
    s, d = track[:, :1], track[:, 1:]
    along = (s + mover.radius > obstacles[:, 0]) & (s - mover.radius < obstacles[:, 1])
    return bool((along & (d + half > obstacles[:, 2]) & (d - half < obstacles[:, 3])).any())


def _meet(one: Actor, other: Actor, times: NDArray[np.float64]) -> bool:
    apart = np.abs(one.track(times) - other.track(times))
    wide = 1.6 if max(one.radius, other.radius) > 1.2 else 0.6
    return bool(((apart[:, 0] < one.radius + other.radius + 0.5) & (apart[:, 1] < wide)).any())
