# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""3D convolutions and 3D deformable attention: what OccLE's Table 5 compares its planes with. The paper gives no more than that.

It is there for the comparison: it runs in PyTorch, and is exported to no other engine.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

POINTS = 4
"""Places that each head of a cell looks at."""


class DeformableAttention(nn.Module):
    """Every cell of a grid looks at a few places of another grid, which it chooses (Zhu et al., Deformable DETR, in 3D).

    Args:
        channels: of both grids.
        heads: attention heads.
        points: places per head.
    """

    def __init__(self, channels: int, heads: int, points: int = POINTS) -> None:
        super().__init__()
        self.heads, self.points = heads, points
        self.offset = nn.Conv3d(channels, 3 * heads * points, 1)
        self.weight = nn.Conv3d(channels, heads * points, 1)
        self.value = nn.Conv3d(channels, channels, 1)
        self.out = nn.Conv3d(channels, channels, 1)
        # The places begin within a cell or two of the cell itself, and alike for all cells.
        assert self.offset.bias is not None and self.weight.bias is not None
        nn.init.uniform_(self.offset.bias, -2, 2)
        for start in (self.offset.weight, self.weight.weight, self.weight.bias):
            nn.init.zeros_(start)

    def forward(self, query: Tensor, grid: Tensor) -> Tensor:
        """(B, C, X, Y, Z) cells that look, (B, C, X, Y, Z) what they look at -> (B, C, X, Y, Z)."""
        batch, channels, *shape = query.shape
        cells, many = shape[0] * shape[1] * shape[2], batch * self.heads
        exact = torch.promote_types(query.dtype, torch.float32)  # of positions, which half precision would round to whole cells
        offset = self.offset(query).to(exact).reshape(many, self.points, 3, cells).permute(0, 3, 1, 2)
        axes = [torch.arange(n, device=query.device, dtype=exact) for n in shape]
        own = torch.stack(torch.meshgrid(*axes, indexing="ij"), -1).reshape(1, cells, 1, 3)
        # Positions are -1..1 from border to border, the last axis first.
        size = torch.tensor(shape, device=query.device, dtype=exact)
        place = ((own + offset + 0.5) / size * 2 - 1).flip(-1)
        value = self.value(grid).reshape(many, channels // self.heads, *shape)
        seen = F.grid_sample(value, place[:, :, :, None], align_corners=False)[..., 0]
        share = self.weight(query).reshape(many, 1, self.points, cells).transpose(2, 3).softmax(-1)
        mixed = (seen * share).sum(-1).reshape(batch, channels, *shape)
        return torch.as_tensor(self.out(mixed))


class DeformableFusion(nn.Module):
    """The scan's cells look at the image's: 3x3x3 convolutions of both grids, then deformable attention, added to the scan's.

    Args:
        channels: of both grids and the result.
        heads: attention heads.
    """

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.lidar, self.image, self.merge = (_conv(channels) for _ in range(3))
        self.attention = DeformableAttention(channels, heads)

    def forward(self, lidar: Tensor, image: Tensor) -> Tensor:
        """(B, C, X, Y, Z) and (B, C, X, Y, Z) -> (B, C, X, Y, Z)."""
        scan = self.lidar(lidar)
        return torch.as_tensor(self.merge(scan + self.attention(scan, self.image(image))))


def _conv(channels: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv3d(channels, channels, 3, padding=1, bias=False), nn.BatchNorm3d(channels), nn.ReLU())
