# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Ray casting: one Embree scene for what stands still, a small one per frame for what moves."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from occle_train.streets.sensors.embree import build_scene
from occle_train.streets.shapes.mesh import Mesh, join

FAR = np.float32(1e6)
"""Distance of a ray that hits nothing, metres."""


class RayCaster:
    """Nearest hits and shadow tests on a mesh.

    Args:
        mesh: the triangles; may be empty.
        casts_shadow: (N,) those that `blocked` knows; None: all.
    """

    def __init__(self, mesh: Mesh, casts_shadow: NDArray[np.bool_] | None = None) -> None:
        self.mesh = mesh
        self._scene = build_scene(mesh.tri) if len(mesh) else None
        self._shading = self._scene if casts_shadow is None else build_scene(mesh.tri[casts_shadow])
        edges = mesh.tri[:, 1:] - mesh.tri[:, :1]
        normals = np.cross(edges[:, 0], edges[:, 1])
        self.normals = (normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12)).astype(np.float32)

    def cast(self, origins: NDArray[np.float32], directions: NDArray[np.float32]) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """Nearest hit per ray: triangle (N,) int32, -1 for none, and distance (N,) float32 in units of the direction."""
        n = len(directions)
        if self._scene is None or n == 0:
            return np.full(n, -1, np.int32), np.full(n, FAR, np.float32)
        tri, distance = self._scene.nearest(origins, directions)
        return tri, np.where(tri >= 0, distance, FAR).astype(np.float32)

    def blocked(self, origins: NDArray[np.float32], directions: NDArray[np.float32]) -> NDArray[np.bool_]:
        """Mask (N,) of rays along which anything lies."""
        if self._shading is None or not len(directions):
            return np.zeros(len(directions), np.bool_)
        return self._shading.blocked(origins, directions)


class SceneSnapshot:
    """The static and the moving meshes of one instant as one: triangle numbers from `static_count` on belong to movers."""

    def __init__(self, static: RayCaster, movers: list[Mesh]) -> None:
        self.static = static
        self.moving = RayCaster(join(movers))
        self.static_count = len(static.mesh)
        both = (static.mesh, self.moving.mesh)
        self.cls = np.concatenate([m.cls for m in both])
        self.mat = np.concatenate([m.mat for m in both])
        self.rgb = np.concatenate([m.rgb for m in both])
        self.par = np.concatenate([m.par for m in both])
        self.inst = np.concatenate([m.inst for m in both])
        self.normals = np.concatenate([static.normals, self.moving.normals])

    def cast(self, origin: NDArray[np.floating], directions: NDArray[np.float32]) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """Nearest hits along directions (N, 3): triangle (N,), -1 for none, and distance (N,).

        Args:
            origin: (3,) of all rays, or (N, 3).
            directions: unit vectors.
        """
        origins = np.broadcast_to(np.asarray(origin, np.float32), directions.shape)
        tri, distance = self.static.cast(origins, directions)
        tri_moving, distance_moving = self.moving.cast(origins, directions)
        nearer = distance_moving < distance
        return np.where(nearer, tri_moving + self.static_count, tri).astype(np.int32), np.minimum(distance, distance_moving)

    def lit(self, points: NDArray[np.float32], sun: NDArray[np.float32]) -> NDArray[np.bool_]:
        """Mask (N,) of points (N, 3) that the sun in direction `sun` (3,) reaches."""
        directions = np.broadcast_to(sun, points.shape)
        dark = self.static.blocked(points, directions)
        rest = ~dark
        dark[rest] = self.moving.blocked(points[rest], directions[rest])
        return ~dark
