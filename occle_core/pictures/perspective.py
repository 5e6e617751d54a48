# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Perspective view of the voxels from behind and above the vehicle."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from occle_core.geometry.camera import Camera
from occle_core.geometry.grid import VoxelGrid
from occle_core.pictures.faces import Floats, blend_layer, draw_faces, shade_faces, solid_cells, voxel_faces
from occle_core.pictures.vehicle import car_faces
from occle_core.taxonomy import Taxonomy

SKY_TOP, SKY_BOTTOM = (205, 220, 236), (246, 248, 250)
FLOOR, LINES = (226, 229, 233), (200, 205, 211)
FIELD_OF_VIEW = 40.0  # degrees, vertical
LINE_EVERY = 10.0  # metres
FILLING = 1.12  # the grid's width over the picture's: its left and right corners, seldom filled, may be cut off


def perspective(
    labels: NDArray[np.uint8],
    grid: VoxelGrid,
    taxonomy: Taxonomy,
    width: int = 960,
    height: int = 600,
    azimuth: float = 16.0,
    elevation: float = 30.0,
) -> NDArray[np.uint8]:
    """A shaded view of the whole grid from behind and above, with shadows, a floor with 10 m lines and a car at the origin.

    The viewpoint depends on the grid only: pictures of prediction and truth can be compared.

    Args:
        labels: (X, Y, Z) class ids; free and unknown cells are not drawn.
        width: of the picture, pixels.
        height: of the picture, pixels.
        azimuth: the viewer stands this many degrees to the right of straight behind the car.
        elevation: degrees above the ground.

    Returns:
        (height, width, 3) uint8 RGB.

    Raises:
        ValueError: the labels do not fit the grid or the taxonomy.
    """
    solid = solid_cells(labels, grid, taxonomy)
    camera = _viewpoint(grid, width, height, np.deg2rad(azimuth), np.deg2rad(elevation))
    faces = voxel_faces(labels, grid, taxonomy, camera.position) + car_faces(solid, grid, camera.position)
    return blend_layer(_table(grid, camera), draw_faces(shade_faces(faces, solid, grid), camera, grid))


def _viewpoint(grid: VoxelGrid, width: int, height: int, azimuth: float, elevation: float) -> Camera:
    """The camera that sees the grid's box as large as the picture allows; `T_camera_lidar` maps from the grid frame."""
    ahead = np.array([np.cos(elevation) * np.cos(azimuth), np.cos(elevation) * np.sin(azimuth), -np.sin(elevation)])
    right = np.cross(ahead, (0.0, 0.0, 1.0))
    right /= np.linalg.norm(right)
    rotation = np.stack([right, np.cross(ahead, right), ahead])
    low, high = np.array(grid.origin), np.array(grid.upper)
    high[2] = low[2] + 0.8 * (high[2] - low[2])  # little is as high as the grid: let it stick out rather than waste space
    box = np.array([[(low, high)[b][a] for a, b in enumerate(bits)] for bits in np.ndindex(2, 2, 2)])
    middle = box.mean(axis=0)
    focal = 0.5 * height / np.tan(np.deg2rad(FIELD_OF_VIEW) / 2)
    K = np.array([[focal, 0, (width - 1) / 2], [0, focal, (height - 1) / 2], [0, 0, 1]])

    def at(distance: float, shift: Floats) -> Camera:
        pose = np.eye(4)
        pose[:3, :3] = rotation
        pose[:3, 3] = -rotation @ (middle - distance * ahead)
        intrinsics = K.copy()
        intrinsics[:2, 2] += shift
        return Camera(intrinsics, pose, width, height)

    # From far away, approach while the box still fits; shifting the picture's centre keeps the box in its middle.
    best = at(10.0 * float(np.linalg.norm(high - low)), np.zeros(2))
    for distance in np.linspace(3.0, 0.5, 126) * float(np.linalg.norm(high - low)):
        uv, depth, _ = at(distance, np.zeros(2)).project(box)
        span = uv.max(axis=0) - uv.min(axis=0)
        if depth.min() <= 1.0 or span[0] > FILLING * width or span[1] > 0.97 * height:
            break
        best = at(distance, np.array([width - 1, height - 1]) / 2 - (uv.max(axis=0) + uv.min(axis=0)) / 2)
    return best


def _table(grid: VoxelGrid, camera: Camera) -> NDArray[np.uint8]:
    """Sky, and the grid's floor with lines."""
    fade = np.linspace(0, 1, camera.height)[:, None, None]
    rows = np.asarray(SKY_TOP) * (1 - fade) + np.asarray(SKY_BOTTOM) * fade
    picture = np.ascontiguousarray(np.broadcast_to(rows, (camera.height, camera.width, 3)).astype(np.uint8))
    (x0, y0, z), (x1, y1, _) = grid.origin, grid.upper

    def on_picture(points: list[tuple[float, float]]) -> NDArray[np.int32]:
        uv, _, _ = camera.project(np.array([(x, y, z) for x, y in points]))
        return np.round(uv * 16).astype(np.int32)

    cv2.fillConvexPoly(picture, on_picture([(x0, y0), (x1, y0), (x1, y1), (x0, y1)]), FLOOR, cv2.LINE_AA, 4)
    along_x = [((x, y0), (x, y1)) for x in np.arange(np.ceil(x0 / LINE_EVERY), x1 / LINE_EVERY + 1e-9) * LINE_EVERY]
    along_y = [((x0, y), (x1, y)) for y in np.arange(np.ceil(y0 / LINE_EVERY), y1 / LINE_EVERY + 1e-9) * LINE_EVERY]
    for start, end in along_x + along_y:
        cv2.polylines(picture, [on_picture([start, end])], False, LINES, 1, cv2.LINE_AA, 4)
    return picture
