"""The whole network as one program of fixed shapes: images, points and where they fall in, label grid out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from occle_core.bundle import BundleSpec
from occle_core.capacities import Capacities
from occle_core.inputs import POINT_FEATURES, Inputs
from occle_core.nn.fold import folded
from occle_core.nn.minkocc import MinkOcc, label_grid
from occle_core.sparse.static import Budget, StaticCoordinates
from occle_core.taxonomy import load as load_taxonomy

INPUTS = ("images", "points", "view", "uv", "voxel", "table", "cells", "count")
OUTPUTS = ("labels", "confidence", "counts")


class Program(nn.Module):
    """A network in its static form, for one frame.

    Args:
        spec: the bundle's spec.
        network: its network; the program holds a copy with folded batch norms.
        capacities: rows of all tables.
    """

    def __init__(self, spec: BundleSpec, network: MinkOcc, capacities: Capacities) -> None:
        super().__init__()
        self.network = folded(network)
        self.capacities = capacities
        self.image = spec.network.image
        self.table_shape = (capacities.voxels, spec.network.points.max_points)
        self.views = spec.network.points.max_views
        self.free = load_taxonomy(spec.taxonomy).free
        self.center = sensor_cell(spec)

    def forward(
        self, images: Tensor, points: Tensor, view: Tensor, uv: Tensor, voxel: Tensor, table: Tensor, cells: Tensor, count: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Predict; the arguments are those of `StaticInputs`.

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
        image = self.image
        return (
            torch.zeros(1, image.cameras, image.height, image.width, 3, dtype=torch.uint8),
            torch.zeros(points, POINT_FEATURES),
            torch.full((points, self.views), image.cameras, dtype=torch.int32),
            torch.zeros(points, self.views, 2),
            torch.full((points,), voxels, dtype=torch.int32),
            torch.full(self.table_shape, points, dtype=torch.int32),
            torch.zeros(voxels, 3, dtype=torch.int32),
            torch.zeros(1, dtype=torch.int32),
        )


@dataclass
class StaticInputs:
    """One frame's inputs, padded to a program's capacities.

    Attributes:
        arrays: images (1, V, H, W, 3) uint8, points (P, 10) float32, view (P, M) int32, uv (P, M, 2) float32, voxel (P,)
            int32, table (N, K) int32, cells (N, 3) int32, count (1,) int32; what stands for "none" is as in `Inputs`, with
            the capacities P and N.
        overflow: what did not fit: {"points": ..., "voxels": ...}, without zeros.
    """

    arrays: dict[str, NDArray[np.generic]]
    overflow: dict[str, int]


def pad(inputs: Inputs, capacities: Capacities, center: tuple[float, float]) -> StaticInputs:
    """One frame's inputs in a program's shapes; the farthest voxels and points are left out where they do not fit."""
    if inputs.batch_size != 1:
        raise ValueError(f"a program takes one frame, not {inputs.batch_size}")
    arrays = {name: getattr(inputs, name).numpy() for name in ("images", "points", "view", "uv", "voxel", "table")}
    cells, none = inputs.coords[:, 1:].numpy(), len(inputs.points)
    rows, voxels = capacities.points, capacities.voxels
    overflow = {"points": max(0, none - rows), "voxels": max(0, len(cells) - voxels)}
    overflow = {name: count for name, count in overflow.items() if count}
    if overflow:
        arrays, cells = _nearest(arrays, cells, capacities, center)
    kept, filled = len(arrays["points"]), len(cells)
    table = np.full((voxels, arrays["table"].shape[1]), rows, np.int32)
    table[:filled] = np.where(arrays["table"] == kept, rows, arrays["table"])
    padded = {
        "images": arrays["images"],
        "points": _padded(arrays["points"], rows, 0),
        "view": _padded(arrays["view"].astype(np.int32), rows, inputs.images.shape[1]),
        "uv": _padded(arrays["uv"], rows, 0),
        "voxel": _padded(arrays["voxel"].astype(np.int32), rows, voxels),
        "table": table,
        "cells": _padded(cells.astype(np.int32), voxels, 0),
        "count": np.array([filled], np.int32),
    }
    return StaticInputs(padded, overflow)


def sensor_cell(spec: BundleSpec) -> tuple[float, float]:
    """Where the grid frame's origin, and so about the sensor, lies in the grid: x, y in cells."""
    return (-spec.grid.origin[0] / spec.grid.resolution, -spec.grid.origin[1] / spec.grid.resolution)


def _nearest(
    arrays: dict[str, NDArray[np.generic]],
    cells: NDArray[np.int64],
    capacities: Capacities,
    center: tuple[float, float],
) -> tuple[dict[str, NDArray[np.generic]], NDArray[np.int64]]:
    """The nearest voxels whose points fit, from near to far."""
    table: NDArray[np.int64] = arrays["table"]  # type: ignore[assignment]
    none = len(arrays["points"])
    distance = np.hypot(cells[:, 0] + 0.5 - center[0], cells[:, 1] + 0.5 - center[1])
    order = np.argsort(distance, kind="stable")
    total = np.cumsum((table[order] < none).sum(1))
    order = order[: min(capacities.voxels, int(np.searchsorted(total, capacities.points, side="right")))]
    table = table[order]
    filled = table < none
    rows = table[filled]
    out = {name: arrays[name][rows] for name in ("points", "view", "uv")}
    out["voxel"] = np.nonzero(filled)[0]
    out["table"] = np.full(table.shape, len(rows), np.int64)
    out["table"][filled] = np.arange(len(rows))
    return {**out, "images": arrays["images"]}, cells[order]


def _padded(array: NDArray[np.generic], rows: int, fill: int) -> NDArray[np.generic]:
    out = np.full((rows, *array.shape[1:]), fill, array.dtype)
    out[: len(array)] = array
    return out
