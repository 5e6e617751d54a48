# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""A hall or a yard with what moves there, and the robot's way round it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from occle_train.streets.scenes.scene import SceneKind
from occle_train.streets.sensors.light import lamp_light, make_light
from occle_train.streets.sensors.rigs import Matrix, SimulatedRig
from occle_train.streets.shapes.boxes import Box
from occle_train.streets.shapes.classes import ID
from occle_train.streets.shapes.mesh import join, pose, split_long
from occle_train.streets.shapes.texture import Noise
from occle_train.streets.sites.hall import hall
from occle_train.streets.sites.movers import walkers
from occle_train.streets.sites.yard import yard

SPEED = (1.0, 2.0)
"""Slowest and fastest robot, metres per second."""
LOOKOUT_STEP, REACH = 2.0, 12.0
"""Metres between the places on the robot's way from which a cell may be seen to count as known, and how far from the present one
they lie."""
LONGEST = 2.0
"""Longest edge of a triangle, metres: whether one comes near the grid is decided by its middle."""


class SiteScene:
    """A Scene; see there.

    Args:
        rng: source of every choice.
        kind: "hall" or "yard".
        rig: the sensors.
        times: (F,) of the frames, seconds.
    """

    def __init__(self, rng: np.random.Generator, kind: SceneKind, rig: SimulatedRig, times: NDArray[np.float64]) -> None:
        self.title: str = kind
        self.light = lamp_light(rng) if kind == "hall" else make_light(rng, "kitti")
        self.noise = Noise(rng)
        self.site = hall(rng) if kind == "hall" else yard(rng)
        self.boxes: list[Box] = []
        self._period = rig.period
        self._s = self.site.route.driven(rng.uniform(0, self.site.route.length), rng.uniform(*SPEED), times)
        self.travelled = float(self._s[-1] - self._s[0])
        self.mesh = split_long(join(self.site.parts), LONGEST)
        # Lamps hang below the ceiling; their light is one direction, for which the ceiling must not be in the way.
        self.casts_shadow: NDArray[np.bool_] | None = self.mesh.cls != ID["ceiling"]
        robot, _ = self.site.route.at(self._s)
        self.walkers = walkers(rng, self.site, robot, times, int(rng.integers(1, 4)), int(rng.integers(4, 9)))
        self.mover_meshes = [walker.mesh for walker in self.walkers]

    def vehicle_pose(self, i: int, later: float = 0.0) -> Matrix:
        """See Scene."""
        s = float(self._s[i])
        if later and len(self._s) > 1:
            neighbour = i + 1 if i + 1 < len(self._s) else i - 1
            s += float(self._s[neighbour] - self._s[i]) / ((neighbour - i) * self._period) * later
        return self._pose(s)

    def mover_poses(self, time: float) -> list[Matrix]:
        """See Scene."""
        return [walker.pose(time) for walker in self.walkers]

    def lookouts(self, i: int) -> list[int]:
        """See Scene; the present place first."""
        count = max(1, int(self.site.route.length / LOOKOUT_STEP))
        here, reach = round(float(self._s[i]) / LOOKOUT_STEP), int(REACH / LOOKOUT_STEP)
        return list(dict.fromkeys((here + k) % count for k in sorted(range(-reach, reach + 1), key=abs)))

    def lookout_pose(self, number: int) -> Matrix:
        """See Scene."""
        return self._pose(number * LOOKOUT_STEP)

    def _pose(self, s: float) -> Matrix:
        xy, heading = self.site.route.at(s)
        return pose(float(xy[0]), float(xy[1]), 0.0, float(heading))
