"""OccLE as one program of fixed shapes for inference engines: images, cameras and voxelised scans in, label grid out."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from occle_core.capacities import Capacities
from occle_core.nn.fold import folded
from occle_core.nn.occle import OccLE, label_grid
from occle_core.nn.occle_inputs import POINT_FEATURES, OccleInputs, Scan
from occle_core.sparse.static import Budget, StaticCoordinates

INPUTS = ("images", "projections", "points", "voxel", "table", "cells", "count")
OUTPUTS = ("labels", "confidence", "counts")


class OccleProgram(nn.Module):
    """The network in its static form, for one sample.

    Args:
        network: the network; the program holds a copy with folded batch norms.
        capacities: points per scan, and rows of the network's sets; all scans have as many rows as the first.
        free: id of the free class.
    """

    def __init__(self, network: OccLE, capacities: Capacities, free: int) -> None:
        super().__init__()
        self.network = folded(network)
        self.capacities, self.free = capacities, free
        self.center = sensor_cell(network)

    def forward(
        self, images: Tensor, projections: Tensor, points: Tensor, voxel: Tensor, table: Tensor, cells: Tensor, count: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Predict; the arguments are those of `pad`.

        Returns:
            labels (X, Y, Z) uint8, confidence (X, Y, Z) float16, counts (sets,) int32: cells that each set had to hold.
        """
        budget = Budget(list(self.capacities.sets.values()), self.center)
        frames = range(self.network.config.frames)
        scans = [Scan(points[f], voxel[f], table[f], cells[f], count[f]) for f in frames]
        sets = [StaticCoordinates.from_cells(cells[f], count[f], self.network.grid.shape, budget) for f in frames]
        labels, confidence = label_grid(self.network(OccleInputs(images, projections, scans), sets), self.free)
        return labels[0], confidence[0], torch.cat(budget.counts)

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


def pad(
    inputs: OccleInputs, capacities: Capacities, center: tuple[float, float]
) -> tuple[dict[str, NDArray[np.generic]], dict[str, int]]:
    """One sample's inputs in a program's shapes; the farthest voxels are left out where they or their points do not fit.

    Args:
        inputs: one sample.
        capacities: of the program.
        center: see `sensor_cell`.

    Returns:
        images (1, F, V, H, W, 3) uint8, projections (1, F, V, 3, 4) float32, and per frame points (F, P, 7) float32, voxel (F, P)
        int32, table (F, N, K) int32, cells (F, N, 3) int32, count (F, 1) int32, by name; and how many voxels were left out,
        {"voxels.0": ...} without zeros.
    """
    if inputs.batch_size != 1:
        raise ValueError(f"a program takes one sample, not {inputs.batch_size}")
    padded = [_padded(scan, capacities, center) for scan in inputs.scans]
    arrays = {name: np.stack([part[name] for part in padded]) for name in INPUTS[2:]}
    lost = {f"voxels.{f}": len(scan.coords) - int(part["count"][0]) for f, (scan, part) in enumerate(zip(inputs.scans, padded))}
    images = {"images": inputs.images.numpy(), "projections": inputs.projections.numpy()}
    return images | arrays, {name: count for name, count in lost.items() if count}


def sensor_cell(network: OccLE) -> tuple[float, float]:
    """Where the grid frame's origin, and so about the sensor, lies in the grid: x, y in cells."""
    return (-network.grid.origin[0] / network.grid.resolution, -network.grid.origin[1] / network.grid.resolution)


def _padded(scan: Scan, capacities: Capacities, center: tuple[float, float]) -> dict[str, NDArray[np.generic]]:
    rows, voxels = capacities.points, capacities.voxels
    cells, table = scan.coords[:, 1:].numpy(), scan.table.numpy()
    filled = table < len(scan.points)
    distance = np.hypot(cells[:, 0] + 0.5 - center[0], cells[:, 1] + 0.5 - center[1])
    order = np.argsort(distance, kind="stable")
    fitting = int(np.searchsorted(np.cumsum(filled[order].sum(1)), rows, side="right"))
    order = order[: min(voxels, fitting)]
    filled = filled[order]
    kept = table[order][filled]
    out: dict[str, NDArray[np.generic]] = {
        "points": np.zeros((rows, POINT_FEATURES), np.float32),
        "voxel": np.full(rows, voxels, np.int32),
        "table": np.full((voxels, table.shape[1]), rows, np.int32),
        "cells": np.zeros((voxels, 3), np.int32),
        "count": np.array([len(order)], np.int32),
    }
    out["points"][: len(kept)] = scan.points.numpy()[kept]
    out["voxel"][: len(kept)] = np.nonzero(filled)[0]
    out["table"][: len(order)][filled] = np.arange(len(kept))
    out["cells"][: len(order)] = cells[order]
    return out
