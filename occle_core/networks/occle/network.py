# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""OccLE (Fang et al., Label-Efficient 3D Semantic Occupancy Prediction): two decoupled branches and their fusion."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from occle_core.config import OWN_VEHICLE_RADIUS
from occle_core.frame import Frame
from occle_core.geometry.grid import VoxelGrid
from occle_core.networks.blocks.fold_batch_norms import fold_batch_norms
from occle_core.networks.blocks.imagenet import IMAGE_MEAN, IMAGE_STD
from occle_core.networks.blocks.labels import classify
from occle_core.networks.blocks.padding import Arrays
from occle_core.networks.capacities import Capacities
from occle_core.networks.occle.config import FEATURE_STRIDE, OccleConfig, base, small, tiny
from occle_core.networks.occle.fusion import Fusion
from occle_core.networks.occle.geometric import GeometricBranch
from occle_core.networks.occle.inputs import POINT_FEATURES, OccleInputs, VoxelisedScan, prepare
from occle_core.networks.occle.lift import grid_centers
from occle_core.networks.occle.padding import pad
from occle_core.networks.occle.semantic import SemanticBranch, SemanticFeatures
from occle_core.networks.protocol import Network, Program, RigName, Size
from occle_core.sparse.coordinates import Coordinates
from occle_core.sparse.static import Budget, StaticCoordinates


class OccLE(Network):
    """The whole network. Training calls its branches one by one; inference calls the network, which needs sensors only.

    Args:
        config: sizes.
        num_classes: classes of the taxonomy, free included.
        grid: the voxels to predict.

    Raises:
        ValueError: the grid's or the images' sizes are no multiples of 8, which is what both UNets divide them by.
    """

    config_class = OccleConfig

    image_mean: Tensor
    image_std: Tensor
    centers: Tensor

    def __init__(self, config: OccleConfig, num_classes: int, grid: VoxelGrid) -> None:
        super().__init__()
        if config.width % 8 or config.height % 8:
            raise ValueError(f"OccLE's images need sizes that are multiples of 8, not {config.width}x{config.height}")
        if any(n % 8 for n in grid.shape):
            raise ValueError(f"OccLE's grid needs sizes that are multiples of 8, not {grid.shape}")
        self.config, self.grid = config, grid
        features = grid.coarser(FEATURE_STRIDE)
        for name, values in (("image_mean", IMAGE_MEAN), ("image_std", IMAGE_STD)):
            self.register_buffer(name, torch.tensor(values).view(3, 1, 1), persistent=False)
        self.register_buffer("centers", grid_centers(features), persistent=False)
        self.semantic = SemanticBranch(config, num_classes)
        self.geometric = GeometricBranch(config, features.shape)
        self.fusion = Fusion(config, num_classes, features.shape)

    @classmethod
    def build(cls, config: OccleConfig, num_classes: int, grid: VoxelGrid) -> OccLE:
        """As `Network.build`."""
        return cls(config, num_classes, grid)

    @staticmethod
    def preset(size: Size, rig: RigName) -> tuple[OccleConfig, int]:
        """As `Network.preset`: `base` predicts the data set's own grid, the others KITTI's volume at twice its cell size."""
        if size == "base":
            return base(rig), 1
        if rig == "nuscenes":
            return small("nuscenes") if size == "small" else tiny(6, min_range=OWN_VEHICLE_RADIUS), 1
        return small("kitti") if size == "small" else tiny(), 2

    @property
    def shape(self) -> tuple[int, int, int]:
        """Cells of the grid along x, y, z."""
        return self.grid.shape

    @property
    def set_names(self) -> dict[str, int]:
        """Names of the sets of cells that `forward` makes, in order, and their levels, 0 the finest."""
        frames = range(self.config.num_frames)
        names = {f"voxels.{frame}": 0 for frame in frames} | {
            f"semantic.{level}": level for level in range(1, len(self.config.semantic.lidar_channels))
        }
        return names | {f"geometric.{frame}": 1 for frame in frames}

    def forward(
        self,
        inputs: OccleInputs,
        coordinates: Sequence[Coordinates] | None = None,
        stage_done: Callable[[str], None] = lambda stage: None,
    ) -> Tensor:
        """Predict.

        Args:
            inputs: a batch.
            coordinates: the scans' voxels in their static form; None makes the dynamic ones.
            stage_done: called with the name of each finished stage, for timing.

        Returns:
            (B, classes, X, Y, Z) logits.
        """
        cells = self.cells(inputs) if coordinates is None else coordinates
        semantic = self.semantics(inputs, cells).grid
        stage_done("semantic")
        geometric = self.geometry(inputs, cells)
        stage_done("geometric")
        logits: Tensor = self.fusion.logits(self.fusion(semantic, geometric))
        stage_done("fusion")
        return logits

    def cells(self, inputs: OccleInputs) -> list[Coordinates]:
        """The voxels of each frame's scan, which write all sets made from them into one list of counts."""
        counts: list[int] = []
        found = []
        for scan in inputs.scans:
            cells = Coordinates.from_coords(scan.coords, self.grid.shape, inputs.batch_size)
            counts.extend(cells.counts)
            cells.counts = counts
            found.append(cells)
        return found

    def semantics(self, inputs: OccleInputs, cells: Sequence[Coordinates]) -> SemanticFeatures:
        """The semantic branch on the present frame."""
        images = self._normalised(inputs.images[:, 0])
        out: SemanticFeatures = self.semantic(images, inputs.projections[:, 0], inputs.scans[0], cells[0], self.centers)
        return out

    def geometry(self, inputs: OccleInputs, cells: Sequence[Coordinates]) -> Tensor:
        """(B, C, X, Y, Z) the geometric branch's feature grid."""
        images = self._normalised(inputs.images)
        out: Tensor = self.geometric(images, inputs.projections, inputs.scans, cells, self.centers)
        return out

    def _normalised(self, images: Tensor) -> Tensor:
        """(..., H, W, 3) uint8 -> (..., 3, H, W) float."""
        # Contiguous: with torch 2.13, narrow ResNets corrupt memory in the backward pass of channels-last images.
        return (images.movedim(-1, -3).float().contiguous() - self.image_mean) / self.image_std

    @staticmethod
    def prepare(frames: Sequence[Frame], grid: VoxelGrid, config: OccleConfig) -> OccleInputs:
        """As `Network.prepare`."""
        # Only a frame that stands alone may lack its pose, and then any will do.
        poses = [np.eye(4) if frame.T_world_lidar is None else frame.T_world_lidar for frame in frames]
        return prepare(frames, poses, grid, config)

    def label_grid(
        self, inputs: OccleInputs, free: int, stage_done: Callable[[str], None] = lambda stage: None
    ) -> tuple[Tensor, Tensor]:
        """As `Network.label_grid`."""
        return label_grid(self(inputs, stage_done=stage_done), free)

    def set_counts(self, inputs: OccleInputs) -> dict[str, int]:
        """As `Network.set_counts`."""
        cells = self.cells(inputs)
        self.semantics(inputs, cells)
        self.geometry(inputs, cells)
        # Scans share their number of rows: each has as many as the largest needs.
        largest = max(len(scan.coords) for scan in inputs.scans)
        counts = dict(zip(self.set_names, cells[0].counts, strict=True))
        return {name: largest if name in inputs.sizes else count for name, count in counts.items()}

    def program(self, capacities: Capacities, free: int, center: tuple[float, float]) -> OccleProgram:
        """As `Network.program`."""
        return OccleProgram(self, capacities, free, center)

    @staticmethod
    def pad(inputs: OccleInputs, capacities: Capacities, center: tuple[float, float]) -> Arrays:
        """As `Network.pad`."""
        return pad(inputs, capacities, center)


