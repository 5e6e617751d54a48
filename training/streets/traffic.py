"""What moves: vehicles in their lanes, cyclists, and people who walk along or across the street."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from training.streets import people, vehicles
from training.streets.layout import Street
from training.streets.mesh import Mesh, pose


@dataclass(frozen=True, eq=False)
class Mover:
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
    rng: np.random.Generator, street: Street, ego: NDArray[np.float64], times: NDArray[np.float64], first: int
) -> list[Mover]:
    """Movers that keep clear of the ego vehicle.

    Args:
        ego: (F, 2) street coordinates s, d of the ego vehicle at `times` (F,) seconds.
        first: instance number of the first mover.
    """
    s0, s1 = float(ego[0, 0]) - 35, float(ego[-1, 0]) + 60
    wanted: list[tuple[Mesh, float, float, float, float, float]] = []
    busy = rng.uniform(0.3, 1.2)
    span = (s1 - s0) / 100
    ego_speed = float(ego[-1, 0] - ego[0, 0]) / max(float(times[-1] - times[0]), 0.1)
    makers = [vehicles.car, vehicles.truck, vehicles.bus, vehicles.construction_vehicle, vehicles.other_vehicle]
    reach = (2.4, 5.2, 6.2, 3.5, 2.2)
    for lane in range(street.lanes):
        for side in (-1, 1):
            d = side * (street.median / 2 + (lane + 0.5) * street.lane)
            for _ in range(int(rng.poisson(2.4 * busy * span)) + (1 if side > 0 else 0)):
                kind = int(rng.choice(5, p=[0.82, 0.07, 0.05, 0.02, 0.04]))
                # Oncoming traffic starts further away, so that it passes within the drive.
                duration = float(times[-1])
                speed = rng.uniform(4, 13) if side > 0 else ego_speed * rng.uniform(0.75, 1.15)
                s = rng.uniform(s0, s1 + (speed * duration if side > 0 else 0))
                wanted.append((makers[kind](rng), s, d + rng.normal(0, 0.12), -side * speed, 0.0, reach[kind]))
    for maker, speed, count, r in ((people.bicyclist, (2.5, 6.5), 2.2, 0.9), (people.motorcyclist, (5, 12), 1.3, 1.1)):
        for _ in range(int(rng.poisson(count * span)) + 1):
            side = int(rng.choice([-1, 1]))
            d = side * (street.edge - rng.uniform(0.4, 1.2))
            v = rng.uniform(*speed)
            wanted.append((maker(rng), rng.uniform(s0 + 20, s1), d, -side * v, 0.0, r))
    for _ in range(int(rng.poisson((2 + 9 * street.style.people) * span)) + 1):
        side = int(rng.choice([-1, 1]))
        strip = next((x for x in street.strips[side] if x.cls == "sidewalk"), street.strips[side][0])
        d = side * rng.uniform(strip.inner + 0.3, strip.outer - 0.2)
        if rng.random() < 0.15:
            start = rng.choice([-1, 1]) * (street.edge + rng.uniform(0, 3))
            wanted.append(
                (people.person(rng, 0.3), rng.uniform(s0 + 30, s1), start, 0.02, -np.sign(start) * rng.uniform(0.8, 1.6), 0.4)
            )
        else:
            wanted.append(
                (people.person(rng, 0.28), rng.uniform(s0 + 20, s1), d, rng.choice([-1, 1]) * rng.uniform(0.7, 1.8), 0.0, 0.4)
            )
    movers: list[Mover] = []
    for mesh, s, d, ds, dd, r in wanted:
        track = np.stack([s + ds * times, d + dd * times], 1)
        gap = np.abs(track - ego)
        if ((gap[:, 0] < r + 3.2) & (gap[:, 1] < 1.9)).any():
            continue
        # Same-lane movers never overlap: their order and spacing are checked over the whole drive.
        clash = False
        for other in movers:
            apart = np.abs(track - np.stack([other.s + other.ds * times, other.d + other.dd * times], 1))
            clash |= bool(
                ((apart[:, 0] < r + other.radius + 0.5) & (apart[:, 1] < (1.6 if max(r, other.radius) > 1.2 else 0.6))).any()
            )
        if not clash:
            movers.append(Mover(mesh.numbered((first + len(movers)) % 65536), s, d, ds, dd, r))
    return movers
