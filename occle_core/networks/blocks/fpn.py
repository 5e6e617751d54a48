# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Feature pyramid network (Lin et al., Feature Pyramid Networks for Object Detection), with torchvision's parameter names."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F


class FeaturePyramid(nn.Module):
    """Brings the maps of a trunk to one channel count and passes context from coarse to fine.

    Args:
        in_channels: channels per input level, finest first.
        channels: channels of every output level.
    """

    def __init__(self, in_channels: Sequence[int], channels: int) -> None:
        super().__init__()
        self.inner_blocks = nn.ModuleList(nn.Sequential(nn.Conv2d(count, channels, 1)) for count in in_channels)
        self.layer_blocks = nn.ModuleList(nn.Sequential(nn.Conv2d(channels, channels, 3, padding=1)) for _ in in_channels)

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Maps (B, C_l, H_l, W_l), finest first -> (B, channels, H_l, W_l), finest first."""
        inner = self.inner_blocks[-1](maps[-1])
        out: list[Tensor] = [self.layer_blocks[-1](inner)]
        for level in range(len(maps) - 2, -1, -1):
            lateral = self.inner_blocks[level](maps[level])
            inner = lateral + F.interpolate(inner, size=lateral.shape[-2:], mode="nearest")
            out.insert(0, self.layer_blocks[level](inner))
        return out
