# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""OccLE's semantic branch: a 2D UNet on the images, a sparse UNet3D on the scan, a feature grid from both (Sec. 3.2 and 3.4)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from occle_core.networks.blocks.sparse_blocks import SparseStep
from occle_core.networks.blocks.voxel_features import VoxelFeatureEncoder
from occle_core.networks.occle.config import ImageExtractor, OccleConfig
from occle_core.networks.occle.image_extractors import Convs, make_encoder
from occle_core.networks.occle.inputs import POINT_FEATURES, VoxelisedScan
from occle_core.networks.occle.lift import densify, lift
from occle_core.sparse import (
    GenerativeConvTranspose3d,
    SparseTensor,
    StridedConv3d,
    SubmanifoldConv3d,
    add_at,
)
from occle_core.sparse.coordinates import Coordinates


@dataclass
class SemanticFeatures:
    """Feature maps and grids of the semantic branch.

    Attributes:
        grid: (B, C, X, Y, Z) the semantic feature grid F_f^s.
        image: (B * V, C_2d, H / 2, W / 2) features of the present images.
        coarse, fine: features of the scan's cells at stride 2 and 1; `fine` is the encoder's.
    """

    grid: Tensor
    image: Tensor
    coarse: SparseTensor
    fine: SparseTensor


class SemanticBranch(nn.Module):
    """Eq. 1, the 2D and 3D headers, and the semantic feature grid.

    Args:
        config: sizes.
        num_classes: classes of the taxonomy, free included.
    """

    def __init__(self, config: OccleConfig, num_classes: int) -> None:
        super().__init__()
        sizes = config.semantic
        self.image = ImageUNet(sizes.image_channels, sizes.image_extractor)
        self.encoder = VoxelFeatureEncoder(POINT_FEATURES, config.scan.channels)
        self.lidar = LidarUNet(config.scan.channels, sizes.lidar_channels)
        self.combine = nn.Sequential(
            nn.Conv3d(sizes.image_channels[0] + sizes.lidar_channels[1], config.channels, 1, bias=False),
            nn.BatchNorm3d(config.channels),
            nn.ReLU(),
        )
        self.image_head = nn.Conv2d(sizes.image_channels[0], num_classes, 1)
        self.lidar_head = nn.Linear(sizes.lidar_channels[0], num_classes)

    def forward(
        self, images: Tensor, projections: Tensor, scan: VoxelisedScan, coordinates: Coordinates, centers: Tensor
    ) -> SemanticFeatures:
        """Features of the present frame.

        Args:
            images: (B, V, 3, H, W) normalised.
            projections: (B, V, 3, 4) their cameras.
            scan: the present scan.
            coordinates: its voxels.
            centers: (M, 3) centres of the feature grid's cells.
        """
        batch, views = images.shape[:2]
        flat = self.image(images.flatten(0, 1))
        voxels = self.encoder(scan.points, scan.voxel, scan.table)
        coarse, fine = self.lidar(SparseTensor.at(coordinates, voxels))
        seen = lift(flat.unflatten(0, (batch, views)), projections, centers)
        points = densify(coarse)
        seen = seen.transpose(1, 2).reshape(batch, -1, *points.shape[2:])
        return SemanticFeatures(self.combine(torch.cat([seen, points.to(seen.dtype)], 1)), flat, coarse, fine)

    def image_logits(self, semantics: SemanticFeatures) -> Tensor:
        """(B * V, classes, H / 2, W / 2): the segmentation s."""
        out: Tensor = self.image_head(semantics.image)
        return out

    def lidar_logits(self, semantics: SemanticFeatures) -> SparseTensor:
        """(N, classes) on the scan's voxels: the segmentation S. Training only: the feature grid does not need it."""
        features: SparseTensor = self.lidar.finest(semantics.coarse, semantics.fine)
        return features.with_features(self.lidar_head(features.features))


class ImageUNet(nn.Module):
    """2D UNet (Ronneberger et al.) from stride 2 down to stride 8 and back.

    Args:
        channels: at strides 2, 4, 8.
        extractor: kind of the encoder.
    """

    def __init__(self, channels: Sequence[int], extractor: ImageExtractor = "unet") -> None:
        super().__init__()
        self.down = make_encoder(extractor, channels)
        self.up = nn.ModuleList(Convs(a + b, a, 1) for a, b in pairwise(channels))

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, channels[0], H / 2, W / 2)."""
        maps: list[Tensor] = self.down(images)
        x = maps[-1]
        for up, skip in zip(list(self.up)[::-1], maps[-2::-1]):
            x = up(torch.cat([skip, F.interpolate(x, size=skip.shape[-2:], mode="nearest")], 1))
        return x


class LidarUNet(nn.Module):
    """Sparse UNet3D on the scan's voxels, down to an eighth of the resolution, or less with fewer levels; no cells are made.

    Args:
        in_channels: of a voxel's features.
        channels: at strides 1, 2, 4, 8; two at least.
    """

    def __init__(self, in_channels: int, channels: Sequence[int]) -> None:
        super().__init__()
        self.encoder = nn.ModuleList(SparseStep(SubmanifoldConv3d(a, b), b) for a, b in zip([in_channels, *channels[1:]], channels))
        self.down = nn.ModuleList(SparseStep(StridedConv3d(a, b), b) for a, b in pairwise(channels))
        self.up = nn.ModuleList(GenerativeConvTranspose3d(b, a) for a, b in pairwise(channels))
        self.decoder = nn.ModuleList(SparseStep(SubmanifoldConv3d(a, a), a) for a in channels[:-1])

    def forward(self, x: SparseTensor) -> tuple[SparseTensor, SparseTensor]:
        """-> decoded features at stride 2, encoded ones at stride 1."""
        skips = [self.encoder[0](x)]
        for down, encoder in zip(self.down, list(self.encoder)[1:]):
            skips.append(encoder(down(skips[-1])))
        x = skips[-1]
        for level in range(len(self.up) - 1, 0, -1):
            x = self.decoder[level](add_at(skips[level], self.up[level](x)))
        return x, skips[0]

    def finest(self, coarse: SparseTensor, fine: SparseTensor) -> SparseTensor:
        """The last step of the decoder, to stride 1."""
        out: SparseTensor = self.decoder[0](add_at(fine, self.up[0](coarse)))
        return out
