# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Top view of the voxels."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from occle_core.geometry.grid import VoxelGrid
from occle_core.pictures.faces import solid_cells
from occle_core.pictures.vehicle import LENGTH, WIDTH
from occle_core.taxonomy import Taxonomy

BACKGROUND, LINES = (236, 238, 241), (212, 216, 221)
DARKEST = 0.72  # brightness of the lowest voxels
LINE_EVERY = 10.0  # metres


def top_view(labels: NDArray[np.uint8], grid: VoxelGrid, taxonomy: Taxonomy, size: int = 600) -> NDArray[np.uint8]:
    """Colour of the highest occupied voxel of every column, brighter with height; x points up, y to the left.

    A white arrow marks the grid frame's origin, lines every 10 m.

    Args:
        labels: (X, Y, Z) class ids; free and unknown cells are not drawn.
        size: about how long the longer side becomes, pixels (cells are whole pixels); a margin is added.

    Returns:
        (H, W, 3) uint8 RGB.

    Raises:
        ValueError: the labels do not fit the grid or the taxonomy.
    """
    solid = solid_cells(labels, grid, taxonomy)
    any_solid: NDArray[np.bool_] = np.asarray(solid.any(axis=2))
    top = grid.shape[2] - 1 - solid[:, :, ::-1].argmax(axis=2)
    label = np.take_along_axis(np.asarray(labels), top[:, :, None], axis=2)[:, :, 0]
    label[~any_solid] = 0
    height = np.where(any_solid, top, -1).astype(np.float64)
    # Light from the lower left: slopes that rise towards it are brighter, those behind a step darker.
    steps = np.clip(height - np.pad(height, ((1, 0), (0, 1)), mode="edge")[:-1, 1:], -3, 3)
    bright = DARKEST + (1 - DARKEST) * height / max(1, grid.shape[2] - 1) + 0.05 * steps
    colors = np.clip(taxonomy.colors[label] * bright[:, :, None], 0, 255).astype(np.uint8)

    pixels = max(1, round(size / max(grid.shape[:2])))
    picture = np.full((grid.shape[0] * pixels, grid.shape[1] * pixels, 3), BACKGROUND, np.uint8)
    for axis in (0, 1):
        low, high = grid.origin[axis], grid.upper[axis]
        for line in np.arange(np.ceil(low / LINE_EVERY), high / LINE_EVERY) * LINE_EVERY:
            row = min(picture.shape[axis] - 1, int((high - line) / grid.resolution * pixels))
            picture[(slice(None),) * axis + (row,)] = LINES
    cells = np.kron(any_solid[::-1, ::-1], np.ones((pixels, pixels), np.bool_))
    picture[cells] = colors[::-1, ::-1].repeat(pixels, 0).repeat(pixels, 1)[cells]
    return _with_car(picture, grid, pixels)


def _with_car(picture: NDArray[np.uint8], grid: VoxelGrid, pixels: int) -> NDArray[np.uint8]:
    """With a margin and the car's arrow, which may stand in the margin."""
    scale = pixels / grid.resolution
    margin = int(np.ceil(0.75 * LENGTH * scale))
    framed = cv2.copyMakeBorder(picture, margin, margin, margin, margin, cv2.BORDER_CONSTANT, value=BACKGROUND)
    arrow = np.array([(LENGTH / 2, 0), (-LENGTH / 2, WIDTH * 0.75), (-LENGTH / 4, 0), (-LENGTH / 2, -WIDTH * 0.75)])
    rows = margin + (grid.upper[0] - arrow[:, 0]) * scale
    columns = margin + (grid.upper[1] - arrow[:, 1]) * scale
    points = np.round(np.stack([columns, rows], axis=1) * 16).astype(np.int32)
    cv2.fillPoly(framed, [points], (255, 255, 255), cv2.LINE_AA, 4)
    cv2.polylines(framed, [points], True, (20, 20, 20), 2, cv2.LINE_AA, 4)
    return np.asarray(framed, np.uint8)
