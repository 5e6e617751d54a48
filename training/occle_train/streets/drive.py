# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""One simulated drive: everything that is made once, and `frame(i)` for what the sensors deliver at each step."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from occle_core.geometry.grid import VoxelGrid
from occle_core.rig import Rig
from occle_core.sensors.camera_info import lens_from_rig
from occle_train.streets.scenery.layout import Street
from occle_train.streets.scenery.traffic import traffic
from occle_train.streets.scenery.world import World
from occle_train.streets.sensors import lidar, truth, visibility
from occle_train.streets.sensors.camera import RenderedView, render
from occle_train.streets.sensors.caster import RayCaster, SceneSnapshot
from occle_train.streets.sensors.described_rig import rig_from_file
from occle_train.streets.sensors.light import make_light
from occle_train.streets.sensors.rigs import Matrix, RigCamera, make_rig
from occle_train.streets.shapes.boxes import Box, box_of
from occle_train.streets.shapes.mesh import Mesh
from occle_train.streets.shapes.texture import Noise

COARSE = 0.4
"""Edge of the cells whose visibility is tested, metres."""
ORIGIN_STEP = 5.0
AHEAD, BEHIND = 50.0, 10.0
"""Metres of the drive before and after the present frame from which a cell may be seen to count as known."""


@dataclass(frozen=True, eq=False)
class VoxelTruth:
    """Exact voxels of one frame, all (X, Y, Z) of the rig's grid.

    Args:
        cls: uint8 internal class, truth.EMPTY where nothing is.
        moving: bool, a mover labels the cell.
        known: bool, seen from the drive; seen_now: bool, seen from the LiDAR's present position;
        seen_by_camera: bool, inside an image and not hidden now.
    """

    cls: NDArray[np.uint8]
    moving: NDArray[np.bool_]
    known: NDArray[np.bool_]
    seen_now: NDArray[np.bool_]
    seen_by_camera: NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class DriveFrame:
    """Sensor data and truth of one frame.

    Args:
        T_world_base: (4, 4) pose of the vehicle.
        views: one per camera of the rig.
        scan: the (leading) LiDAR's turn.
        truth: the voxels.
        others: the further LiDARs' turns.
    """

    T_world_base: NDArray[np.float64]
    views: tuple[RenderedView, ...]
    scan: lidar.SimulatedScan
    truth: VoxelTruth
    others: tuple[lidar.SimulatedScan, ...] = ()


