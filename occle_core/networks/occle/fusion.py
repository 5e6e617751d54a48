# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""OccLE's fusion of the semantic and the geometric feature grid, with its two headers (Sec. 3.4)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from occle_core.networks.occle.config import OccleConfig
from occle_core.networks.occle.dual_mamba import DualMamba
from occle_core.networks.occle.geometric import VolumeHead
from occle_core.networks.occle.lift import scatter_accumulate

HEAD_GROUPS = 4
"""Groups of channels that the 3D header normalises, each over its frame."""


class DynamicFusion(nn.Module):
    """Concatenated grids through a 3 x 3 x 3 convolution, whose channels are weighted by squeeze and excitation.

    (Ming et al., OccFusion: Multi-Sensor Fusion Framework for 3D Semantic Occupancy Prediction, 2024: dynamic fusion in 3D; Hu et
    al., Squeeze-and-Excitation Networks, with half of the channels in between.)

    Args:
        channels: of both grids and the result.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.merge = nn.Sequential(nn.Conv3d(2 * channels, channels, 3, padding=1, bias=False), nn.BatchNorm3d(channels), nn.ReLU())
        self.gate = nn.Sequential(nn.Linear(channels, channels // 2), nn.ReLU(), nn.Linear(channels // 2, channels), nn.Sigmoid())

    def forward(self, one: Tensor, other: Tensor) -> Tensor:
        """Two grids (B, C, X, Y, Z) -> the fused grid (B, C, X, Y, Z)."""
        merged: Tensor = self.merge(torch.cat([one, other], 1))
        weights: Tensor = self.gate(merged.mean((2, 3, 4)))
        return merged * weights[:, :, None, None, None]


class Fusion(nn.Module):
    """Dual Mamba, or what its configuration has instead, the 3D header of the prediction Y and the 2D header of its projection y.

    Args:
        config: sizes.
        num_classes: classes of the taxonomy, free included.
        shape: cells of the feature grids along x, y, z.
    """

    def __init__(self, config: OccleConfig, num_classes: int, shape: tuple[int, int, int]) -> None:
        super().__init__()
        sizes, channels = config.fusion, config.channels
        self.mamba = self.dynamic = None
        if sizes.instead == "occfusion":
            self.dynamic = DynamicFusion(channels)
        else:
            self.mamba = DualMamba(channels, sizes.stage_channels, shape, sizes.state_size, sizes.expand)
        # Annotated frames share batches with others, whose prediction no voxel teaches: a batch's statistics would mix the two.
        self.head = VolumeHead(channels, num_classes, nn.GroupNorm(HEAD_GROUPS, 2 * channels))
        # Else flat regions, about which a short training says little, show the blocks of cells.
        self.head.start_alike()
        self.image_head = nn.Sequential(
            nn.Conv2d(channels, channels, 1, bias=False), nn.BatchNorm2d(channels), nn.ReLU(), nn.Conv2d(channels, num_classes, 1)
        )

    def forward(self, semantic: Tensor, geometric: Tensor) -> Tensor:
        """Two grids (B, C, X, Y, Z) -> the fused grid F_3d^f (B, C, X, Y, Z)."""
        fuse = self.mamba or self.dynamic
        assert fuse is not None
        out: Tensor = fuse(semantic, geometric)
        return out

    def logits(self, fused: Tensor) -> Tensor:
        """(B, C, X, Y, Z) -> (B, classes, 2X, 2Y, 2Z): the prediction Y."""
        out: Tensor = self.head(fused)
        return out

    def projected_logits(
        self, fused: Tensor, projections: Tensor, centers: Tensor, height: int, width: int
    ) -> tuple[Tensor, Tensor]:
        """Eq. 5 and the 2D header: the projected segmentation y. Training only.

        The header looks at single pixels: what it says about a pixel comes from the cells along that pixel's ray alone.

        Args:
            fused: (B, C, X, Y, Z).
            projections: (B, V, 3, 4) cameras of the present frame.
            centers: (M, 3) centres of the grid's cells.
            height, width: pixels of the projection.

        Returns:
            (B * V, classes, height, width), and (B * V, height, width) bool: pixels that any cell fell on.
        """
        maps, count = scatter_accumulate(fused.flatten(2), projections, centers, height, width)
        return self.image_head(maps.flatten(0, 1)), count.flatten(0, 1) > 0
