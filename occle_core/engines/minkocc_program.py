"""MinkOcc as one program of fixed shapes: images, points and where they fall in, label grid out."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from occle_core.capacities import Capacities
from occle_core.config import NetworkConfig
from occle_core.engines.padding import Arrays, pad_scan
from occle_core.inputs import POINT_FEATURES, Inputs
from occle_core.nn.fold import folded
from occle_core.nn.minkocc import MinkOcc, label_grid
from occle_core.sparse.static import Budget, StaticCoordinates


class MinkOccProgram(nn.Module):
    """The network in its static form, for one frame.

    Args:
        network: the network; the program holds a copy with folded batch norms.
        config: its sizes.
        capacities: rows of all tables.
        free: id of the free class.
        center: where the sensor is in the grid, x and y in cells.
    """

    INPUTS = ("images", "points", "view", "uv", "voxel", "table", "cells", "count")

    def __init__(
        self, network: MinkOcc, config: NetworkConfig, capacities: Capacities, free: int, center: tuple[float, float]
    ) -> None:
        super().__init__()
        self.network = folded(network)
        self.config, self.capacities, self.free, self.center = config, capacities, free, center

    def forward(
        self, images: Tensor, points: Tensor, view: Tensor, uv: Tensor, voxel: Tensor, table: Tensor, cells: Tensor, count: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Predict; the arguments are those of `padded`.

        Returns:
            labels (1, X, Y, Z) uint8, confidence (1, X, Y, Z) float16, counts (sets,) int32: cells that each set had to hold.
            The batch axis stays, because TensorRT knows uint8 only at its borders: nothing can follow the cast.
        """
        budget = Budget(list(self.capacities.sets.values()), self.center)
        coordinates = StaticCoordinates.from_cells(cells, count, self.network.shape, budget)
        inputs = Inputs(images, points, view, uv, voxel, table, cells)
        labels, confidence = label_grid(self.network(inputs, coordinates=coordinates).classes, self.free)
        return labels, confidence, torch.cat(budget.counts)

    def example(self) -> tuple[Tensor, ...]:
        """Inputs of the right shapes without any voxel, to trace with."""
        points, voxels = self.capacities.points, self.capacities.voxels
        image, views = self.config.image, self.config.points.max_views
        return (
            torch.zeros(1, image.cameras, image.height, image.width, 3, dtype=torch.uint8),
            torch.zeros(points, POINT_FEATURES),
            torch.full((points, views), image.cameras, dtype=torch.int32),
            torch.zeros(points, views, 2),
            torch.full((points,), voxels, dtype=torch.int32),
            torch.full((voxels, self.config.points.max_points), points, dtype=torch.int32),
            torch.zeros(voxels, 3, dtype=torch.int32),
            torch.zeros(1, dtype=torch.int32),
        )


def padded(inputs: Inputs, capacities: Capacities, center: tuple[float, float]) -> Arrays:
    """One frame's inputs in a program's shapes.

    Returns:
        images (1, V, H, W, 3) uint8, points (P, 10) float32, view (P, M) int32, uv (P, M, 2) float32, voxel (P,) int32, table
        (N, K) int32, cells (N, 3) int32, count (1,) int32; what stands for "none" is as in `Inputs`, with the capacities P and N.
    """
    features = {
        "points": (inputs.points.numpy(), 0),
        "view": (inputs.view.numpy().astype(np.int32), inputs.images.shape[1]),
        "uv": (inputs.uv.numpy(), 0),
    }
    cells = inputs.coords[:, 1:].numpy()
    scan = pad_scan(features, inputs.voxel.numpy(), inputs.table.numpy(), cells, capacities, center)
    return {"images": inputs.images.numpy(), **scan}