class Drive:
    """A street, its traffic and a rig that passes through it; equal arguments give equal frames.

    Args:
        rig: "kitti", "nuscenes" or a rig file's.
        seed, number: together choose the drive.
        frames: how many frames it has.
        scale: image size relative to the real cameras'.
    """

    def __init__(self, rig: str | Rig, seed: int, number: int, frames: int, scale: float) -> None:
        rng = np.random.default_rng([seed, number, 11])
        self.seed, self.number = seed, number
        self.frames = frames
        self.rig = make_rig(rig, rng, scale) if isinstance(rig, str) else rig_from_file(rig, rng, scale)
        self.light = make_light(rng, rig if isinstance(rig, str) else "kitti")
        self.noise = Noise(rng)
        self.times = np.arange(frames, dtype=np.float64) * self.rig.period
        speed: NDArray[np.float64] = rng.uniform(*self.rig.speed) * (
            1 + 0.15 * np.sin(self.times * rng.uniform(0.1, 0.4) + rng.uniform(0, 6))
        )
        self._ego_s: NDArray[np.float64] = np.concatenate([[0.0], np.cumsum(speed[:-1] * self.rig.period)])
        back = 55.0 if self.rig.grid.origin[0] < -BEHIND else 25.0
        end = float(self._ego_s[-1])
        self.street = Street(rng, -back - 35, end + 130)
        self._ego_d: NDArray[np.float64] = (
            -(self.street.median / 2 + self.street.lane * 0.5) + rng.normal(0, 0.15) + 0.2 * np.sin(self._ego_s / 13)
        )
        world = World(rng, self.street, (-back + 8, end + 52), float(self._ego_d.mean()))
        self.static = RayCaster(world.mesh)
        self._boxes = world.boxes
        ego = np.stack([self._ego_s, self._ego_d], 1).astype(np.float64)
        self.movers = traffic(rng, self.street, ego, self.times, np.array(world.obstacles), world.instances + 1)
        self._samples = truth.sample(self._around(world.mesh), self.rig.grid.resolution / 2, rng)
        self._mover_samples = [truth.sample(m.mesh, self.rig.grid.resolution / 2, rng) for m in self.movers]
        self._range_images: dict[int, tuple[NDArray[np.float64], NDArray[np.float32]]] = {}

    def pose(self, s: float, d: float) -> NDArray[np.float64]:
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

    def base_pose(self, i: int) -> NDArray[np.float64]:
        """T_world_base (4, 4) of frame i."""
        return self.pose(*self.base_position(i).tolist())

    def base_position(self, i: int) -> NDArray[np.float64]:
        """Street coordinates (s, d) of the vehicle in frame i, metres."""
        return np.array([self._ego_s[i], self._ego_d[i]])

    def snapshot(self, i: int) -> tuple[SceneSnapshot, list[tuple[int, Matrix]]]:
        """The scene of frame i, and the numbers and poses of the movers near by."""
        here = self.base_pose(i)[:2, 3]
        poses = [m.pose(self.street, float(self.times[i])) for m in self.movers]
        near = [(k, T) for k, T in enumerate(poses) if np.hypot(*(T[:2, 3] - here)) < 130]
        return SceneSnapshot(self.static, [self.movers[k].mesh.moved(T) for k, T in near]), near

    def frame(self, i: int) -> DriveFrame:
        """Everything of frame i; depends on nothing but the drive and i."""
        rng = np.random.default_rng([self.seed, self.number, 12, i])
        T_world_base = self.base_pose(i)
        snapshot, near = self.snapshot(i)
        views = tuple(render(snapshot, camera, T_world_base, self.light, self.noise, rng) for camera in self.rig.cameras)
        scans = tuple(lidar.scan(snapshot, each, T_world_base @ T, rng) for each, T in self.rig.lidars)
        voxels = self._truth(i, snapshot, T_world_base, views, scans, near)
        return DriveFrame(T_world_base, views, scans[0], voxels, scans[1:])

    def boxes(self, i: int) -> list[Box]:
        """Boxes of all objects within 70 m of the vehicle in frame i."""
        here = self.base_pose(i)[:2, 3]
        moving = [box_of(m.mesh, m.pose(self.street, float(self.times[i])), int(m.mesh.inst[0]), moving=True) for m in self.movers]
        return [b for b in [*self._boxes, *moving] if b is not None and np.hypot(*(b.centre[:2] - here)) < 70]

    def voxels(self, i: int, grid: VoxelGrid, T_grid_world: Matrix) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
        """Exact voxels of frame i in any grid near the rig's own.

        Args:
            grid: whose cells are asked about; only surfaces that come near the rig's grid in some frame exist.
            T_grid_world: (4, 4), maps street coordinates into the grid's frame.

        Returns:
            cls (X, Y, Z) uint8 internal class, truth.EMPTY where nothing is; moving (X, Y, Z) bool, a mover labels the cell.
        """
        poses = [m.pose(self.street, float(self.times[i])) for m in self.movers]
        return self._voxelise(grid, T_grid_world, list(enumerate(poses)))

    def _voxelise(
        self, grid: VoxelGrid, T_grid_world: Matrix, near: list[tuple[int, Matrix]]
    ) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
        groups = [(self._samples, T_grid_world)] + [(self._mover_samples[k], T_grid_world @ T) for k, T in near]
        return truth.voxelise(groups, grid)

    def _around(self, mesh: Mesh) -> Mesh:
        """The triangles that can come into the grid of some frame."""
        grid = self.rig.grid
        low, high = np.array(grid.origin), np.array(grid.upper)
        middle = np.append((low + high) / 2, 1.0)
        reach = float(np.hypot(*(high - low)[:2])) / 2 + 1.5
        centre, lowest = mesh.tri.mean(1), mesh.tri[:, :, 2].min(1)
        keep = np.zeros(len(mesh), np.bool_)
        steps = np.unique(np.append(np.arange(0, self.frames, max(1, int(1.0 / max(self._step(), 0.1)))), self.frames - 1))
        for i in steps:
            x, y, z, _ = self.base_pose(int(i)) @ self.rig.T_base_grid @ middle
            keep |= ((centre[:, 0] - x) ** 2 + (centre[:, 1] - y) ** 2 < reach**2) & (lowest < z + 6)
        return Mesh(mesh.tri[keep], mesh.cls[keep], mesh.mat[keep], mesh.rgb[keep], mesh.par[keep], mesh.inst[keep])

    def _step(self) -> float:
        """Mean distance between frames, metres."""
        return float(self._ego_s[-1]) / max(self.frames - 1, 1)

    def _truth(
        self,
        i: int,
        snapshot: SceneSnapshot,
        T_world_base: Matrix,
        views: tuple[RenderedView, ...],
        scans: tuple[lidar.SimulatedScan, ...],
        near: list[tuple[int, Matrix]],
    ) -> VoxelTruth:
        """The voxels of frame i; `near` are the numbers of the movers near by and their poses."""
        grid, T_world_grid = self.rig.grid, T_world_base @ self.rig.T_base_grid
        T_grid_world = np.asarray(np.linalg.inv(T_world_grid), np.float64)
        cls, moving = self._voxelise(grid, T_grid_world, near)
        factor = _coarsening(grid)
        coarse = grid.coarser(factor)
        occupied = truth.coarsen(cls != truth.EMPTY, factor)
        centres = coarse.centers(np.argwhere(np.ones(coarse.shape, np.bool_)))
        points = _transformed(T_world_grid, centres)
        now = self._seen_now(snapshot, T_world_base, points)
        for scan, (_, T_base_lidar) in zip(scans, self.rig.lidars):
            T_grid_lidar = T_grid_world @ T_world_base @ T_base_lidar
            now |= coarse.occupied(_transformed(T_grid_lidar, scan.points[scan.cls != lidar.NOTHING, :3])).ravel()
        seen = now.copy()
        for k in self._origins(i):
            rest = np.flatnonzero(~seen)
            place, image = self._range_image(k)
            seen[rest[visibility.sees(image, place, points[rest])]] = True
        by_camera = np.zeros(len(points), np.bool_)
        for camera, view in zip(self.rig.cameras, views):
            local = _transformed(np.asarray(np.linalg.inv(T_world_base @ camera.T_base_camera), np.float64), points)
            by_camera |= visibility.in_image(_rectified_depth(view.depth, camera), camera.K, local)

        def finish(cells: NDArray[np.bool_]) -> NDArray[np.bool_]:
            return truth.refine(visibility.spread_to_surfaces(cells.reshape(coarse.shape), occupied), factor)

        return VoxelTruth(cls, moving, finish(seen), finish(now), finish(by_camera))

    def _seen_now(self, snapshot: SceneSnapshot, T_world_base: Matrix, points: NDArray[np.float32]) -> NDArray[np.bool_]:
        """Mask (N,) of points that the LiDAR has a free line to. Occ3D counts only those between its steepest and flattest beam."""
        origin = (T_world_base @ self.rig.T_base_lidar)[:3, 3]
        now = visibility.sees(visibility.range_image(snapshot.cast, origin), origin, points)
        if self.rig.name == "nuscenes":
            offset = points - origin.astype(np.float32)
            rise = offset @ T_world_base[:3, 2].astype(np.float32) / np.maximum(np.linalg.norm(offset, axis=1), 1e-3)
            beams = self.rig.lidar.elevations
            now &= (rise > np.sin(beams.min() - 0.02)) & (rise < np.sin(beams.max() + 0.02))
        return now

    def _origins(self, i: int) -> list[int]:
        """Numbers of the LiDAR positions along the drive from which frame i's surroundings are seen, nearest first."""
        s = float(self._ego_s[i])
        first, last = int(np.ceil((s - BEHIND) / ORIGIN_STEP)), int(np.floor((s + AHEAD) / ORIGIN_STEP))
        return sorted(range(first, last + 1), key=lambda k: -k)

    def _range_image(self, k: int) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
        if k not in self._range_images:
            T = self.pose(k * ORIGIN_STEP, float(self._ego_d.mean())) @ self.rig.T_base_lidar
            origin = T[:3, 3]

            def cast(at: NDArray[np.floating], directions: NDArray[np.float32]) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
                return self.static.cast(np.broadcast_to(np.asarray(at, np.float32), directions.shape), directions)

            self._range_images[k] = (origin, visibility.range_image(cast, origin))
        return self._range_images[k]


def _coarsening(grid: VoxelGrid) -> int:
    """Cells per edge of a coarse cell: as many as divide the grid, at most COARSE metres."""
    most = max(1, round(COARSE / grid.resolution))
    return max(factor for factor in range(1, most + 1) if all(count % factor == 0 for count in grid.shape))


def _rectified_depth(depth: NDArray[np.float32], camera: RigCamera) -> NDArray[np.float32]:
    """Depth of the rectified image, which is what a network sees; nothing is seen where nothing was recorded."""
    if camera.lens is None or not camera.lens.is_distorted:
        return depth
    lens = lens_from_rig(camera.lens, camera.width, camera.height, camera.name)
    assert lens.maps is not None
    return np.asarray(cv2.remap(depth, *lens.maps, cv2.INTER_NEAREST, borderValue=0.0), np.float32)


def _transformed(T: Matrix, points: NDArray[np.float32]) -> NDArray[np.float32]:
    """Points (N, 3) after the motion T (4, 4), in float32."""
    out: NDArray[np.float32] = points @ T[:3, :3].T.astype(np.float32) + T[:3, 3].astype(np.float32)
    return out
