# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Lifting from images to voxel grids and back: projection of cells (OccLE, Eq. 2), and sums of cells along rays (Eq. 5).

A camera is a 3x4 matrix that takes points of the grid frame to positions 0..1 from image border to border; all zeros where the
camera delivered nothing, so that it sees no cell.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from occle_core.geometry.camera import Camera
from occle_core.geometry.grid import VoxelGrid
from occle_core.networks.blocks.bilinear import sample_bilinear
from occle_core.sparse import SparseTensor
from occle_core.sparse.coordinates import take
from occle_core.taxonomy import IGNORE


def grid_centers(grid: VoxelGrid) -> Tensor:
    """(X * Y * Z, 3) float32 centres of all cells in C order, grid frame, metres."""
    return torch.from_numpy(_centers(grid).copy())


def projection(camera: Camera, T_lidar_grid: NDArray[np.float64]) -> NDArray[np.float32]:
    """(3, 4) matrix of a camera: grid frame, metres -> (0..1, 0..1, 1) * depth. Eq. 2's K T, scaled to the image.

    Args:
        camera: the camera.
        T_lidar_grid: (4, 4), maps points of the grid frame into the LiDAR frame that the camera is fixed to.
    """
    scale = np.diag([1 / camera.width, 1 / camera.height, 1.0])
    # Integer pixels are pixel centres, half a pixel from the border.
    scale[:2, 2] = 0.5 / camera.width, 0.5 / camera.height
    return np.asarray(scale @ camera.K @ (camera.T_camera_lidar @ T_lidar_grid)[:3], np.float32)


def project(projections: Tensor, points: Tensor) -> tuple[Tensor, Tensor]:
    """Project points into images (Eq. 2, second line).

    Args:
        projections: (..., 3, 4) cameras.
        points: (M, 3) grid frame, metres.

    Returns:
        uv (..., M, 2), 0..1 from border to border where visible, and visible (..., M) bool: depth > 0 and inside the image.
    """
    # Written out: autocast and TF32 round matrix products to 8 and 10 bits, which moves a point by several pixels.
    x, y, z, shift = projections.unsqueeze(-3).unbind(-1)
    pixels = points[:, :1] * x + points[:, 1:2] * y + points[:, 2:] * z + shift
    depth = pixels[..., 2:]
    ahead = depth > 1e-3
    uv = pixels[..., :2] / torch.where(ahead, depth, 1.0)
    inside = ((uv >= 0) & (uv < 1)).all(-1)
    return uv, inside & ahead.squeeze(-1)


def lift(maps: Tensor, projections: Tensor, centers: Tensor) -> Tensor:
    """Image features at the centres of cells, from the camera that sees each one farthest from its border (Eq. 2 for features).

    Args:
        maps: (B, V, C, H, W) feature maps.
        projections: (B, V, 3, 4) their cameras.
        centers: (M, 3) cells, grid frame, metres.

    Returns:
        (B, M, C); zeros where no camera sees the cell.
    """
    (batch, views), count = maps.shape[:2], centers.shape[0]
    uv, visible = project(projections, centers)
    view = torch.arange(batch, device=maps.device).view(batch, 1) * views
    if views == 1:
        view, uv, seen = view.expand(batch, count), uv[:, 0], visible[:, 0]
    else:
        inset = torch.where(visible, torch.minimum(uv, 1 - uv).amin(-1), -1.0)
        best = inset.argmax(1)
        seen = visible.any(1)
        uv = torch.gather(uv, 1, best[:, None, :, None].expand(batch, 1, count, 2))[:, 0]
        view = view + best
    view = torch.where(seen, view, batch * views).reshape(-1, 1)
    # What is not seen may lie anywhere; its sample is not used.
    samples = sample_bilinear(maps.flatten(0, 1), view, torch.where(seen[..., None], uv, 0.0).reshape(-1, 1, 2))
    return samples.view(batch, count, -1)


def lift_labels(labels: Tensor, projections: Tensor, centers: Tensor) -> Tensor:
    """Labels of the pixels that the centres of cells fall on (Eq. 2 for labels: the nearest pixel).

    Args:
        labels: (B, V, H, W) uint8 class ids, 255 unlabelled.
        projections: (B, V, 3, 4) their cameras.
        centers: (M, 3) grid frame, metres.

    Returns:
        (B, M) uint8; 255 where no camera sees the cell. Where several do, the first one with a label counts.
    """
    (batch, views), (height, width) = labels.shape[:2], labels.shape[2:]
    uv, visible = project(projections, centers)
    pixel = _pixel(uv, height, width)
    out = torch.full((batch, centers.shape[0]), IGNORE, dtype=torch.uint8, device=labels.device)
    for view in range(views):
        found = torch.gather(labels[:, view].flatten(1), 1, torch.where(visible[:, view], pixel[:, view], 0))
        out = torch.where(visible[:, view] & (out == IGNORE), found, out)
    return out


def scatter_accumulate(features: Tensor, projections: Tensor, centers: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Sums of the features of all cells whose centres fall on a pixel (OccLE, Eq. 5). For training: it needs index_add.

    Args:
        features: (B, C, M) of the cells.
        projections: (B, V, 3, 4) cameras.
        centers: (M, 3) grid frame, metres.
        height, width: pixels of the maps.

    Returns:
        maps (B, V, C, height, width), and (B, V, height, width) int64 how many cells fell on each pixel.
    """
    (batch, channels, cells), views = features.shape, projections.shape[1]
    uv, visible = project(projections, centers)
    place = torch.where(visible, _pixel(uv, height, width), height * width)
    offset = torch.arange(batch * views, device=features.device).view(batch, views, 1) * (height * width + 1)
    place = (place + offset).reshape(-1)
    rows = features.transpose(1, 2)[:, None].expand(batch, views, cells, channels).reshape(-1, channels)
    total = rows.new_zeros(batch * views * (height * width + 1), channels).index_add(0, place, rows)
    count = torch.bincount(place, minlength=len(total)).view(batch, views, -1)[..., :-1]
    maps = total.view(batch, views, -1, channels)[:, :, :-1].transpose(2, 3)
    return maps.reshape(batch, views, channels, height, width), count.view(batch, views, height, width)


def densify(x: SparseTensor) -> Tensor:
    """(B, C, X, Y, Z) with zeros in inactive cells: one gather of rows, which inference engines have too."""
    sx, sy, sz = (n + 2 for n in x.shape)
    table = x.coordinates.table[: x.coordinates.cells].view(x.batch_size, sx, sy, sz)[:, 1:-1, 1:-1, 1:-1]
    rows = take(x.features, table.reshape(-1))
    return rows.view(x.batch_size, *x.shape, -1).permute(0, 4, 1, 2, 3)


def _pixel(uv: Tensor, height: int, width: int) -> Tensor:
    """(..., 2) positions 0..1 -> (...) int64 numbers of the pixels that they lie in, in row order."""
    column = (uv[..., 0] * width).floor().clamp(0, width - 1).long()
    row = (uv[..., 1] * height).floor().clamp(0, height - 1).long()
    return row * width + column


@cache
def _centers(grid: VoxelGrid) -> NDArray[np.float32]:
    return grid.centers(np.indices(grid.shape).reshape(3, -1).T)
