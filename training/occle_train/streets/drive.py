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
from occle_train.streets.scenes.scene import Scene, SceneKind
from occle_train.streets.scenes.site import SiteScene
from occle_train.streets.scenes.street import StreetScene
from occle_train.streets.sensors import lidar, truth, visibility
from occle_train.streets.sensors.camera import RenderedView, render
from occle_train.streets.sensors.caster import RayCaster, SceneSnapshot
from occle_train.streets.sensors.described_rig import rig_from_file
from occle_train.streets.sensors.rigs import Matrix, RigCamera, make_rig
from occle_train.streets.shapes.boxes import Box, box_of
from occle_train.streets.shapes.mesh import Mesh

COARSE = 0.4
"""Edge of the cells whose visibility is tested, metres."""


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
    """A place, what moves there, and a rig that passes through it; equal arguments give equal frames.

    Args:
        rig: "kitti", "nuscenes" or a rig file's.
        seed, number: together choose the drive.
        frames: how many frames it has.
        scale: image size relative to the real cameras'.
        kind: of the place; halls and yards need a rig file's rig.
    """

    def __init__(self, rig: str | Rig, seed: int, number: int, frames: int, scale: float, kind: SceneKind = "street") -> None:
        rng = np.random.default_rng([seed, number, 11])
        self.seed, self.number, self.kind = seed, number, kind
        self.frames = frames
        self.rig = make_rig(rig, rng, scale) if isinstance(rig, str) else rig_from_file(rig, rng, scale)
        self.times = np.arange(frames, dtype=np.float64) * self.rig.period
        self.scene: Scene
        if kind == "street":
            self.scene = StreetScene(rng, self.rig, rig if isinstance(rig, str) else "kitti", self.times)
        else:
            self.scene = SiteScene(rng, kind, self.rig, self.times)
        self.static = RayCaster(self.scene.mesh, self.scene.casts_shadow)
        self._samples = truth.sample(self._around(self.scene.mesh), self.rig.grid.resolution / 2, rng)
        self._mover_samples = [truth.sample(mesh, self.rig.grid.resolution / 2, rng) for mesh in self.scene.mover_meshes]
        self._range_images: dict[int, tuple[NDArray[np.float64], NDArray[np.float32]]] = {}

    def base_pose(self, i: int, later: float = 0.0) -> Matrix:
        """T_world_base (4, 4) `later` seconds after frame i, at that frame's speed."""
        return self.scene.vehicle_pose(i, later)

    def snapshot(self, i: int) -> tuple[SceneSnapshot, list[tuple[int, Matrix]]]:
        """The scene of frame i, and the numbers and poses of the movers near by."""
        here = self.base_pose(i)[:2, 3]
        poses = self.scene.mover_poses(float(self.times[i]))
        near = [(k, T) for k, T in enumerate(poses) if np.hypot(*(T[:2, 3] - here)) < 130]
        return SceneSnapshot(self.static, [self.scene.mover_meshes[k].moved(T) for k, T in near]), near

    def frame(self, i: int) -> DriveFrame:
        """Everything of frame i; depends on nothing but the drive and i."""
        rng = np.random.default_rng([self.seed, self.number, 12, i])
        T_world_base = self.base_pose(i)
        snapshot, near = self.snapshot(i)
        views = tuple(
            render(snapshot, camera, T_world_base, self.scene.light, self.scene.noise, rng) for camera in self.rig.cameras
        )
        scans = tuple(lidar.scan(snapshot, each, T_world_base @ T, rng) for each, T in self.rig.lidars)
        voxels = self._truth(i, snapshot, T_world_base, views, scans, near)
        return DriveFrame(T_world_base, views, scans[0], voxels, scans[1:])

    def boxes(self, i: int) -> list[Box]:
        """Boxes of all objects within 70 m of the vehicle in frame i."""
        here = self.base_pose(i)[:2, 3]
        poses = self.scene.mover_poses(float(self.times[i]))
        moving = [box_of(mesh, T, int(mesh.inst[0]), moving=True) for mesh, T in zip(self.scene.mover_meshes, poses)]
        return [b for b in [*self.scene.boxes, *moving] if b is not None and np.hypot(*(b.centre[:2] - here)) < 70]

    def voxels(self, i: int, grid: VoxelGrid, T_grid_world: Matrix) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
        """Exact voxels of frame i in any grid near the rig's own.

        Args:
            grid: whose cells are asked about; only surfaces that come near the rig's grid in some frame exist.
            T_grid_world: (4, 4), maps world coordinates into the grid's frame.

        Returns:
            cls (X, Y, Z) uint8 internal class, truth.EMPTY where nothing is; moving (X, Y, Z) bool, a mover labels the cell.
        """
        return self._voxelise(grid, T_grid_world, list(enumerate(self.scene.mover_poses(float(self.times[i])))))

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
        return mesh.at(keep)

    def _step(self) -> float:
        """Mean distance between frames, metres."""
        return self.scene.travelled / max(self.frames - 1, 1)

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
        for k in self.scene.lookouts(i):
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

    def _range_image(self, k: int) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
        if k not in self._range_images:
            T = self.scene.lookout_pose(k) @ self.rig.T_base_lidar
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
