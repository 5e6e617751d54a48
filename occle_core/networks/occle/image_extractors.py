# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Encoders of the semantic branch's 2D UNet, down to stride 8: plain convolutions, and the paper's light ones (OccLE, Table 4)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from occle_core.networks.occle.config import ImageExtractor


class Convs(nn.Sequential):
    """Two 3x3 convolutions with batch norm and ReLU; the first one may be strided."""

    def __init__(self, channels: int, out: int, stride: int) -> None:
        layers: list[nn.Module] = []
        for a, step in ((channels, stride), (out, 1)):
            layers += [nn.Conv2d(a, out, 3, step, 1, bias=False), nn.BatchNorm2d(out), nn.ReLU()]
        super().__init__(*layers)


class StageEncoder(nn.ModuleList):
    """Stages one after the other, each of which halves the resolution."""

    def forward(self, images: Tensor) -> list[Tensor]:
        """(B, 3, H, W) -> the maps at strides 2, 4, 8."""
        maps: list[Tensor] = []
        for stage in self:
            maps.append(stage(maps[-1] if maps else images))
        return maps


class ESPNetEncoder(nn.ModuleList):
    """ESPNetv2 (Mehta et al.) down to stride 8: strided EESP units that see the shrunken image again, three EESP units at stride 8.

    Args:
        channels: at strides 2, 4, 8 (published: 32, 64, 128); each twice the one before, multiples of 16.

    Raises:
        ValueError: the channels do not fit.
    """

    def __init__(self, channels: Sequence[int]) -> None:
        if any(b != 2 * a for a, b in pairwise(channels)) or channels[0] % 16:
            raise ValueError(
                f"espnetv2 needs multiples of 16 that double from stride to stride (32, 64, 128), not {tuple(channels)}"
            )
        fine, middle, coarse = channels
        super().__init__(
            [
                nn.Sequential(nn.Conv2d(3, fine, 3, 2, 1, bias=False), nn.BatchNorm2d(fine), nn.PReLU(fine)),
                _StridedEESP(fine, middle, 13),
                _StridedEESP(middle, coarse, 11),
                nn.Sequential(*(_EESP(coarse, coarse, 1, 9) for _ in range(3))),
            ]
        )

    def forward(self, images: Tensor) -> list[Tensor]:
        """(B, 3, H, W) -> the maps at strides 2, 4, 8."""
        first, second, third, deeper = self
        fine = first(images)
        middle = second(fine, images)
        return [fine, middle, deeper(third(middle, images))]


def make_encoder(kind: ImageExtractor, channels: Sequence[int]) -> StageEncoder | ESPNetEncoder:
    """The encoder of a kind with its channels at strides 2, 4, 8."""
    if kind == "espnetv2":
        return ESPNetEncoder(channels)
    if kind == "mobilenet":
        return StageEncoder(_mobilenet(channels))
    return StageEncoder(Convs(a, b, 2) for a, b in pairwise([3, *channels]))


def _mobilenet(channels: Sequence[int]) -> list[nn.Module]:
    """MobileNet (Howard et al., Table 1) down to stride 8; published: 64, 128, 256 channels."""
    fine, middle, coarse = channels
    first = nn.Sequential(nn.Conv2d(3, fine // 2, 3, 2, 1, bias=False), nn.BatchNorm2d(fine // 2), nn.ReLU())
    return [
        nn.Sequential(*first, *_separable(fine // 2, fine, 1)),
        nn.Sequential(*_separable(fine, middle, 2), *_separable(middle, middle, 1)),
        nn.Sequential(*_separable(middle, coarse, 2), *_separable(coarse, coarse, 1)),
    ]


def _separable(channels: int, out: int, stride: int) -> list[nn.Module]:
    """A 3x3 convolution of each channel, and one of all channels at each pixel."""
    return [
        nn.Conv2d(channels, channels, 3, stride, 1, groups=channels, bias=False),
        nn.BatchNorm2d(channels),
        nn.ReLU(),
        nn.Conv2d(channels, out, 1, bias=False),
        nn.BatchNorm2d(out),
        nn.ReLU(),
    ]


class _EESP(nn.Module):
    """EESP unit: grouped reduction, four depthwise dilated convolutions added up hierarchically, grouped expansion.

    Args:
        channels: of the input.
        out: of the result.
        stride: of the dilated convolutions.
        reach: largest receptive field of one of them, pixels; where it would be larger, the dilation is 1.
    """

    def __init__(self, channels: int, out: int, stride: int, reach: int) -> None:
        super().__init__()
        branches, inner = 4, out // 4
        fields = sorted(field if field <= reach else 3 for field in range(3, 3 + 2 * branches, 2))
        self.reduce = nn.Sequential(
            nn.Conv2d(channels, inner, 1, groups=branches, bias=False), nn.BatchNorm2d(inner), nn.PReLU(inner)
        )
        self.dilated = nn.ModuleList(
            nn.Conv2d(inner, inner, 3, stride, (field - 1) // 2, (field - 1) // 2, groups=inner, bias=False) for field in fields
        )
        self.joined = nn.Sequential(nn.BatchNorm2d(out), nn.PReLU(out))
        self.expand = nn.Sequential(nn.Conv2d(out, out, 1, groups=branches, bias=False), nn.BatchNorm2d(out))
        # A strided unit is a part of a larger one, which has the activation.
        self.activation = nn.PReLU(out) if stride == 1 else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        reduced = self.reduce(x)
        parts: list[Tensor] = []
        for conv in self.dilated:
            part = conv(reduced)
            parts.append(part + parts[-1] if parts else part)
        out: Tensor = self.expand(self.joined(torch.cat(parts, 1)))
        return torch.as_tensor(self.activation(out + x if out.shape == x.shape else out))


class _StridedEESP(nn.Module):
    """Strided EESP unit: the averaged input beside an EESP unit's result, and the shrunken image added to both."""

    def __init__(self, channels: int, out: int, reach: int) -> None:
        super().__init__()
        self.unit = _EESP(channels, out - channels, 2, reach)
        self.image = nn.Sequential(
            nn.Conv2d(3, 3, 3, 1, 1, bias=False), nn.BatchNorm2d(3), nn.PReLU(3),
            nn.Conv2d(3, out, 1, bias=False), nn.BatchNorm2d(out),
        )  # fmt: skip
        self.activation = nn.PReLU(out)

    def forward(self, x: Tensor, images: Tensor) -> Tensor:
        out = torch.cat([F.avg_pool2d(x, 3, 2, 1), self.unit(x)], 1)
        while images.shape[-1] > out.shape[-1]:
            images = F.avg_pool2d(images, 3, 2, 1)
        return torch.as_tensor(self.activation(out + self.image(images)))
