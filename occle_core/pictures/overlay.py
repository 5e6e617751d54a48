# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Voxels drawn into the camera's image."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from occle_core.geometry.camera import Camera
from occle_core.geometry.grid import VoxelGrid
from occle_core.pictures.faces import blend_layer, draw_faces, shade_faces, voxel_faces
from occle_core.taxonomy import Taxonomy


def overlay(
    image: NDArray[np.uint8],
    camera: Camera,
    labels: NDArray[np.uint8],
    grid: VoxelGrid,
    taxonomy: Taxonomy,
    T_grid_lidar: NDArray[np.float64],
    alpha: float = 0.55,
) -> NDArray[np.uint8]:
    """The camera's image with the occupied voxels it looks at, half transparent, in their class colours.

    Args:
        image: (H, W, 3) uint8 RGB.
        camera: the image's camera.
        labels: (X, Y, Z) class ids; free and unknown cells are not drawn.
        T_grid_lidar: (4, 4), maps LiDAR points into the grid frame.
        alpha: opacity of the voxels, 0..1.

    Returns:
        (H, W, 3) uint8 RGB.

    Raises:
        ValueError: the image is not the camera's, or the labels do not fit the grid or the taxonomy.
    """
    if image.shape != (camera.height, camera.width, 3):
        raise ValueError(f"the image is {image.shape}, but its camera makes ({camera.height}, {camera.width}, 3)")
    seen_from_grid = Camera(camera.K, camera.T_camera_lidar @ np.linalg.inv(T_grid_lidar), camera.width, camera.height)
    faces = voxel_faces(labels, grid, taxonomy, seen_from_grid.position)
    return blend_layer(image, draw_faces(shade_faces(faces), seen_from_grid, grid), alpha)


def viewing_order(camera: Camera, T_grid_lidar: NDArray[np.float64]) -> tuple[bool, float]:
    """Sort key: cameras that look ahead before those that look back, each row from the left side to the right side."""
    x, y, _ = T_grid_lidar[:3, :3] @ camera.T_camera_lidar[2, :3]
    azimuth = float(np.degrees(np.arctan2(y, x)))
    return (abs(azimuth) > 90, azimuth % 360 if abs(azimuth) > 90 else -azimuth)
