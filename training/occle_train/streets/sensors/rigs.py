# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""The two sensor rigs, with the calibration values of the real cars rounded and slightly shaken per drive."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from occle_core.geometry.grid import OCC3D_NUSCENES, SEMANTICKITTI, VoxelGrid
from occle_core.rig.description import LensRig
from occle_core.rig.pose import rotation

Matrix = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class RigCamera:
    """A camera.

    Args:
        name: of the camera.
        K: (3, 3) intrinsics, pixels.
        T_base_camera: (4, 4) pose on the vehicle.
        width: of the image, pixels.
        height: of the image, pixels.
        lens: its distortion; None: a pinhole camera.
    """

    name: str
    K: Matrix
    T_base_camera: Matrix
    width: int
    height: int
    lens: LensRig | None = None


@dataclass(frozen=True, eq=False)
class Lidar:
    """A LiDAR that fires all beams at one azimuth after the other, clockwise.

    Args:
        elevations: (B,) radians, one per ring, ring 0 first.
        columns: firings per scan.
        max_range: metres.
        range_noise: standard deviation, metres.
        speckle: relative standard deviation of the intensity.
        gains: (B,) relative intensity of every ring.
        echoes_itself: whether firings without a return are reported as points on the vehicle, as nuScenes' LiDAR does.
        azimuths: (last, first) of a scan, radians left of x.
        min_range: metres.
    """

    elevations: NDArray[np.float64]
    columns: int
    max_range: float
    range_noise: float
    speckle: float
    gains: NDArray[np.float32]
    echoes_itself: bool
    azimuths: tuple[float, float] = (-2 * np.pi, 0.0)
    min_range: float = 0.9


@dataclass(frozen=True, eq=False)
class SimulatedRig:
    """Sensors on a vehicle. The base frame is on the ground below the vehicle: x forward, y left, z up.

    Args:
        name: "kitti", "nuscenes", or that of the rig file.
        cameras: the cameras.
        lidar: the (leading) LiDAR.
        T_base_lidar: (4, 4) pose of the LiDAR.
        T_base_grid: (4, 4) pose of the voxel grid's frame.
        grid: the voxels of the truth, with the origin that the files really have.
        period: seconds between frames.
        speed: (slowest, fastest), metres per second.
        others: further LiDARs and their poses (4, 4).
    """

    name: str
    cameras: tuple[RigCamera, ...]
    lidar: Lidar
    T_base_lidar: Matrix
    T_base_grid: Matrix
    grid: VoxelGrid
    period: float
    speed: tuple[float, float]
    others: tuple[tuple[Lidar, Matrix], ...] = ()

    @property
    def lidars(self) -> tuple[tuple[Lidar, Matrix], ...]:
        """All LiDARs and their poses (4, 4), the leading one first."""
        return (self.lidar, self.T_base_lidar), *self.others


# yaw (degrees, left of ahead), x, y, z (metres, base frame), focal length, cx, cy (pixels of 1600x900).
_NUSCENES = {
    "CAM_FRONT": (0.3, 1.70, 0.02, 1.51, 1266.0, 816.0, 491.0),
    "CAM_FRONT_RIGHT": (-56.4, 1.55, -0.49, 1.50, 1261.0, 808.0, 495.0),
    "CAM_FRONT_LEFT": (55.2, 1.52, 0.49, 1.51, 1272.0, 826.0, 480.0),
    "CAM_BACK": (180.0, 0.03, 0.00, 1.58, 809.0, 829.0, 482.0),
    "CAM_BACK_LEFT": (108.6, 1.04, 0.48, 1.59, 1257.0, 792.0, 493.0),
    "CAM_BACK_RIGHT": (-110.8, 1.01, -0.48, 1.56, 1260.0, 807.0, 501.0),
}


def make_rig(name: str, rng: np.random.Generator, scale: float) -> SimulatedRig:
    """The rig of one drive.

    Args:
        name: "kitti" or "nuscenes".
        rng: shakes the mounting.
        scale: image size relative to the real cameras'.

    Raises:
        ValueError: another name, or a scale outside 0.05..2.
    """
    if not 0.05 <= scale <= 2:
        raise ValueError(f"scale must be between 0.05 and 2, not {scale}")
    if name == "kitti":
        return _kitti(rng, scale)
    if name == "nuscenes":
        return _nuscenes(rng, scale)
    raise ValueError(f'no rig named "{name}"; there are kitti and nuscenes')


