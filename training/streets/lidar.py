"""LiDAR scans: beam pattern, range noise, intensity, lost returns, and a label per point."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from training.streets.caster import Snapshot
from training.streets.classes import ID, REFLECTANCE
from training.streets.mesh import Material
from training.streets.rigs import Lidar
from training.streets.texture import windows


@dataclass(frozen=True, eq=False)
class Scan:
    """Returns of one turn in the LiDAR frame.

    Args:
        points: (N, 4) float32 x, y, z in metres and intensity in 0..1.
        ring: (N,) uint8 beam number.
        cls: (N,) uint8 internal class; inst: (N,) uint16 instance; moving: (N,) bool.
    """

    points: NDArray[np.float32]
    ring: NDArray[np.uint8]
    cls: NDArray[np.uint8]
    inst: NDArray[np.uint16]
    moving: NDArray[np.bool_]


def scan(snapshot: Snapshot, lidar: Lidar, T_world_lidar: NDArray[np.float64], rng: np.random.Generator) -> Scan:
    """One turn of the LiDAR at this pose (4, 4), all rays at once (a motion-compensated scan)."""
    beams = len(lidar.elevations)
    azimuth = -(np.arange(lidar.columns) + rng.random()) * (2 * np.pi / lidar.columns)
    # Ring by ring, as KITTI orders its points.
    az, el = np.meshgrid(azimuth, lidar.elevations)
    az, el = az.ravel(), el.ravel() + rng.normal(0, np.radians(0.01), az.size)
    ring = np.repeat(np.arange(beams), lidar.columns).astype(np.uint8)
    local = np.stack([np.cos(az) * np.cos(el), np.sin(az) * np.cos(el), np.sin(el)], 1)
    directions = (local @ T_world_lidar[:3, :3].T).astype(np.float32)
    tri, distance = snapshot.cast(T_world_lidar[:3, 3], directions)
    noise = rng.standard_normal(len(tri), np.float32)
    luck = rng.random(len(tri), np.float32)
    spread = rng.standard_normal(len(tri), np.float32)
    strength = _strength(snapshot, T_world_lidar[:3, 3].astype(np.float32), directions, tri, distance, spread)
    chance = 0.02 + 0.55 * np.clip(0.08 - strength, 0, 1) / 0.08 * np.clip(distance / 60, 0.1, 1) + 0.4 * np.clip(distance / lidar.max_range - 0.75, 0, 1)
    keep = (tri >= 0) & (distance < lidar.max_range) & (distance > 0.9) & (luck > chance)
    tri, ring = tri[keep], ring[keep]
    far = distance[keep] + noise[keep] * np.float32(lidar.range_noise)
    points = np.empty((len(tri), 4), np.float32)
    points[:, :3] = local[keep] * far[:, None]
    points[:, 3] = np.round(np.clip(strength[keep], 0, 0.99), 2)
    return Scan(points, ring, snapshot.cls[tri], snapshot.inst[tri], tri >= snapshot.static_count)


def _strength(
    snapshot: Snapshot, origin: NDArray[np.float32], directions: NDArray[np.float32], tri: NDArray[np.int32], distance: NDArray[np.float32], spread: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Intensity in 0..1 per ray: material, incidence angle, range, and speckle (`spread`, standard normal)."""
    cls, mat = snapshot.cls[tri], snapshot.mat[tri]
    normals = snapshot.normals[tri]
    incidence = np.abs(np.einsum("ij,ij->i", normals, directions))
    base = REFLECTANCE[cls].copy()
    painted = np.isin(mat, (Material.PAINT, Material.SHINY))
    brightness = snapshot.rgb[tri].mean(1)
    base = np.where(painted, 0.03 + 0.45 * brightness, base)
    base = np.where(mat == Material.GLASS, 0.02, base)
    base = np.where((mat == Material.MARKING) & np.isin(cls, [ID["car"], ID["truck"], ID["bus"]]), 0.9, base)
    facade = (mat == Material.FACADE) & (tri >= 0)
    if facade.any():
        points = origin + directions[facade] * distance[facade, None]
        glass, _ = windows(points, normals[facade], snapshot.par[tri[facade]])
        base[np.flatnonzero(facade)[glass]] = 0.06
    wall = base * (0.6 + 0.6 * brightness / 0.5)
    base = np.where(mat == Material.FACADE, np.clip(wall, 0.03, 0.8), base)
    # Rough ground keeps its brightness down to grazing angles; smooth upright things lose it.
    ground = (cls >= ID["road"]) & (cls <= ID["terrain"])
    fall = np.where(ground, 0.75 + 0.25 * incidence, np.where(painted, incidence**1.5, 0.35 + 0.65 * incidence))
    road = (cls == ID["road"]) * np.clip((distance - 8) / 25, 0, 0.8)
    out: NDArray[np.float32] = (base * fall * (1 - road) * (1 + 0.28 * spread)).astype(np.float32)
    return out
