# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""From Frames to what OccLE reads: resized images, cameras as matrices, and a voxelised scan per frame."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from occle_core.frame import Frame, FrameError
from occle_core.geometry.camera import Camera
from occle_core.geometry.grid import VoxelGrid
from occle_core.networks.blocks.voxelise import drop_own_vehicle, point_features, voxelise
from occle_core.networks.occle.config import OccleConfig
from occle_core.networks.occle.lift import projection

POINT_FEATURES = 7


@dataclass
class VoxelisedScan:
    """The voxelised scans of a batch.

    Attributes:
        points: (P, 7) position scaled to -1..1 over the grid, intensity, offset from the voxel's centre in voxels (Sec. 3.2).
        voxel: (P,) row of the voxel that each point lies in.
        table: (N, K) point rows of each voxel; P where it has fewer.
        coords: (N, 4) int64 batch, x, y, z of the voxels.
        counts: (N,) int64 points that fell into each voxel, those that were not kept included.
    """

    points: Tensor
    voxel: Tensor
    table: Tensor
    coords: Tensor
    counts: Tensor


@dataclass
class OccleInputs:
    """A batch of B samples of F frames with V cameras; the present frame is the first.

    Attributes:
        images: (B, F, V, H, W, 3) uint8 RGB; zeros where a camera is masked.
        projections: (B, F, V, 3, 4) float32 cameras, from the present grid's frame (see `lift`); zeros where masked.
        scans: F scans in the present grid's frame.
    """

    images: Tensor
    projections: Tensor
    scans: list[VoxelisedScan]

    @property
    def batch_size(self) -> int:
        """Number of samples."""
        return self.images.shape[0]

    @property
    def sizes(self) -> dict[str, int]:
        """Points of the largest scan and voxels of each, under the names of the static form's tables."""
        voxels = {f"voxels.{number}": len(scan.coords) for number, scan in enumerate(self.scans)}
        return {"points": max(len(scan.points) for scan in self.scans), **voxels}

    def map(self, function: Callable[[Tensor], Tensor]) -> OccleInputs:
        """As `NetworkInputs.map`."""
        images, projections = function(self.images), function(self.projections)
        return OccleInputs(images, projections, [VoxelisedScan(*map(function, vars(scan).values())) for scan in self.scans])

    def to(self, device: torch.device | str) -> OccleInputs:
        """The same tensors on another device."""
        return self.map(lambda tensor: tensor.to(device))


def prepare(frames: Sequence[Frame], poses: Sequence[NDArray[np.float64]], grid: VoxelGrid, config: OccleConfig) -> OccleInputs:
    """One sample's inputs, on the CPU.

    Args:
        frames: the present frame and those before it, newest first. A history that is shorter than the network's repeats its
            oldest frame; a longer one is cut off.
        poses: T_world_lidar (4, 4) of each frame, in any common world.
        grid: the voxels, in the present frame's grid frame.
        config: the network's sizes.

    Raises:
        FrameError: no frame, as many poses as frames are missing, a malformed frame, too many cameras, or no point in the grid.
    """
    if not frames or len(frames) != len(poses):
        raise FrameError(f"OccLE needs at least one frame and a pose for each; got {len(frames)} frames and {len(poses)} poses")
    rows = [min(number, len(frames) - 1) for number in range(config.num_frames)]
    T_lidar0_world = np.linalg.inv(poses[0])
    images, projections, scans = [], [], []
    for number in rows:
        frame = frames[number]
        frame.check()
        if len(frame.cameras) > config.num_cameras:
            raise FrameError(f"{len(frame.cameras)} cameras for a network of {config.num_cameras}; use a bundle for this rig")
        T_grid_lidar: NDArray[np.float64] = frames[0].T_grid_lidar @ T_lidar0_world @ poses[number]
        images.append(_images(frame, config))
        projections.append(_projections(frame, np.asarray(np.linalg.inv(T_grid_lidar), np.float64), config))
        scans.append(_scan(frame, T_grid_lidar, grid, config))
    if not len(scans[0].coords):
        raise FrameError(f"no point of the present scan lies inside the grid {grid}; check T_grid_lidar and the units")
    return OccleInputs(torch.from_numpy(np.stack(images))[None], torch.from_numpy(np.stack(projections))[None], scans)


