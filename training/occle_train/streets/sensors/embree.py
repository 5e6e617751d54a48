# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Embree's ray caster through the bindings that are installed: embreex (amd64) or libigl (arm64, where embreex has no wheel).

Both give the same hits up to rounding. libigl takes one ray a call and is slower.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray


class Scene(Protocol):
    """Triangles (N, 3, 3) float32 that rays are cast at."""

    def nearest(
        self, origins: NDArray[np.float32], directions: NDArray[np.float32]
    ) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """Nearest hit per ray (M, 3): triangle (M,), -1 for none, and its distance (M,) in units of the direction."""

    def blocked(self, origins: NDArray[np.float32], directions: NDArray[np.float32]) -> NDArray[np.bool_]:
        """Mask (M,) of rays along which anything lies."""


def build_scene(triangles: NDArray[np.float32]) -> Scene:
    """Ray casting scene of triangles (N, 3, 3).

    Raises:
        ModuleNotFoundError: neither binding is installed.
    """
    for scene in (EmbreexScene, IglScene):
        try:
            return scene(triangles)
        except ModuleNotFoundError:
            continue
    raise ModuleNotFoundError("the simulator needs a ray caster: pip install embreex (amd64) or libigl (arm64)", name="embreex")


class EmbreexScene:
    """A scene of embreex, which casts many rays in one call."""

    def __init__(self, triangles: NDArray[np.float32]) -> None:
        from embreex.mesh_construction import TriangleMesh
        from embreex.rtcore_scene import EmbreeScene

        self._scene = EmbreeScene()
        vertices = np.ascontiguousarray(triangles.reshape(-1, 3))
        TriangleMesh(self._scene, vertices, np.arange(len(vertices), dtype=np.int32).reshape(-1, 3))

    def nearest(
        self, origins: NDArray[np.float32], directions: NDArray[np.float32]
    ) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """See Scene."""
        out = self._scene.run(np.ascontiguousarray(origins), np.ascontiguousarray(directions), query="INTERSECT", output=True)
        return out["primID"].astype(np.int32), out["tfar"]

    def blocked(self, origins: NDArray[np.float32], directions: NDArray[np.float32]) -> NDArray[np.bool_]:
        """See Scene."""
        first = self._scene.run(np.ascontiguousarray(origins), np.ascontiguousarray(directions), query="OCCLUDED")
        blocked: NDArray[np.bool_] = first >= 0
        return blocked


class IglScene:
    """A scene of libigl's Embree."""

    def __init__(self, triangles: NDArray[np.float32]) -> None:
        from igl.embree import EmbreeIntersector

        self._scene = EmbreeIntersector()
        vertices = np.asfortranarray(triangles.reshape(-1, 3))
        self._scene.init(vertices, np.asfortranarray(np.arange(len(vertices), dtype=np.int32).reshape(-1, 3)), True)

    def nearest(
        self, origins: NDArray[np.float32], directions: NDArray[np.float32]
    ) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """See Scene."""
        cast = self._scene.intersectRay_first
        hits = [cast(origin, direction)[:2] for origin, direction in zip(origins, directions)]
        found = np.array(hits, np.float64).reshape(-1, 2)
        tri = found[:, 0].astype(np.int32)
        return tri, np.where(tri >= 0, found[:, 1], np.inf).astype(np.float32)  # what it says of a miss is undefined

    def blocked(self, origins: NDArray[np.float32], directions: NDArray[np.float32]) -> NDArray[np.bool_]:
        """See Scene."""
        return self.nearest(origins, directions)[0] >= 0
