# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""OccLE's geometric branch: images and scans of several frames, brought together on three planes (Sec. 3.3.1)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from occle_core.networks.blocks.resnet import ResNet
from occle_core.networks.blocks.sparse_blocks import SparseStep
from occle_core.networks.blocks.voxel_features import VoxelFeatureEncoder
from occle_core.networks.occle.config import FEATURE_STRIDE, OccleConfig
from occle_core.networks.occle.cross_plane import CrossPlaneSynergy, FrameFusion
from occle_core.networks.occle.deformable import DeformableFusion
from occle_core.networks.occle.inputs import POINT_FEATURES, VoxelisedScan
from occle_core.networks.occle.lift import densify, lift
from occle_core.sparse import SparseTensor, StridedConv3d, SubmanifoldConv3d
from occle_core.sparse.coordinates import Coordinates


class GeometricBranch(nn.Module):
    """From images and scans to the geometric feature grid, and its 3D header. Teacher and student are two of these.

    Args:
        config: sizes.
        shape: cells of the feature grid along x, y, z.
    """

    def __init__(self, config: OccleConfig, shape: tuple[int, int, int]) -> None:
        super().__init__()
        sizes, channels = config.geometric, config.channels
        self.shape = shape
        self.image = ImageEncoder(sizes.backbone, sizes.base_width, sizes.num_stages, channels)
        self.encoder = VoxelFeatureEncoder(POINT_FEATURES, config.scan.channels)
        # The paper's "2-layer sparse Conv3D"; the second layer goes to the feature grid's cells.
        self.first = SparseStep(SubmanifoldConv3d(config.scan.channels, channels), channels)
        self.second = SparseStep(StridedConv3d(channels, channels), channels)
        self.fuse_lidar = FrameFusion(channels, config.num_frames)
        self.fuse_image = FrameFusion(channels, config.num_frames)
        planes = sizes.synergy == "planes"
        self.synergy: nn.Module = (
            CrossPlaneSynergy(channels, shape, sizes.num_heads) if planes else DeformableFusion(channels, sizes.num_heads)
        )
        self.head = VolumeHead(channels, 2, nn.BatchNorm3d(2 * channels))

    def forward(
        self,
        images: Tensor,
        projections: Tensor,
        scans: Sequence[VoxelisedScan],
        coordinates: Sequence[Coordinates],
        centers: Tensor,
    ) -> Tensor:
        """The geometric feature grid F_f^g.

        Args:
            images: (B, F, V, 3, H, W) normalised.
            projections: (B, F, V, 3, 4) their cameras, from the present grid's frame.
            scans, coordinates: of each frame, in the present grid's frame.
            centers: (M, 3) centres of the feature grid's cells.

        Returns:
            (B, C, X, Y, Z).
        """
        batch, frames, views = images.shape[:3]
        maps = self.image(images.flatten(0, 2)).unflatten(0, (batch * frames, views))
        seen = lift(maps, projections.flatten(0, 1), centers).transpose(1, 2)
        seen = self.fuse_image(seen.reshape(batch, frames, -1, *self.shape))
        grids = []
        for scan, cells in zip(scans, coordinates, strict=True):
            voxels = SparseTensor.at(cells, self.encoder(scan.points, scan.voxel, scan.table))
            grids.append(densify(self.second(self.first(voxels))))
        out: Tensor = self.synergy(self.fuse_lidar(torch.stack(grids, 1)), seen)
        return out

    def logits(self, grid: Tensor) -> Tensor:
        """(B, C, X, Y, Z) feature grid -> (B, 2, 2X, 2Y, 2Z): free and occupied, the geometry G."""
        out: Tensor = self.head(grid)
        return out


class ImageEncoder(nn.Module):
    """ResNet whose stages are summed up at the finest one's resolution (stride 4).

    Args:
        name, base_width, stages: of the ResNet.
        channels: of the result.
    """

    def __init__(self, name: str, base_width: int, stages: int, channels: int) -> None:
        super().__init__()
        self.trunk = ResNet(name, base_width, stages)
        self.lateral = nn.ModuleList(nn.Conv2d(count, channels, 1) for count in self.trunk.channels)
        self.smooth = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, channels, H / 4, W / 4)."""
        maps = [lateral(level) for lateral, level in zip(self.lateral, self.trunk(images))]
        total: Tensor = maps[0]
        for level in maps[1:]:
            total = total + F.interpolate(level, size=total.shape[-2:], mode="nearest")
        out: Tensor = self.smooth(total)
        return out


class VolumeHead(nn.Sequential):
    """3D header: everything is computed on the feature grid; its last layer says something else about each of a cell's children.

    Args:
        channels: of the feature grid.
        classes: logits per cell of the finer grid.
        norm: of 2 * channels channels.
    """

    def __init__(self, channels: int, classes: int, norm: nn.Module) -> None:
        super().__init__(
            nn.Conv3d(channels, 2 * channels, 3, padding=1, bias=False),
            norm,
            nn.ReLU(),
            nn.ConvTranspose3d(2 * channels, classes, FEATURE_STRIDE, FEATURE_STRIDE),
        )

    @torch.no_grad()
    def start_alike(self) -> None:
        """Give all children of a cell the same weights: what they differ in is learnt, not drawn (Aitken et al., ICNR)."""
        last = self[-1]
        assert isinstance(last, nn.ConvTranspose3d)
        last.weight.copy_(last.weight[:, :, :1, :1, :1].expand_as(last.weight))
