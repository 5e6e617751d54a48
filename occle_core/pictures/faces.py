# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Visible faces of voxels: culling, shading, and drawing in depth order."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from occle_core.geometry.camera import Camera
from occle_core.geometry.grid import VoxelGrid
from occle_core.geometry.raycast import cast
from occle_core.taxonomy import Taxonomy

Floats = NDArray[np.float64]

SUN = np.array([-0.48, -0.36, 0.8])  # towards the light, grid frame, unit length: behind, right and above
AMBIENT = 0.66  # brightness without the sun
CREASE = 0.3  # how much darker a face is whose surroundings are all filled
EDGE = 0.78  # brightness of a face's border
NEAREST = 0.1  # metres in front of the camera; what comes nearer is not drawn
SAMPLES = 2  # drawn this many times as large and averaged down: smooth edges
SHIFT = 4  # corners are given to OpenCV in 1/16 pixel


@dataclass(frozen=True, eq=False)
class Faces:
    """F squares or rectangles, each the boundary of something that fits into one cell.

    Args:
        corners: (F, 4, 3) metres, grid frame, in order around the face.
        normals: (F, 3) outward, unit length.
        cells: (F, 3) int, the cell that holds the face's body; may lie outside the grid.
        colors: (F, 3) RGB 0..255.
    """

    corners: Floats
    normals: Floats
    cells: NDArray[np.int64]
    colors: Floats

    def __add__(self, other: Faces) -> Faces:
        return Faces(
            np.concatenate([self.corners, other.corners]),
            np.concatenate([self.normals, other.normals]),
            np.concatenate([self.cells, other.cells]),
            np.concatenate([self.colors, other.colors]),
        )


def solid_cells(labels: NDArray[np.uint8], grid: VoxelGrid, taxonomy: Taxonomy) -> NDArray[np.bool_]:
    """(X, Y, Z) bool: cells to draw, neither free nor unknown.

    Raises:
        ValueError: the labels do not fit the grid or the taxonomy.
    """
    labels = np.asarray(labels)
    if labels.shape != grid.shape:
        raise ValueError(f"the labels' shape {labels.shape} is not the grid's {grid.shape}")
    solid = np.asarray((labels != taxonomy.free) & (labels != taxonomy.ignore))
    if solid.any() and labels[solid].max() >= taxonomy.num_classes:
        raise ValueError(f"label {labels[solid].max()} is not a class of {taxonomy.name} (0..{taxonomy.num_classes - 1})")
    return solid


def voxel_faces(labels: NDArray[np.uint8], grid: VoxelGrid, taxonomy: Taxonomy, eye: Floats) -> Faces:
    """The sides of occupied cells that are turned towards `eye` (3,) (grid frame, metres) and not covered by a neighbour.

    Colours are the classes', darker in creases between cells, not yet lit.
    """
    solid = solid_cells(labels, grid, taxonomy)
    padded = np.pad(solid, 2)
    flat, strides = padded.reshape(-1), np.array([padded.shape[1] * padded.shape[2], padded.shape[2], 1])
    eye_in_cells = (eye - np.asarray(grid.origin)) / grid.resolution
    parts = []
    for axis in range(3):
        u, v = (np.eye(3, dtype=np.int64)[(axis + n) % 3] for n in (1, 2))
        for sign in (-1, 1):
            normal = sign * np.eye(3, dtype=np.int64)[axis]
            covered = np.roll(padded, -sign, axis=axis)[2:-2, 2:-2, 2:-2]
            cells = np.argwhere(solid & ~covered)
            plane = cells[:, axis] + (sign > 0)
            cells = cells[(eye_in_cells[axis] - plane) * sign > 0]
            ahead = (cells + normal + 2) @ strides
            around = [(a * u + b * v) @ strides for a in (-1, 0, 1) for b in (-1, 0, 1) if a or b]
            filled = sum((flat[ahead + step].astype(np.float64) for step in around), np.zeros(len(cells))) / len(around)
            colors = taxonomy.colors[labels[tuple(cells.T)]] * (1 - CREASE * filled)[:, None]
            square = np.array([0 * u, u, u + v, v]) + np.maximum(normal, 0)
            corners = (cells[:, None] + square) * grid.resolution + np.asarray(grid.origin)
            parts.append(Faces(corners, np.tile(normal.astype(np.float64), (len(cells), 1)), cells, colors))
    faces = parts[0]
    for part in parts[1:]:
        faces = faces + part
    return faces


