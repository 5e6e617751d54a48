# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Boxes around objects, as nuScenes annotates them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from occle_train.streets.shapes.classes import CLASSES
from occle_train.streets.shapes.mesh import Mesh


@dataclass(frozen=True, eq=False)
class Box:
    """An oriented box.

    Args:
        instance: the object's number in the drive.
        category, attribute: nuScenes names ("" for no attribute).
        centre: (3,) metres, world; size: (3,) width, length, height, metres; rotation: (3, 3) world from box.
    """

    instance: int
    category: str
    attribute: str
    centre: NDArray[np.float64]
    size: NDArray[np.float64]
    rotation: NDArray[np.float64]


def box_of(mesh: Mesh, T: NDArray[np.float64], instance: int, moving: bool) -> Box | None:
    """The box of a shape given in its own frame and standing at T (4, 4); None for classes that nuScenes does not annotate."""
    kind = CLASSES[int(mesh.cls[0])]
    if not kind.category:
        return None
    low, high = mesh.tri.reshape(-1, 3).min(0).astype(np.float64), mesh.tri.reshape(-1, 3).max(0).astype(np.float64)
    length, width, height = high - low
    centre = T[:3, :3] @ ((low + high) / 2) + T[:3, 3]
    return Box(instance, kind.category, _attribute(kind.name, moving), centre, np.array([width, length, height]), T[:3, :3])


def quaternion(R: NDArray[np.float64]) -> list[float]:
    """Unit quaternion w, x, y, z (w >= 0) of a rotation matrix (3, 3)."""
    m = np.array([
        [R[0, 0] + R[1, 1] + R[2, 2], R[2, 1] - R[1, 2], R[0, 2] - R[2, 0], R[1, 0] - R[0, 1]],
        [R[2, 1] - R[1, 2], R[0, 0] - R[1, 1] - R[2, 2], R[0, 1] + R[1, 0], R[0, 2] + R[2, 0]],
        [R[0, 2] - R[2, 0], R[0, 1] + R[1, 0], R[1, 1] - R[0, 0] - R[2, 2], R[1, 2] + R[2, 1]],
        [R[1, 0] - R[0, 1], R[0, 2] + R[2, 0], R[1, 2] + R[2, 1], R[2, 2] - R[0, 0] - R[1, 1]],
    ])  # fmt: skip
    # The quaternion is the eigenvector of the largest eigenvalue of this symmetric matrix.
    q = np.linalg.eigh(m)[1][:, -1]
    return [float(v) for v in (q if q[0] >= 0 else -q)]


def _attribute(name: str, moving: bool) -> str:
    if name == "person":
        return "pedestrian.moving" if moving else "pedestrian.standing"
    if name in ("bicycle", "motorcycle"):
        return "cycle.without_rider"
    if name in ("bicyclist", "motorcyclist"):
        return "cycle.with_rider"
    if name in ("car", "truck", "bus", "trailer", "construction_vehicle", "other_vehicle"):
        return "vehicle.moving" if moving else "vehicle.parked"
    return ""
