# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""What a drive needs of the place it passes through."""

from __future__ import annotations

from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from occle_train.streets.sensors.light import Lighting
from occle_train.streets.sensors.rigs import Matrix
from occle_train.streets.shapes.boxes import Box
from occle_train.streets.shapes.mesh import Mesh
from occle_train.streets.shapes.texture import Noise

SceneKind = Literal["street", "hall", "yard"]


class Scene(Protocol):
    """A place, what moves in it, and the way of the vehicle through it; everything is fixed when it is made.

    Args:
        title: in words.
        light, noise: illumination, and the surfaces' texture.
        mesh: what stands still.
        casts_shadow: (N,) triangles of `mesh` that shade others; None: all of them.
        boxes: of annotated things that stand still.
        mover_meshes: what moves, each in its own frame and with its instance number.
        travelled: the vehicle's way from the first frame to the last, metres.
    """

    title: str
    light: Lighting
    noise: Noise
    mesh: Mesh
    casts_shadow: NDArray[np.bool_] | None
    boxes: list[Box]
    mover_meshes: list[Mesh]
    travelled: float

    def vehicle_pose(self, i: int, later: float = 0.0) -> Matrix:
        """T_world_base (4, 4) of the vehicle `later` seconds after frame i, at that frame's speed."""

    def mover_poses(self, time: float) -> list[Matrix]:
        """T_world_mover (4, 4) of every mover at `time` seconds."""

    def lookouts(self, i: int) -> list[int]:
        """Numbers of the places on the vehicle's way from which frame i's surroundings are seen, the most useful first."""

    def lookout_pose(self, number: int) -> Matrix:
        """T_world_base (4, 4) of the vehicle at such a place."""