def shade_faces(faces: Faces, shade: NDArray[np.bool_] | None = None, grid: VoxelGrid | None = None) -> Faces:
    """The faces under the sun; with `shade` (X, Y, Z) bool and its grid, the cells that are True there cast shadows."""
    sun = np.maximum(faces.normals @ SUN, 0)
    if shade is not None and grid is not None:
        start = faces.corners.mean(axis=1) + faces.normals * (0.01 * grid.resolution)
        turned = np.flatnonzero(sun > 0)
        sun[turned[cast(grid, shade, start[turned], np.tile(SUN, (len(turned), 1))).hit]] = 0
    return Faces(faces.corners, faces.normals, faces.cells, faces.colors * (AMBIENT + (1 - AMBIENT) * sun)[:, None])


def draw_faces(faces: Faces, camera: Camera, grid: VoxelGrid) -> NDArray[np.uint8]:
    """Draw the faces as a camera sees them, (H, W, 4) uint8: RGB, black where there is nothing, and coverage 0..255.

    The camera's `T_camera_lidar` must map from the grid frame. Farther cells are drawn first, by the sum of their distances
    along x, y and z: a cell can hide another only if it is nearer along every axis, so that this order is always right.
    """
    height, width = camera.height * SAMPLES, camera.width * SAMPLES
    layer = np.zeros((height, width, 4), np.uint8)
    uv, depth, _ = camera.resized(width, height).project(faces.corners.reshape(-1, 3))
    uv, depth = uv.reshape(-1, 4, 2), depth.reshape(-1, 4)
    low, high = uv.min(axis=1), uv.max(axis=1)
    drawable = (depth > NEAREST).all(axis=1) & (high > 0).all(axis=1) & (low < (width, height)).all(axis=1)
    eye_cell = np.floor((camera.position - np.asarray(grid.origin)) / grid.resolution)
    distance = np.abs(faces.cells - eye_cell).sum(axis=1)
    order = np.flatnonzero(drawable)
    order = order[np.argsort(-distance[order], kind="stable")]

    # Far outside the picture a corner's exact place does not matter, but it must fit OpenCV's fixed-point numbers.
    corners = np.round(np.clip(uv[order], -8000, 8000 + max(width, height)) * (1 << SHIFT)).astype(np.int32)
    fill = np.clip(faces.colors[order], 0, 255)
    # Borders fade where cells become small, lest the distance turn black.
    size = np.sqrt(np.prod(high[order] - low[order], axis=1))
    border = fill * (1 - (1 - EDGE) * np.clip((size - 4) / 16, 0, 1))[:, None]
    for points, inside, outline, framed in zip(corners, fill.tolist(), border.tolist(), (size > 4).tolist()):
        cv2.fillConvexPoly(layer, points, (*inside, 255.0), cv2.LINE_8, SHIFT)
        if framed:
            cv2.polylines(layer, [points], True, (*outline, 255.0), 1, cv2.LINE_8, SHIFT)
    small = cv2.resize(layer, (camera.width, camera.height), interpolation=cv2.INTER_AREA)
    return np.asarray(small, np.uint8)


def blend_layer(background: NDArray[np.uint8], layer: NDArray[np.uint8], alpha: float = 1.0) -> NDArray[np.uint8]:
    """(H, W, 3) the layer of `draw_faces` over a picture of the same size, with opacity alpha."""
    keep = 1 - layer[..., 3:] * np.float32(alpha / 255)
    return np.asarray(np.round(background * keep + layer[..., :3] * np.float32(alpha)), np.uint8)
