# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""From rendered features to 2D class logits: the neural shader NS(F; Θ) of MinkOcc (Sze et al., Sec. IV-C)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Shader(nn.Module):
    """A UNet of three scales.

    Group norm, not batch norm: a step sees few views, and their number changes with the rig.

    Args:
        channels: C of the rendered features.
        num_classes: classes of the taxonomy, free included (its logit exists so that ids are the same in 2D and 3D).
        width: channels of the finest scale, a multiple of 8; every scale doubles them.
    """

    def __init__(self, channels: int, num_classes: int, width: int = 32) -> None:
        super().__init__()
        self.fine = _block(channels, width)
        self.middle = _block(width, 2 * width)
        self.coarse = _block(2 * width, 4 * width)
        self.up_middle = _block(4 * width + 2 * width, 2 * width)
        self.up_fine = _block(2 * width + width, width)
        self.head = nn.Conv2d(width, num_classes, 1)

    def forward(self, features: Tensor) -> Tensor:
        """(V, C, H, W) rendered features -> (V, num_classes, H, W) logits; H and W of at least 4 pixels."""
        fine = self.fine(features)
        middle = self.middle(F.max_pool2d(fine, 2))
        coarse = self.coarse(F.max_pool2d(middle, 2))
        middle = self.up_middle(torch.cat([_resized(coarse, middle), middle], 1))
        return torch.as_tensor(self.head(self.up_fine(torch.cat([_resized(middle, fine), fine], 1))))


def _block(inputs: int, outputs: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for count in (inputs, outputs):
        layers += [nn.Conv2d(count, outputs, 3, padding=1, bias=False), nn.GroupNorm(8, outputs), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers)


def _resized(image: Tensor, like: Tensor) -> Tensor:
    return F.interpolate(image, size=like.shape[-2:], mode="bilinear", align_corners=False)
