# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""The ground below a LiDAR: the plane that carries many points and has almost none below."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

TRIPLES, PLANES, THICKNESS, BELOW = 20_000, 400, 0.1, 0.04
"""Threes of points drawn; planes through them tried; metres from a plane that its points lie; share of the points that may lie
below the ground."""
LEAST_SHARE = 0.08
LEVEL = 15.0
"""Degrees off level within which the ground is sought first: in a room the ceiling and the walls may carry more points. A plane
beyond is the ground of a sensor that is mounted askew, or no ground."""


@dataclass(frozen=True, eq=False)
class GroundPlane:
    """A level plane as a sensor sees it.

    Args:
        normal: (3,) unit vector up, in the sensor's frame.
        height: of the sensor above it, metres.
        share: of the points that lie on it.
    """

    normal: NDArray[np.float64]
    height: float
    share: float

    def levelled(self) -> NDArray[np.float64]:
        """(4, 4) pose of the sensor in a frame on the ground below it, z up; the sensor's x axis keeps its heading."""
        z = self.normal
        x = np.array([1.0, 0, 0]) - z[0] * z
        x = x if np.linalg.norm(x) > 0.1 else np.array([0, 0, 1.0]) - z[2] * z
        x /= np.linalg.norm(x)
        T = np.eye(4)
        T[:3, :3] = np.stack([x, np.cross(z, x), z])
        T[2, 3] = self.height
        return T

    def tilt(self, up: NDArray[np.float64]) -> float:
        """Degrees between the plane's normal and another direction (3,)."""
        return float(np.degrees(np.arccos(np.clip(self.normal @ up, -1, 1))))


def find_ground(points: NDArray[np.floating], seed: int = 0) -> GroundPlane | None:
    """The ground among points (N, 3 or more), metres, of one or several scans; None where no plane is one.

    Random sampling (Fischler and Bolles 1981), then a least-squares fit. Level planes come first (z up), others where none is one.
    """
    xyz = np.asarray(points[:, :3], np.float64)
    distance = np.linalg.norm(xyz, axis=1)
    xyz = xyz[np.isfinite(distance) & (distance > 1.0) & (distance < 20)]
    if len(xyz) < 200:
        return None
    rng = np.random.default_rng(seed)
    xyz = xyz[rng.permutation(len(xyz))[:8000]]
    planes = _through(xyz[rng.integers(0, len(xyz), (TRIPLES, 3))])
    is_level = planes[:, 2] > np.cos(np.radians(LEVEL))
    best = _most_on(xyz, planes[is_level][:PLANES])
    best = _most_on(xyz, np.concatenate([planes[:PLANES], -planes[:PLANES]])) if best is None else best
    if best is None:
        return None
    for _ in range(3):
        on = np.abs(xyz @ best[:3] + best[3]) < THICKNESS
        centre = xyz[on].mean(axis=0)
        normal = np.linalg.svd(xyz[on] - centre, full_matrices=False)[2][2]
        normal = normal if normal @ best[:3] > 0 else -normal
        best = np.append(normal, -normal @ centre)
    return GroundPlane(best[:3], float(best[3]), float(on.mean()))


def _most_on(xyz: NDArray[np.float64], planes: NDArray[np.float64]) -> NDArray[np.float64] | None:
    """Of planes (K, 4) below the sensor the one with most points on it, and almost none below; None where each has too few."""
    best, best_count = None, LEAST_SHARE * len(xyz)
    for plane in planes:
        heights = xyz @ plane[:3] + plane[3]
        count = int((np.abs(heights) < THICKNESS).sum())
        if count > best_count and np.mean(heights < -2 * THICKNESS) < BELOW and plane[3] > 0.05:
            best, best_count = plane, count
    return best


def _through(threes: NDArray[np.float64]) -> NDArray[np.float64]:
    """(K, 4) planes n x + d = 0 through threes of points (M, 3, 3), z of n not negative; without those that lie on a line."""
    normal = np.cross(threes[:, 1] - threes[:, 0], threes[:, 2] - threes[:, 0])
    length = np.linalg.norm(normal, axis=1)
    threes, normal = threes[length >= 1e-3], normal[length >= 1e-3] / length[length >= 1e-3, None]
    normal *= np.where(normal[:, 2:] < 0, -1, 1)
    return np.column_stack([normal, -(normal * threes[:, 0]).sum(axis=1)])
