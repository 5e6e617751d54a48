"""OccLE as one program of fixed shapes: images, cameras and voxelised scans in, label grid out."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from occle_core.capacities import Capacities
from occle_core.engines.padding import Arrays, pad_scan
from occle_core.nn.fold import folded
from occle_core.nn.occle import OccLE, label_grid
from occle_core.nn.occle_inputs import POINT_FEATURES, OccleInputs, Scan
from occle_core.sparse.static import Budget, StaticCoordinates


class OccleProgram(nn.Module):
    """The network in its static form, for one sample.

    Args:
        network: the network; the program holds a copy with folded batch norms.
        capacities: points per scan, and rows of the network's sets; all scans have as many rows as the first.
        free: id of the free class.
        center: where the sensor is in the grid, x and y in cells.
    """

    INPUTS = ("images", "projections", "points", "voxel", "table", "cells", "count")

    def __init__(self, network: OccLE, capacities: Capacities, free: int, center: tuple[float, float]) -> None:
        super().__init__()
        self.network = folded(network)
        self.capacities, self.free, self.center = capacities, free, center

    def forward(
        self, images: Tensor, projections: Tensor, points: Tensor, voxel: Tensor, table: Tensor, cells: Tensor, count: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Predict; the arguments are those of `padded`.

        Returns:
            labels (1, X, Y, Z) uint8, confidence (1, X, Y, Z) float16, counts (sets,) int32: cells that each set had to hold.
        """
        budget = Budget(list(self.capacities.sets.values()), self.center)
        frames = range(self.network.config.frames)
        scans = [Scan(points[f], voxel[f], table[f], cells[f], count[f]) for f in frames]
        sets = [StaticCoordinates.from_cells(cells[f], count[f], self.network.shape, budget) for f in frames]
        # TensorRT knows uint8 only at its borders: nothing can be selected before the cast, and nothing can follow the labels'.
        inputs = OccleInputs(images.float(), projections, scans)
        labels, confidence = label_grid(self.network(inputs, sets), self.free)
        return labels, confidence, torch.cat(budget.counts)

    def example(self) -> tuple[Tensor, ...]:
        """Inputs of the right shapes without any voxel, to trace with."""
        config, points, voxels = self.network.config, self.capacities.points, self.capacities.voxels
        frames, views = config.frames, config.cameras
        return (
            torch.zeros(1, frames, views, config.height, config.width, 3, dtype=torch.uint8),
            torch.zeros(1, frames, views, 3, 4),
            torch.zeros(frames, points, POINT_FEATURES),
            torch.full((frames, points), voxels, dtype=torch.int32),
            torch.full((frames, voxels, config.scan.max_points), points, dtype=torch.int32),
            torch.zeros(frames, voxels, 3, dtype=torch.int32),
            torch.zeros(frames, 1, dtype=torch.int32),
        )


def padded(inputs: OccleInputs, capacities: Capacities, center: tuple[float, float]) -> Arrays:
    """One sample's inputs in a program's shapes.

    Returns:
        images (1, F, V, H, W, 3) uint8, projections (1, F, V, 3, 4) float32, and of the F frames' scans points (F, P, 7)
        float32, voxel (F, P) int32, table (F, N, K) int32, cells (F, N, 3) int32, count (F, 1) int32.
    """
    scans = [_padded(scan, capacities, center) for scan in inputs.scans]
    stacked = {name: np.stack([scan[name] for scan in scans]) for name in scans[0]}
    return {"images": inputs.images.numpy(), "projections": inputs.projections.numpy(), **stacked}


def _padded(scan: Scan, capacities: Capacities, center: tuple[float, float]) -> Arrays:
    features = {"points": (scan.points.numpy(), 0)}
    return pad_scan(features, scan.voxel.numpy(), scan.table.numpy(), scan.coords[:, 1:].numpy(), capacities, center)
