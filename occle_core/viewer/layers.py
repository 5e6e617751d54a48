# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Voxel layers of a frame: prediction, truth and map as lists of cells."""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from occle_core.geometry.grid import VoxelGrid
from occle_core.viewer.view_frame import ViewFrame

LEVELS = 16
"""Steps of opacity that the page stores."""
UNNAMED, UNNAMED_COLOR = "no class yet", (128, 128, 128)
"""Legend entry of the map's occupied cells that no network has named."""


@dataclass(frozen=True, eq=False)
class Layer:
    """N voxels to draw.

    Args:
        grid: of the cells: the occupancy's, in its frame, or the map's, in the world.
        cells: (N,) ascending cell numbers, C order of the grid.
        labels: (N,) uint8 class ids, 255 for an occupied cell of no class.
        opacity: (N,) float32 in 0..1: confidence of the class, or probability of occupancy in the map.
    """

    grid: VoxelGrid
    cells: NDArray[np.intp]
    labels: NDArray[np.uint8]
    opacity: NDArray[np.float32]


def layers_of(shown: ViewFrame) -> dict[str, Layer]:
    """The layers of a frame: "frame" (the prediction), and "map" and "truth" where there are any."""
    occupancy = shown.occupancy
    occupied = np.flatnonzero(occupancy.occupied)
    labels, confidence = occupancy.labels.reshape(-1)[occupied], occupancy.confidence.reshape(-1)[occupied]
    layers = {"frame": Layer(occupancy.grid, occupied, labels, confidence.astype(np.float32))}
    if shown.map is not None:
        _, labels, probability = shown.map.voxels()
        layers["map"] = Layer(shown.map.grid, np.flatnonzero(shown.map.occupied), labels, probability)
    if shown.truth is not None:
        taxonomy = occupancy.taxonomy
        cells = np.flatnonzero((shown.truth != taxonomy.free) & (shown.truth != taxonomy.ignore))
        layers["truth"] = Layer(occupancy.grid, cells, shown.truth.reshape(-1)[cells], np.ones(len(cells), np.float32))
    return layers


def pack_layer(layer: Layer) -> bytes:
    """zlib of: one bit per cell of the grid (lowest bit first), the labels, and the opacity in steps of 1 / (LEVELS - 1)."""
    mask = np.zeros(layer.grid.size, np.bool_)
    mask[layer.cells] = True
    opacity = np.nan_to_num(np.clip(layer.opacity, 0, 1))
    levels = np.round(opacity * (LEVELS - 1)).astype(np.uint8)
    return zlib.compress(np.packbits(mask, bitorder="little").tobytes() + layer.labels.tobytes() + levels.tobytes(), 7)


def surface_cells(layer: Layer) -> NDArray[np.bool_]:
    """(N,) bool: which voxels have a side that no other voxel of the layer covers; the others cannot be seen."""
    x, y, z = layer.grid.shape
    solid = np.zeros((x + 2, y + 2, z + 2), np.bool_)
    inside = solid[1:-1, 1:-1, 1:-1]
    i, j, k = np.unravel_index(layer.cells, layer.grid.shape)
    inside[i, j, k] = True
    covered = np.ones(len(layer.cells), np.bool_)
    for axis in range(3):
        for step in (-1, 1):
            a, b, c = (v + 1 + step * (axis == n) for n, v in enumerate((i, j, k)))
            covered &= solid[a, b, c]
    return ~covered
