# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Cross-plane image and LiDAR feature synergy: each sensor gives the planes that it is reliable on (OccLE, Sec. 3.3.1).

The image resolves y and z, the LiDAR ranges along x. So the LiDAR's grid is flattened onto xz and xy, the image's onto yz, and
their products span the volume again. (Eq. 4's indices name the sensors the other way round than the text and Fig. 3; the text's
way is taken.)
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from occle_core.networks.blocks.slices import split_by_slices


class FrameFusion(nn.Module):
    """Feature grids of several frames as one: a Conv1D over the frames (Sec. 3.3.1).

    Args:
        channels: of the grids.
        frames: how many there are.
    """

    def __init__(self, channels: int, frames: int) -> None:
        super().__init__()
        self.conv = nn.Conv1d(channels, channels, frames)

    def forward(self, grids: Tensor) -> Tensor:
        """(B, F, C, ...) the present frame first -> (B, C, ...)."""
        batch, frames, channels, *cells = grids.shape
        # A kernel as long as its sequence is a product of matrices, which needs no transposed copy of the grids.
        weight = self.conv.weight.transpose(1, 2).reshape(channels, frames * channels)
        out = torch.matmul(weight, grids.reshape(batch, frames * channels, -1))
        assert self.conv.bias is not None
        return (out + self.conv.bias[:, None]).view(batch, channels, *cells)


class PlaneAttention(nn.Module):
    """Self-attention along the rows of a map: every column attends over its rows (the paper's O(H1^2)).

    Args:
        channels: of the map.
        heads: attention heads.
    """

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(channels, 3 * channels)
        self.out = nn.Linear(channels, channels)

    def forward(self, plane: Tensor) -> Tensor:
        """(B, C, R, K) -> (B, C, R, K), attention over R for each of the K columns."""
        batch, channels, rows, columns = plane.shape
        tokens = plane.permute(0, 3, 2, 1).reshape(batch * columns, rows, channels)
        split = (batch * columns, rows, self.heads, channels // self.heads)
        q, k, v = (part.reshape(split).transpose(1, 2) for part in split_by_slices(self.qkv(tokens), [channels] * 3, -1))
        mixed = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(batch, columns, rows, channels)
        out: Tensor = self.out(mixed)
        return out.permute(0, 3, 2, 1)


class CrossPlaneSynergy(nn.Module):
    """From the LiDAR's and the image's feature grids to the geometric one.

    Args:
        channels: of both grids and the result.
        shape: cells of the grids along x, y, z.
        heads: attention heads.
    """

    def __init__(self, channels: int, shape: tuple[int, int, int], heads: int = 2) -> None:
        super().__init__()
        x, y, z = shape
        self.lidar_xz = nn.Conv2d(channels * y, channels, 3, padding=1)
        self.lidar_xy = nn.Conv2d(channels * z, channels, 3, padding=1)
        self.image_yz = nn.Conv2d(channels * x, channels, 3, padding=1)
        self.along_y = PlaneAttention(channels, heads)
        self.along_z = PlaneAttention(channels, heads)

    def forward(self, lidar: Tensor, image: Tensor) -> Tensor:
        """(B, C, X, Y, Z) and (B, C, X, Y, Z) -> (B, C, X, Y, Z)."""
        xz = self.lidar_xz(lidar.permute(0, 1, 3, 2, 4).flatten(1, 2))
        xy = self.lidar_xy(lidar.permute(0, 1, 4, 2, 3).flatten(1, 2))
        yz = self.image_yz(image.flatten(1, 2))
        # Eq. 3: along y as the map stands, along z on its transpose.
        yz_y = yz + self.along_y(yz)
        yz_z = yz + self.along_z(yz.transpose(2, 3)).transpose(2, 3)
        return plane_products(xz, xy, yz_y, yz_z)


def plane_products(xz: Tensor, xy: Tensor, yz_y: Tensor, yz_z: Tensor) -> Tensor:
    """Eq. 4 and the sum after it: F[c, x, y, z] = xz[c, x, z] yz_y[c, y, z] + xy[c, x, y] yz_z[c, y, z].

    Args:
        xz: (B, C, X, Z).
        xy: (B, C, X, Y).
        yz_y, yz_z: (B, C, Y, Z).

    Returns:
        (B, C, X, Y, Z).
    """
    return xz.unsqueeze(3) * yz_y.unsqueeze(2) + xy.unsqueeze(4) * yz_z.unsqueeze(2)
