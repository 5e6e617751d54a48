# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""LiDAR scans: beam pattern, range noise, intensity, lost returns, and a label per point."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from occle_train.streets.sensors.caster import SceneSnapshot
from occle_train.streets.sensors.rigs import Lidar
from occle_train.streets.shapes.classes import ID, REFLECTANCE
from occle_train.streets.shapes.mesh import Material
from occle_train.streets.shapes.texture import windows

NOTHING = 255
"""Internal class of a point that lies on no object."""


@dataclass(frozen=True, eq=False)
class SimulatedScan:
    """Returns of one revolution in the LiDAR frame.

    Args:
        points: (N, 4) float32 x, y, z in metres and intensity, 0..1 (echoes from the own vehicle can be brighter).
        ring: (N,) uint8 beam number; column: (N,) int32 firing of the turn, 0 first.
        cls: (N,) uint8 internal class, NOTHING for echoes from the own vehicle; inst: (N,) uint16 instance; moving: (N,) bool.
    """

    points: NDArray[np.float32]
    ring: NDArray[np.uint8]
    column: NDArray[np.int32]
    cls: NDArray[np.uint8]
    inst: NDArray[np.uint16]
    moving: NDArray[np.bool_]


def scan(snapshot: SceneSnapshot, lidar: Lidar, T_world_lidar: NDArray[np.float64], rng: np.random.Generator) -> SimulatedScan:
    """One revolution of the LiDAR in a scene that stands still.

    Args:
        snapshot: the scene.
        lidar: the sensor.
        T_world_lidar: (4, 4) one pose for all rays: a motion-compensated scan; or (columns, 4, 4) one for each firing: each
            point is then in the sensor's frame of its own firing, as a moving sensor measures it.
        rng: noise, lost returns, and where the turn begins.
    """
    beams = len(lidar.elevations)
    last, first = lidar.azimuths
    azimuth = first - (np.arange(lidar.columns) + rng.random()) * ((first - last) / lidar.columns)
    # Ring by ring, as KITTI orders its points.
    az, el = np.meshgrid(azimuth, lidar.elevations)
    az, el = az.ravel(), el.ravel() + rng.normal(0, np.radians(0.01), az.size)
    ring = np.repeat(np.arange(beams), lidar.columns).astype(np.uint8)
    column = np.tile(np.arange(lidar.columns, dtype=np.int32), beams)
    local = np.stack([np.cos(az) * np.cos(el), np.sin(az) * np.cos(el), np.sin(el)], 1)
    if T_world_lidar.ndim == 2:
        origins = T_world_lidar[:3, 3].astype(np.float32)
        directions = (local @ T_world_lidar[:3, :3].T).astype(np.float32)
    else:
        origins = T_world_lidar[column, :3, 3].astype(np.float32)
        directions = np.einsum("nij,nj->ni", T_world_lidar[column, :3, :3], local).astype(np.float32)
    tri, distance = snapshot.cast(origins, directions)
    noise, spread, luck = (
        rng.standard_normal(len(tri), np.float32),
        rng.standard_normal(len(tri), np.float32),
        rng.random(len(tri), np.float32),
    )
    strength = _strength(snapshot, np.broadcast_to(origins, directions.shape), directions, tri, distance)
    strength *= lidar.gains[ring] * np.clip(1 + lidar.speckle * spread, 0.1, 3)
    weak = np.clip(0.06 - strength, 0, 1) / 0.06
    lost = 0.015 + 0.6 * weak * np.clip(distance / 50, 0.1, 1) + 0.4 * np.clip(distance / lidar.max_range - 0.75, 0, 1)
    keep = (tri >= 0) & (distance < lidar.max_range) & (distance > lidar.min_range) & (luck > lost)
    far = np.where(keep, distance + noise * np.float32(lidar.range_noise), 0)
    points = np.empty((len(tri), 4), np.float32)
    points[:, :3] = local * far[:, None]
    # The weakest returns are reported as 0.
    points[:, 3] = np.where(keep, np.round(np.clip(strength - 0.025, 0, 0.99), 2), 0)
    cls, inst, moving = (
        np.where(keep, snapshot.cls[tri], NOTHING).astype(np.uint8),
        np.where(keep, snapshot.inst[tri], 0).astype(np.uint16),
        keep & (tri >= snapshot.static_count),
    )
    if lidar.echoes_itself:
        near = np.exp(rng.normal(np.log(0.45), 0.6, len(tri))).clip(0.05, 1.4)
        points[~keep, :3] = (local * near[:, None])[~keep] * (1, 1, 0.6) - (0, 0, 0.12)
        points[~keep, 3] = rng.exponential(0.5, len(tri))[~keep].clip(0, 4)
        keep = np.ones_like(keep)
    return SimulatedScan(points[keep], ring[keep], column[keep], cls[keep], inst[keep], moving[keep])


def _strength(
    snapshot: SceneSnapshot,
    origins: NDArray[np.float32],
    directions: NDArray[np.float32],
    tri: NDArray[np.int32],
    distance: NDArray[np.float32],
) -> NDArray[np.float32]:
    """Intensity in 0..1 per ray by material, incidence angle and range."""
    cls, mat = snapshot.cls[tri], snapshot.mat[tri]
    normals = snapshot.normals[tri]
    incidence = np.abs(np.einsum("ij,ij->i", normals, directions))
    base = REFLECTANCE[cls].copy()
    painted = np.isin(mat, (Material.PAINT, Material.SHINY))
    brightness = snapshot.rgb[tri].mean(1)
    base = np.where(painted, 0.04 + 0.7 * brightness, base)
    base = np.where(mat == Material.GLASS, 0.03, base)
    base = np.where((mat == Material.MARKING) & (cls <= ID["other_vehicle"]), 0.9, base)
    facade = (mat == Material.FACADE) & (tri >= 0)
    base = np.where(facade, np.clip(base * (0.75 + 1.2 * brightness), 0.05, 0.9), base)
    if facade.any():
        points = origins[facade] + directions[facade] * distance[facade, None]
        glass, _ = windows(points, normals[facade], snapshot.par[tri[facade]])
        base[np.flatnonzero(facade)[glass]] = 0.06
    # Rough ground keeps its brightness down to grazing angles; smooth upright things lose it.
    ground = ((cls >= ID["road"]) & (cls <= ID["terrain"])) | (cls == ID["floor"])
    fall = np.where(ground, 0.9 + 0.1 * incidence, np.where(painted, incidence**2, 0.45 + 0.55 * incidence))
    fade = np.where(cls == ID["road"], np.clip(1 - (distance - 18) / 20, 0, 1), np.clip(1 - (distance - 20) / 45, 0.15, 1))
    out: NDArray[np.float32] = (1.15 * base * fall * np.minimum(fade, 1)).astype(np.float32)
    return out
