"""From points and image features to voxel features: PointFusion (Xu et al.) and MVX-Net's voxel feature encoder.

MinkOcc, Sec. IV-A: LiDAR points are projected as anchors into the images; multi-scale features are sampled there and fused
adaptively over the views; a shared MLP and a maximum over each voxel's points give the sparse multi-modal volume.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import embedding_bag

from occle_core.inputs import POINT_FEATURES, Inputs
from occle_core.sparse.coordinates import take


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
        samples = [sample_bilinear(level, view, uv) for level in pyramid]
        visible = (view < pyramid[0].shape[0])[:, :, None].expand(-1, -1, len(pyramid))
        score = torch.cat([self.score(level) for level in samples], 2).masked_fill(~visible, -1e4)
        weight = torch.softmax(score.flatten(1), 1).view_as(score) * visible
        out = torch.zeros_like(samples[0][:, 0])
        for number, level in enumerate(samples):
            for seen in range(view.shape[1]):
                out = out + level[:, seen] * weight[:, seen, number, None]
        return out


class VoxelFeatureEncoder(nn.Module):
    """Two VFE layers (Zhou & Tuzel, VoxelNet, Sec. 2.1): per-point linear maps, and the voxel's maximum told to its points.

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


class PointEncoder(nn.Module):
    """Voxel features from points and an image pyramid."""

    def __init__(self, image_channels: int, channels: int) -> None:
        super().__init__()
        self.fusion = PointFusion(image_channels)
        self.vfe = VoxelFeatureEncoder(POINT_FEATURES + image_channels, channels)

    def forward(self, inputs: Inputs, pyramid: Sequence[Tensor]) -> Tensor:
        """-> (N, channels), a row per voxel of `inputs.coords`."""
        seen = self.fusion(pyramid, inputs.view, inputs.uv)
        out: Tensor = self.vfe(torch.cat([inputs.points, seen], 1), inputs.voxel, inputs.table)
        return out


def sample_bilinear(image: Tensor, view: Tensor, uv: Tensor) -> Tensor:
    """Bilinear samples, with the image's edge pixels repeated beyond its border.

    Args:
        image: (I, C, H, W).
        view: (P, M) int64 image number; I stands for none.
        uv: (P, M, 2) position, 0..1 from border to border.

    Returns:
        (P, M, C); zeros for view I.
    """
    count, channels, height, width = image.shape
    flat = image.permute(0, 2, 3, 1).reshape(-1, channels)
    flat = torch.cat([flat, flat.new_zeros(1, channels)])
    x = (uv[..., 0] * width - 0.5).clamp(0, width - 1)
    y = (uv[..., 1] * height - 0.5).clamp(0, height - 1)
    left, top = x.floor(), y.floor()
    fx, fy = x - left, y - top
    left, top = left.to(view.dtype), top.to(view.dtype)
    right, bottom = (left + 1).clamp(max=width - 1), (top + 1).clamp(max=height - 1)
    upper, lower = (view * height + top) * width, (view * height + bottom) * width
    index = torch.stack([upper + left, upper + right, lower + left, lower + right], -1).view(-1, 4)
    index = torch.where((view < count).view(-1, 1), index, count * height * width)
    weight = torch.stack([(1 - fx) * (1 - fy), fx * (1 - fy), (1 - fx) * fy, fx * fy], -1).view(-1, 4).to(flat.dtype)
    if torch.compiler.is_exporting():
        out = sum(flat.index_select(0, index[:, corner]) * weight[:, corner, None] for corner in range(4))
    else:
        out = embedding_bag(index, flat, per_sample_weights=weight, mode="sum")  # one pass over the features instead of ten
    assert isinstance(out, Tensor)
    return out.view(*view.shape, channels)


def pool_voxels(features: Tensor, table: Tensor) -> Tensor:
    """Maximum of non-negative point features (P, C) over each row of table (N, K) -> (N, C); P in the table is a row of zeros."""
    return take(features, table.reshape(-1)).view(*table.shape, -1).amax(1)
