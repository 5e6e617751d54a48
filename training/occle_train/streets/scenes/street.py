# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""A street with its traffic, and the vehicle's way along it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from occle_train.streets.scenery.layout import Street
from occle_train.streets.scenery.traffic import traffic
from occle_train.streets.scenery.world import World
from occle_train.streets.sensors.light import make_light
from occle_train.streets.sensors.rigs import Matrix, SimulatedRig
from occle_train.streets.shapes.texture import Noise

LOOKOUT_STEP = 5.0
AHEAD, BEHIND = 50.0, 10.0
"""Metres of the street before and after the present frame from which a cell may be seen to count as known."""


class StreetScene:
    """A Scene; see there.

    Args:
        rng: source of every choice.
        rig: the sensors.
        camera: whose response the cameras have, "kitti" or "nuscenes".
        times: (F,) of the frames, seconds.
    """

    casts_shadow: NDArray[np.bool_] | None = None

    def __init__(self, rng: np.random.Generator, rig: SimulatedRig, camera: str, times: NDArray[np.float64]) -> None:
        self.light = make_light(rng, camera)
        self.noise = Noise(rng)
        self._period = rig.period
        speed: NDArray[np.float64] = rng.uniform(*rig.speed) * (
            1 + 0.15 * np.sin(times * rng.uniform(0.1, 0.4) + rng.uniform(0, 6))
        )
        self._s: NDArray[np.float64] = np.concatenate([[0.0], np.cumsum(speed[:-1] * rig.period)])
        back = 55.0 if rig.grid.origin[0] < -BEHIND else 25.0
        end = float(self._s[-1])
        self.travelled = end
        self.street = Street(rng, -back - 35, end + 130)
        self._d: NDArray[np.float64] = (
            -(self.street.median / 2 + self.street.lane * 0.5) + rng.normal(0, 0.15) + 0.2 * np.sin(self._s / 13)
        )
        world = World(rng, self.street, (-back + 8, end + 52), float(self._d.mean()))
        self.mesh, self.boxes = world.mesh, world.boxes
        way = np.stack([self._s, self._d], 1).astype(np.float64)
        self._movers = traffic(rng, self.street, way, times, np.array(world.obstacles), world.instances + 1)
        self.mover_meshes = [mover.mesh for mover in self._movers]
        self.title = f"{self.street.style.name} street"

    def vehicle_pose(self, i: int, later: float = 0.0) -> Matrix:
        """See Scene."""
        here = np.array([self._s[i], self._d[i]])
        if later:
            last = len(self._s) - 1
            neighbour = i + 1 if i < last else i - 1
            there = np.array([self._s[neighbour], self._d[neighbour]]) if last else here
            here = here + (there - here) / ((neighbour - i) * self._period) * later
        return self._pose(*here.tolist())

    def mover_poses(self, time: float) -> list[Matrix]:
        """See Scene."""
        return [mover.pose(self.street, time) for mover in self._movers]

    def lookouts(self, i: int) -> list[int]:
        """See Scene; the farthest first."""
        s = float(self._s[i])
        first, last = int(np.ceil((s - BEHIND) / LOOKOUT_STEP)), int(np.floor((s + AHEAD) / LOOKOUT_STEP))
        return sorted(range(first, last + 1), key=lambda k: -k)

    def lookout_pose(self, number: int) -> Matrix:
        """See Scene."""
        return self._pose(number * LOOKOUT_STEP, float(self._d.mean()))

    def _pose(self, s: float, d: float) -> Matrix:
        """T_world_base (4, 4) of a vehicle at street coordinates (s, d), resting on its wheels."""
        ahead = 0.7
        xy, _ = self.street.at([s - ahead, s + ahead, s], d)
        z = self.street.base([s - ahead * 2, s + ahead * 2, s, s], [d, d, d - 0.8, d + 0.8])
        yaw = float(np.arctan2(*(xy[1] - xy[0])[::-1]))
        forward = np.array([np.cos(yaw), np.sin(yaw), (z[1] - z[0]) / (4 * ahead)])
        left = np.array([-np.sin(yaw), np.cos(yaw), (z[3] - z[2]) / 1.6])
        forward /= np.linalg.norm(forward)
        up = np.cross(forward, left)
        up /= np.linalg.norm(up)
        T = np.eye(4)
        T[:3, 0], T[:3, 1], T[:3, 2] = forward, np.cross(up, forward), up
        T[:3, 3] = (*xy[2], float((z[2] + z[3]) / 2))
        return T
