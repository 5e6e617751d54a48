# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""MinkOcc (Sze, De Martini and Kunze): early fusion of images into LiDAR voxels, sparse completion, a class per voxel."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from occle_core.frame import Frame
from occle_core.geometry.grid import VoxelGrid
from occle_core.networks.blocks.fold_batch_norms import fold_batch_norms
from occle_core.networks.blocks.fpn import FeaturePyramid
from occle_core.networks.blocks.imagenet import IMAGE_MEAN, IMAGE_STD
from occle_core.networks.blocks.labels import classify
from occle_core.networks.blocks.padding import Arrays
from occle_core.networks.blocks.resnet import ResNet
from occle_core.networks.blocks.voxelise import POINT_FEATURES
from occle_core.networks.capacities import Capacities
from occle_core.networks.minkocc.config import MinkOccConfig, base, small, tiny
from occle_core.networks.minkocc.inputs import MinkOccInputs, prepare, with_sweeps
from occle_core.networks.minkocc.padding import pad
from occle_core.networks.minkocc.point_fusion import PointEncoder
from occle_core.networks.minkocc.unet import DecoderLevel, GenerativeUNet
from occle_core.networks.protocol import Network, Program, RigName, Size
from occle_core.sparse import SparseTensor
from occle_core.sparse.coordinates import Coordinates
from occle_core.sparse.static import Budget, StaticCoordinates


@dataclass
class MinkOccPrediction:
    """Class logits of a batch, and the decoder levels that led to them.

    Attributes:
        classes: (N, num_classes) logits on the cells that survived pruning; the free class is one of them.
        levels: every decoder level's proposals, finest first (training reads them).
        features: (N, C) what the class head read (training renders it).
        pyramid: image features (B * V, C, H_l, W_l), finest first (training reads them).
    """

    classes: SparseTensor
    levels: list[DecoderLevel]
    features: SparseTensor
    pyramid: Sequence[Tensor] = ()


class MinkOcc(Network):
    """The whole network.

    Args:
        config: sizes.
        num_classes: classes of the taxonomy, free included.
        shape: cells of the grid along x, y, z.
    """

    image_mean: Tensor
    image_std: Tensor

    config_class = MinkOccConfig

    def __init__(self, config: MinkOccConfig, num_classes: int, shape: tuple[int, int, int]) -> None:
        super().__init__()
        self.config, self._shape = config, shape
        self.register_buffer("image_mean", torch.tensor(IMAGE_MEAN), persistent=False)
        self.register_buffer("image_std", torch.tensor(IMAGE_STD), persistent=False)
        self.trunk = ResNet(config.image.backbone, config.image.base_width, config.image.num_stages)
        self.pyramid = FeaturePyramid(self.trunk.channels, config.image.channels)
        self.points = PointEncoder(config.image.channels, config.unet.encoder_channels[0], POINT_FEATURES + config.reads_sweeps)
        self.unet = GenerativeUNet(
            config.unet.encoder_channels, config.unet.decoder_channels, config.unet.encoder_blocks, config.unet.prune_thresholds
        )
        self.head = nn.Linear(config.unet.encoder_channels[0], num_classes)

    @classmethod
    def build(cls, config: MinkOccConfig, num_classes: int, grid: VoxelGrid) -> MinkOcc:
        """As `Network.build`."""
        return cls(config, num_classes, grid.shape)

    @staticmethod
    def preset(size: Size, rig: RigName) -> tuple[MinkOccConfig, int]:
        """As `Network.preset`: the data set's volume at twice its cell size, or Occ3D-nuScenes' grid."""
        view: Literal["kitti", "nuscenes"] = "nuscenes" if rig == "nuscenes" else "kitti"
        return {"tiny": tiny, "small": small, "base": base}[size](view), 1 if rig == "nuscenes" else 2

    @property
    def shape(self) -> tuple[int, int, int]:
        """Cells of the grid along x, y, z."""
        return self._shape

    @property
    def set_names(self) -> dict[str, int]:
        """Names and levels of the sets of cells that the network makes, see GenerativeUNet.set_names."""
        return self.unet.set_names

    def forward(
        self,
        inputs: MinkOccInputs,
        occupied: Sequence[Tensor] | None = None,
        stage_done: Callable[[str], None] = lambda stage: None,
        coordinates: Coordinates | None = None,
    ) -> MinkOccPrediction:
        """Predict.

        Args:
            inputs: a batch.
            occupied: training only, see GenerativeUNet.forward.
            stage_done: called with the name of each finished stage, for timing.
            coordinates: the voxels in their static form; None makes the dynamic one from inputs.coords.
        """
        if coordinates is None:
            coordinates = Coordinates.from_coords(inputs.coords, self.shape, inputs.batch_size)
        images = (inputs.images.float().flatten(0, 1) - self.image_mean) / self.image_std
        pyramid = self.pyramid(self.trunk(images.permute(0, 3, 1, 2)))
        stage_done("image")
        voxels = self.points(inputs, pyramid)
        stage_done("fusion")
        features, levels = self.unet(SparseTensor.at(coordinates, voxels), occupied)
        classes = features.with_features(self.head(features.features))
        stage_done("voxels")
        return MinkOccPrediction(classes, levels, features, pyramid)

    @staticmethod
    def prepare(frames: Sequence[Frame], grid: VoxelGrid, config: MinkOccConfig) -> MinkOccInputs:
        """As `Network.prepare`."""
        return prepare(with_sweeps(frames, config), grid, config)

    def label_grid(
        self, inputs: MinkOccInputs, free: int, stage_done: Callable[[str], None] = lambda stage: None
    ) -> tuple[Tensor, Tensor]:
        """As `Network.label_grid`."""
        return label_grid(self(inputs, stage_done=stage_done).classes, free)

    def set_counts(self, inputs: MinkOccInputs) -> dict[str, int]:
        """As `Network.set_counts`."""
        return dict(zip(self.set_names, self(inputs).classes.coordinates.counts, strict=True))

    def program(self, capacities: Capacities, free: int, center: tuple[float, float]) -> MinkOccProgram:
        """As `Network.program`."""
        return MinkOccProgram(self, self.config, capacities, free, center)

    @staticmethod
    def pad(inputs: MinkOccInputs, capacities: Capacities, center: tuple[float, float]) -> Arrays:
        """As `Network.pad`."""
        return pad(inputs, capacities, center)


