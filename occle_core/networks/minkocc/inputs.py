# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""From a Frame to the tensors that a network reads: resized images, voxelised points, where each point falls in each image.

Everything whose size depends on the data in a way that inference engines cannot express (sorting points into voxels) is
done here; the network itself only gathers through the tables made here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from occle_core.frame import Frame, FrameError
from occle_core.geometry.affine import transform_points
from occle_core.geometry.camera import Camera
from occle_core.geometry.grid import VoxelGrid
from occle_core.native import prepare as native
from occle_core.networks.blocks.voxelise import drop_own_vehicle, point_features, voxelise
from occle_core.networks.minkocc.config import MinkOccConfig
from occle_core.sensors.sweeps import stack_sweeps


@dataclass
class MinkOccInputs:
    """A batch of B frames with V cameras, P kept points and N occupied voxels in all.

    Attributes:
        images: (B, V, H, W, 3) uint8 RGB of the network's size; zeros where a camera is masked.
        points: (P, 10) float32 features per point (see `point_features`); (P, 11) with the points' age in seconds, where the
            network reads sweeps.
        view: (P, M) int64 image index b * V + v of the point's sampled views; B * V where it has none.
        uv: (P, M, 2) float32 position in that image, 0..1 from border to border.
        voxel: (P,) int64 row of the voxel that the point lies in.
        table: (N, K) int64 point rows of each voxel; P where it has fewer than K.
        coords: (N, 4) int64 batch, x, y, z of the voxels.
    """

    images: Tensor
    points: Tensor
    view: Tensor
    uv: Tensor
    voxel: Tensor
    table: Tensor
    coords: Tensor

    @property
    def batch_size(self) -> int:
        """Number of frames."""
        return self.images.shape[0]

    @property
    def sizes(self) -> dict[str, int]:
        """Points and voxels, under the names of the static form's tables."""
        return {"points": len(self.points), "voxels": len(self.coords)}

    def map(self, function: Callable[[Tensor], Tensor]) -> MinkOccInputs:
        """As `NetworkInputs.map`."""
        return MinkOccInputs(*(function(getattr(self, field.name)) for field in fields(self)))

    def to(self, device: torch.device | str) -> MinkOccInputs:
        """The same tensors on another device."""
        return self.map(lambda tensor: tensor.to(device))


def with_sweeps(frames: Sequence[Frame], config: MinkOccConfig) -> Frame:
    """The present frame, the first, with the points of the scans before it, where the network reads them.

    Raises:
        FrameError: a scan is malformed.
    """
    if not config.reads_sweeps:
        return frames[0]
    for frame in frames:
        frame.check()
    # Each scan has the vehicle in itself: it has to go before the scans are moved.
    own = [replace(frame, points=drop_own_vehicle(frame.points, config.points.min_range), origins=None) for frame in frames]
    return stack_sweeps(own[: config.points.sweeps])


def prepare(frame: Frame, grid: VoxelGrid, config: MinkOccConfig) -> MinkOccInputs:
    """The network's inputs for one frame, on the CPU.

    Raises:
        FrameError: the frame is malformed, has more cameras than the network, or no point inside the grid.
    """
    frame.check()
    wanted = config.image.num_cameras
    if len(frame.cameras) > wanted:
        raise FrameError(f"{len(frame.cameras)} cameras for a network of {wanted}; use a bundle for this rig, or fewer cameras")
    images = prepare_images(frame.images, config)
    points = frame.points
    if config.reads_sweeps:
        ages = np.zeros(len(points), np.float32) if frame.ages is None else frame.ages
        points = np.column_stack([points, ages])
    points = drop_own_vehicle(points, config.points.min_range)
    space = native.workspace()
    T = frame.T_grid_lidar
    in_grid = transform_points(T, points) if space is None else native.transform_points(space, T, points)
    rows, voxel_of, table, cells = voxelise(in_grid, grid, config.points.max_points)
    if not len(cells):
        raise FrameError(f"none of the {len(points)} points lies inside the grid {grid}; check T_grid_lidar and the units")
    points = points.take(rows, axis=0)  # several times faster than points[rows]
    view, uv = choose_views(points, frame.images, frame.cameras, wanted, config.points.max_views)
    features = point_features(in_grid.take(rows, axis=0), points[:, 3], voxel_of, cells, grid)
    if config.reads_sweeps:
        features = np.concatenate([features, points[:, 4:]], 1)
    return MinkOccInputs(
        torch.from_numpy(images)[None],
        torch.from_numpy(features),
        torch.from_numpy(view),
        torch.from_numpy(uv),
        torch.from_numpy(voxel_of),
        torch.from_numpy(table),
        torch.from_numpy(np.concatenate([np.zeros((len(cells), 1), np.int64), cells], 1)),
    )