def _kitti(rng: np.random.Generator, scale: float) -> SimulatedRig:
    upper, lower = np.linspace(2.0, -8.33, 32), np.linspace(-8.83, -24.8, 32)
    lidar = Lidar(
        np.radians(np.concatenate([upper, lower]) + rng.normal(0, 0.02, 64)),
        2000,
        80.0,
        0.02,
        0.2,
        rng.uniform(0.7, 1.15, 64).astype(np.float32),
        False,
    )
    T_base_lidar = _rigid(_shake(rng, 0.6, 0.0), (0.0, 0.0, 1.73 + rng.normal(0, 0.04)))
    # Camera 0 looks forward from 0.27 m ahead of and 0.08 m below the LiDAR; camera 2 is 6 cm to its left.
    T_lidar_camera = _rigid(_shake(rng, 0.25, 0.25) @ _OPTICAL, np.array([0.33, 0.06, -0.075]) + rng.normal(0, 0.01, 3))
    width, height = round(1242 * scale), round(375 * scale)
    K = _intrinsics(707.09, 601.9, 183.1, width / 1242, height / 375)
    camera = RigCamera("cam2", K, T_base_lidar @ T_lidar_camera, width, height)
    return SimulatedRig("kitti", (camera,), lidar, T_base_lidar, T_base_lidar, SEMANTICKITTI, 0.1, (3.0, 12.0))


def _nuscenes(rng: np.random.Generator, scale: float) -> SimulatedRig:
    width, height = round(1600 * scale), round(900 * scale)
    cameras = []
    for name, (yaw, x, y, z, focal, cx, cy) in _NUSCENES.items():
        turn = rotation(0.0, 0.0, np.radians(yaw)) @ _shake(rng, 0.4, 0.4) @ _OPTICAL
        K = _intrinsics(focal * rng.uniform(0.995, 1.005), cx + rng.normal(0, 3), cy + rng.normal(0, 3), width / 1600, height / 900)
        cameras.append(RigCamera(name, K, _rigid(turn, np.array([x, y, z]) + rng.normal(0, 0.01, 3)), width, height))
    elevations = np.radians(np.linspace(-30.67, 10.67, 32))
    lidar = Lidar(elevations, 1084, 100.0, 0.02, 0.5, rng.uniform(0.8, 1.2, 32).astype(np.float32), True)
    # LIDAR_TOP: x to the right, y ahead.
    mount = _shake(rng, 0.6, 0.0) @ rotation(0.0, 0.0, -np.pi / 2)
    T_base_lidar = _rigid(mount, (0.94, 0.0, 1.84 + rng.normal(0, 0.02)))
    return SimulatedRig("nuscenes", tuple(cameras), lidar, T_base_lidar, np.eye(4), OCC3D_NUSCENES, 0.5, (2.0, 10.0))


_OPTICAL = np.array([[0.0, 0.0, 1.0], [-1.0, 0.0, 0.0], [0.0, -1.0, 0.0]])
"""Columns: camera x (right), y (down), z (forward) in vehicle axes."""


def _shake(rng: np.random.Generator, tilt: float, yaw: float) -> Matrix:
    """A small random rotation: standard deviations of roll and pitch, and of yaw, in degrees."""
    return rotation(rng.normal(0, np.radians(tilt)), rng.normal(0, np.radians(tilt)), rng.normal(0, np.radians(yaw)))


def _rigid(R: Matrix, t: NDArray[np.float64] | tuple[float, float, float]) -> Matrix:
    T = np.eye(4)
    T[:3, :3], T[:3, 3] = R, t
    return T


def _intrinsics(focal: float, cx: float, cy: float, sx: float, sy: float) -> Matrix:
    """K of the resized image; integer pixels are centres, so u' = (u + 0.5) s - 0.5."""
    return np.array([[focal * sx, 0, (cx + 0.5) * sx - 0.5], [0, focal * sy, (cy + 0.5) * sy - 0.5], [0, 0, 1]])