class MinkOccProgram(Program):
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
        self, network: MinkOcc, config: MinkOccConfig, capacities: Capacities, free: int, center: tuple[float, float]
    ) -> None:
        super().__init__()
        self.network = fold_batch_norms(network)
        self.config, self.capacities, self.free, self.center = config, capacities, free, center

    def forward(
        self, images: Tensor, points: Tensor, view: Tensor, uv: Tensor, voxel: Tensor, table: Tensor, cells: Tensor, count: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Predict; the arguments are those of `Network.pad`.

        Returns:
            labels (1, X, Y, Z) uint8, confidence (1, X, Y, Z) float16, counts (sets,) int32: cells that each set had to hold.
            The batch axis stays, because TensorRT knows uint8 only at its borders: nothing can follow the cast.
        """
        budget = Budget(list(self.capacities.sets.values()), self.center)
        coordinates = StaticCoordinates.from_cells(cells, count, self.network.shape, budget)
        inputs = MinkOccInputs(images, points, view, uv, voxel, table, cells)
        labels, confidence = label_grid(self.network(inputs, coordinates=coordinates).classes, self.free)
        return labels, confidence, torch.cat(budget.counts)

    def example(self) -> tuple[Tensor, ...]:
        """Inputs of the right shapes without any voxel, to trace with."""
        points, voxels = self.capacities.points, self.capacities.voxels
        image, views = self.config.image, self.config.points.max_views
        return (
            torch.zeros(1, image.num_cameras, image.height, image.width, 3, dtype=torch.uint8),
            torch.zeros(points, POINT_FEATURES + self.config.reads_sweeps),
            torch.full((points, views), image.num_cameras, dtype=torch.int32),
            torch.zeros(points, views, 2),
            torch.full((points,), voxels, dtype=torch.int32),
            torch.full((voxels, self.config.points.max_points), points, dtype=torch.int32),
            torch.zeros(voxels, 3, dtype=torch.int32),
            torch.zeros(1, dtype=torch.int32),
        )


MinkOcc.program_class = MinkOccProgram


def label_grid(classes: SparseTensor, free: int) -> tuple[Tensor, Tensor]:
    """Class logits on the surviving cells as grids.

    Returns:
        labels (B, X, Y, Z) uint8, `free` where no cell survived, and confidence (B, X, Y, Z) float16, 0 where free.
    """
    label, sure = classify(classes.features, free)
    volume = classes.coordinates.volume
    return volume(label, free).to(torch.uint8), volume(sure, 0.0).to(torch.float16)