def collate(parts: Sequence[OccleInputs]) -> OccleInputs:
    """Several samples as one batch."""
    scans = [_joined([part.scans[frame] for part in parts]) for frame in range(len(parts[0].scans))]
    return OccleInputs(torch.cat([part.images for part in parts]), torch.cat([part.projections for part in parts]), scans)


def _joined(scans: Sequence[VoxelisedScan]) -> VoxelisedScan:
    total = sum(len(scan.points) for scan in scans)
    voxel, table, coords = [], [], []
    row = cell = 0
    for number, scan in enumerate(scans):
        voxel.append(scan.voxel + cell)
        table.append(torch.where(scan.table == len(scan.points), total, scan.table + row))
        coords.append(scan.coords + torch.tensor([number, 0, 0, 0]))
        row, cell = row + len(scan.points), cell + len(scan.coords)
    points, counts = torch.cat([scan.points for scan in scans]), torch.cat([scan.counts for scan in scans])
    return VoxelisedScan(points, torch.cat(voxel), torch.cat(table), torch.cat(coords), counts)


def fit_image(image: NDArray[np.uint8], config: OccleConfig, fill: int = 0, nearest: bool = False) -> NDArray[np.uint8]:
    """An image (H, W, ...) uint8 at the network's size: resized, or cropped and padded (`OccleConfig.crop`).

    Args:
        image: RGB, or labels (H, W).
        config: the network's sizes.
        fill: value of padded pixels.
        nearest: takes the nearest pixel's value instead of a mean, for labels.
    """
    width, height = config.width, config.height
    if config.crop is None:
        if image.shape[:2] == (height, width):
            return image
        method = cv2.INTER_NEAREST_EXACT if nearest else cv2.INTER_AREA
        return np.asarray(cv2.resize(image, (width, height), interpolation=method), np.uint8)
    kept = image[: min(config.crop[1], height), : min(config.crop[0], width)]
    out = np.full((height, width, *image.shape[2:]), fill, np.uint8)
    out[: kept.shape[0], : kept.shape[1]] = kept
    return out


def fit_camera(camera: Camera, config: OccleConfig) -> Camera:
    """The camera of an image that `fit_image` made."""
    size = (config.width, config.height)
    return camera.resized(*size) if config.crop is None else Camera(camera.K, camera.T_camera_lidar, *size)


def _images(frame: Frame, config: OccleConfig) -> NDArray[np.uint8]:
    out = np.zeros((config.num_cameras, config.height, config.width, 3), np.uint8)
    for number, image in enumerate(frame.images):
        if image is not None:
            out[number] = fit_image(image, config)
    return out


def _projections(frame: Frame, T_lidar_grid: NDArray[np.float64], config: OccleConfig) -> NDArray[np.float32]:
    out = np.zeros((config.num_cameras, 3, 4), np.float32)
    for number, (image, camera) in enumerate(zip(frame.images, frame.cameras)):
        if image is not None:
            # A resized image keeps its shares: only a crop moves them.
            out[number] = projection(camera if config.crop is None else fit_camera(camera, config), T_lidar_grid)
    return out


def _scan(frame: Frame, T_grid_lidar: NDArray[np.float64], grid: VoxelGrid, config: OccleConfig) -> VoxelisedScan:
    points = drop_own_vehicle(frame.points, config.scan.min_range)
    in_grid = (points[:, :3] @ T_grid_lidar[:3, :3].T + T_grid_lidar[:3, 3]).astype(np.float32)
    rows, voxel, table, cells = voxelise(in_grid, grid, config.scan.max_points)
    # Of the ten features MinkOcc's points have, OccLE's lack the offset from the mean.
    features = point_features(in_grid[rows], points[rows, 3], voxel, cells, grid)[:, [0, 1, 2, 3, 7, 8, 9]]
    ijk, inside = grid.index(in_grid)
    per_cell = np.zeros(grid.shape, np.int64)
    np.add.at(per_cell, tuple(ijk[inside].T), 1)
    coords = np.concatenate([np.zeros((len(cells), 1), np.int64), cells], 1)
    arrays = (np.ascontiguousarray(features), voxel, table, coords, per_cell[tuple(cells.T)])
    return VoxelisedScan(*(torch.from_numpy(array) for array in arrays))
