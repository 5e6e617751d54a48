# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Blocks of sparse convolutions that several networks use."""

from __future__ import annotations

import torch
from torch import nn

from occle_core.sparse import (
    SparseBatchNorm,
    SparseTensor,
    SqueezeExcite,
    SubmanifoldConv3d,
)


class ResidualBlock(nn.Module):
    """Two submanifold convolutions with batch norm and ReLU, squeeze-excite, and the input added back.

    Args:
        channels: channels of input and output.
        inner: channels between the two convolutions.
    """

    def __init__(self, channels: int, inner: int) -> None:
        super().__init__()
        self.conv1 = SubmanifoldConv3d(channels, inner)
        self.norm1 = SparseBatchNorm(inner)
        self.conv2 = SubmanifoldConv3d(inner, channels)
        self.norm2 = SparseBatchNorm(channels)
        self.excite = SqueezeExcite(channels)
        # The block starts as the identity, so that it can join a network that was trained without it.
        nn.init.zeros_(self.norm2.weight)

    def forward(self, x: SparseTensor) -> SparseTensor:
        """Same cells, same channels."""
        out: SparseTensor = relu(self.norm1(self.conv1(x)))
        out = self.excite(self.norm2(self.conv2(out)))
        return out.with_features(torch.relu_(out.features.add_(x.features)))


class SparseStep(nn.Module):
    """A sparse convolution with batch norm and ReLU."""

    def __init__(self, conv: nn.Module, channels: int) -> None:
        super().__init__()
        self.conv = conv
        self.norm = SparseBatchNorm(channels)

    def forward(self, x: SparseTensor) -> SparseTensor:
        """Features on the convolution's cells."""
        return relu(self.norm(self.conv(x)))


def relu(x: SparseTensor) -> SparseTensor:
    """The features rectified in place: x is not to be used any more."""
    return x.with_features(torch.relu_(x.features))
