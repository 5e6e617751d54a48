# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""From points and image features to voxel features: PointFusion (Xu et al.) and MVX-Net's voxel feature encoder.

MinkOcc, Sec. IV-A: LiDAR points are projected as anchors into the images; multi-scale features are sampled there and fused
adaptively over the views; a shared MLP and a maximum over each voxel's points give the sparse multi-modal volume.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from occle_core.networks.blocks.bilinear import corners, pixels_of, weighted_sum
from occle_core.networks.blocks.voxel_features import VoxelFeatureEncoder
from occle_core.networks.blocks.voxelise import POINT_FEATURES
from occle_core.networks.minkocc.inputs import MinkOccInputs


class PointFusion(nn.Module):
    """Image features at the points: a softmax over the scales and *visible* views of each point.

    Args:
        channels: channels of every pyramid level and of the result.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.score = nn.Linear(channels, 1)

    def forward(self, pyramid: Sequence[Tensor], view: Tensor, uv: Tensor) -> Tensor:
        """Sample and fuse.

        Args:
            pyramid: (B * V, C, H_l, W_l) per level.
            view: (P, M) int64 image of each sampled view; B * V where there is none.
            uv: (P, M, 2) position in the image, 0..1 from border to border.

        Returns:
            (P, C); zeros where no camera sees the point.
        """
        pixels = pixels_of(pyramid)
        rows, shares = corners(pyramid, view, uv)
        # A linear map of bilinear samples is the sample of the mapped pixels, of which there are far fewer.
        score = self.score(pixels).index_select(0, rows.reshape(-1)).view(rows.shape)
        score = (score * shares).sum(2).masked_fill(view.t() == pyramid[0].shape[0], -1e4)
        weight = torch.softmax(score.flatten(0, 1), 0).view_as(score)
        return weighted_sum(pixels, rows.flatten(0, 2), (weight[:, :, None] * shares).flatten(0, 2))


class PointEncoder(nn.Module):
    """Voxel features from points and an image pyramid.

    Args:
        image_channels: of a point's image feature.
        channels: of the voxels.
        features: of a point by itself.
    """

    def __init__(self, image_channels: int, channels: int, features: int = POINT_FEATURES) -> None:
        super().__init__()
        self.fusion = PointFusion(image_channels)
        self.vfe = VoxelFeatureEncoder(features + image_channels, channels)

    def forward(self, inputs: MinkOccInputs, pyramid: Sequence[Tensor]) -> Tensor:
        """-> (N, channels), a row per voxel of `inputs.coords`."""
        seen = self.fusion(pyramid, inputs.view, inputs.uv)
        out: Tensor = self.vfe(torch.cat([inputs.points, seen], 1), inputs.voxel, inputs.table)
        return out
