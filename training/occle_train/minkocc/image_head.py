# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Semantic segmentation heads on the image pyramid, for an auxiliary loss while training; a bundle does not hold them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from occle_core.networks.minkocc.config import ImageConfig
from occle_train.losses.minkocc import Total, alone, soft_cross_entropy

LEVELS = 2
"""Levels of the pyramid that are supervised, finest first."""
STRIDE = 4
"""Pixels of the network's image to one of the finest level."""


class ImageHead(nn.Module):
    """A 1x1 convolution to class logits on each of the two finest levels.

    Args:
        config: of the image branch.
        num_classes: classes of the taxonomy, free included.
    """

    def __init__(self, config: ImageConfig, num_classes: int) -> None:
        super().__init__()
        levels = min(LEVELS, config.num_stages)
        self.heads = nn.ModuleList(nn.Conv2d(config.channels, num_classes, 1) for _ in range(levels))

    def loss(self, pyramid: Sequence[Tensor], labels: Tensor, confidence: Tensor, total: Total = alone) -> Tensor:
        """Cross-entropy against the pixels' classes, summed over the levels.

        Args:
            pyramid: image features (B * V, C, H_l, W_l), finest first.
            labels: (B, V, H_0, W_0) uint8 class ids, 255 no loss there.
            confidence: like `labels`, float32 in 0..1.
            total: see `supervised_loss`.
        """
        loss = torch.zeros((), device=labels.device)
        labels, confidence = labels.flatten(0, 1), confidence.flatten(0, 1)
        for level, head in enumerate(self.heads):
            thin = (slice(None), slice(None, None, 2**level), slice(None, None, 2**level))
            loss = loss + soft_cross_entropy(head(pyramid[level]), labels[thin], confidence[thin], total)
        return loss


def label_size(config: ImageConfig) -> tuple[int, int]:
    """(width, height) of the finest level."""
    return -(-config.width // STRIDE), -(-config.height // STRIDE)
