# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Voxel feature encoding: an MLP per point, pooled over each voxel."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from occle_core.sparse.coordinates import take


class VoxelFeatureEncoder(nn.Module):
    """Two VFE layers (Zhou & Tuzel, VoxelNet, Sec. 2.1): per-point linear maps, and the voxel's maximum appended to its points.

    Args:
        in_channels: channels of a point's features.
        channels: channels of a voxel's features.
    """

    def __init__(self, in_channels: int, channels: int) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Linear(in_channels, channels, bias=False), nn.BatchNorm1d(channels), nn.ReLU())
        self.second = nn.Sequential(nn.Linear(2 * channels, channels, bias=False), nn.BatchNorm1d(channels), nn.ReLU())

    def forward(self, points: Tensor, voxel: Tensor, table: Tensor) -> Tensor:
        """(P, in_channels), the voxel of each (P,), and the voxels' (N, K) point rows (P = none) -> (N, channels)."""
        features = self.first(points)
        pooled = pool_voxels(features, table)
        return pool_voxels(self.second(torch.cat([features, take(pooled, voxel)], 1)), table)


def pool_voxels(features: Tensor, table: Tensor) -> Tensor:
    """Maximum of non-negative point features (P, C) over each row of table (N, K) -> (N, C); P in the table is a row of zeros."""
    # Written out: a scan of which nothing lies in the grid has no rows to infer a size from.
    return take(features, table.reshape(-1)).view(*table.shape, features.shape[1]).amax(1)