class OccleProgram(Program):
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
        self.network = fold_batch_norms(network)
        self.capacities, self.free, self.center = capacities, free, center

    def forward(
        self, images: Tensor, projections: Tensor, points: Tensor, voxel: Tensor, table: Tensor, cells: Tensor, count: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Predict; the arguments are those of `Network.pad`.

        Returns:
            labels (1, X, Y, Z) uint8, confidence (1, X, Y, Z) float16, counts (sets,) int32: cells that each set had to hold.
        """
        budget = Budget(list(self.capacities.sets.values()), self.center)
        frames = range(self.network.config.num_frames)
        scans = [VoxelisedScan(points[f], voxel[f], table[f], cells[f], count[f]) for f in frames]
        sets = [StaticCoordinates.from_cells(cells[f], count[f], self.network.shape, budget) for f in frames]
        # TensorRT knows uint8 only at its borders: nothing can be selected before the cast, and nothing can follow the labels'.
        inputs = OccleInputs(images.float(), projections, scans)
        labels, confidence = label_grid(self.network(inputs, sets), self.free)
        return labels, confidence, torch.cat(budget.counts)

    def example(self) -> tuple[Tensor, ...]:
        """Inputs of the right shapes without any voxel, to trace with."""
        config, points, voxels = self.network.config, self.capacities.points, self.capacities.voxels
        frames, views = config.num_frames, config.num_cameras
        return (
            torch.zeros(1, frames, views, config.height, config.width, 3, dtype=torch.uint8),
            torch.zeros(1, frames, views, 3, 4),
            torch.zeros(frames, points, POINT_FEATURES),
            torch.full((frames, points), voxels, dtype=torch.int32),
            torch.full((frames, voxels, config.scan.max_points), points, dtype=torch.int32),
            torch.zeros(frames, voxels, 3, dtype=torch.int32),
            torch.zeros(frames, 1, dtype=torch.int32),
        )


OccLE.program_class = OccleProgram


def label_grid(logits: Tensor, free: int) -> tuple[Tensor, Tensor]:
    """Labels (B, X, Y, Z) uint8 and confidence (B, X, Y, Z) float16, 0 where free, of logits (B, classes, X, Y, Z)."""
    label, confidence = classify(logits, free)
    return label.to(torch.uint8), confidence.to(torch.float16)