def collate(parts: Sequence[MinkOccInputs]) -> MinkOccInputs:
    """Several frames' inputs as one batch."""
    views = [part.images.shape[0] * part.images.shape[1] for part in parts]
    total, points = sum(views), sum(len(part.points) for part in parts)
    view, voxel, table, coords = [], [], [], []
    image = row = frame = cell = 0
    for part, count in zip(parts, views):
        view.append(torch.where(part.view == count, total, part.view + image))
        voxel.append(part.voxel + cell)
        table.append(torch.where(part.table == len(part.points), points, part.table + row))
        coords.append(part.coords + torch.tensor([frame, 0, 0, 0]))
        image, row, frame, cell = image + count, row + len(part.points), frame + part.batch_size, cell + len(part.coords)
    return MinkOccInputs(
        torch.cat([part.images for part in parts]),
        torch.cat([part.points for part in parts]),
        torch.cat(view),
        torch.cat([part.uv for part in parts]),
        torch.cat(voxel),
        torch.cat(table),
        torch.cat(coords),
    )


def prepare_images(images: Sequence[NDArray[np.uint8] | None], config: MinkOccConfig) -> NDArray[np.uint8]:
    """Images (H, W, 3) uint8 RGB -> (V, height, width, 3) uint8; masked and absent cameras are zeros."""
    size = (config.image.width, config.image.height)
    out = np.zeros((config.image.num_cameras, size[1], size[0], 3), np.uint8)
    space = native.workspace()
    for number, image in enumerate(images):
        if image is None:
            continue
        if space is not None and native.can_resize(image, *size):
            native.resize(space, image, out[number])
        else:
            same = (image.shape[1], image.shape[0]) == size
            out[number] = image if same else cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    return out


def choose_views(
    points: NDArray[np.float32], images: Sequence[NDArray[np.uint8] | None], cameras: Sequence[Camera], slots: int, max_views: int
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """In which images each point is seen: at most `max_views`, those first where it is farthest from the border.

    Args:
        points: (P, 3+) in the LiDAR frame, metres.
        slots: the network's number of cameras; this number stands for "no view".

    Returns:
        view (P, max_views) int64 camera numbers, uv (P, max_views, 2) float32 in 0..1 from image border to border.
    """
    view = np.full((len(points), max_views), slots, np.int64)
    uv = np.zeros((len(points), max_views, 2), np.float32)
    margin = np.full((len(points), max_views), -1.0, np.float32)
    space = native.workspace()
    for number, (image, camera) in enumerate(zip(images, cameras)):
        if image is None:
            continue
        if space is not None:
            native.see(space, points, camera, number, view, uv, margin)
            continue
        pixels, _, visible = camera.project(points)
        seen = np.flatnonzero(visible)
        relative = ((pixels[seen] + 0.5) / (camera.width, camera.height)).astype(np.float32)
        inset = np.minimum(relative, 1 - relative).min(axis=1)
        for slot in range(max_views):
            better = inset > margin[seen, slot]
            at = seen[better]
            for table in (view, uv, margin):
                table[at, slot + 1 :] = table[at, slot:-1].copy()
            view[at, slot], uv[at, slot], margin[at, slot] = number, relative[better], inset[better]
            seen, relative, inset = seen[~better], relative[~better], inset[~better]
    return view, uv
