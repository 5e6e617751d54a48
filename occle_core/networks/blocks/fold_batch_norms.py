# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Batch norms folded into the layers before them: what inference runs."""

from __future__ import annotations

import copy
from itertools import pairwise
from typing import TypeVar

import torch
from torch import Tensor, nn

from occle_core.sparse import GenerativeConvTranspose3d, StridedConv3d, SubmanifoldConv3d

Network = TypeVar("Network", bound=nn.Module)
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
SPARSE = (SubmanifoldConv3d, StridedConv3d, GenerativeConvTranspose3d)


def fold_batch_norms(network: Network) -> Network:
    """A copy whose batch norms are part of the convolutions and linear maps that they directly follow.

    In evaluation mode a batch norm is a scale and a shift per channel: the same function up to rounding, with fewer passes
    over the features. A norm follows the layer that was registered just before it in the same module. A 2D norm that follows none
    becomes a convolution of each channel by itself.
    """
    network = copy.deepcopy(network).eval()
    for module in list(network.modules()):
        children = list(module.named_children())
        for (_, layer), (name, norm) in pairwise(children):
            if isinstance(norm, NORMS) and _fold(layer, norm):
                setattr(module, name, nn.Identity())
        for name, child in list(module.named_children()):
            if isinstance(child, nn.BatchNorm2d):
                alone = nn.Conv2d(child.num_features, child.num_features, 1, groups=child.num_features, bias=False)
                nn.init.ones_(alone.weight)
                _fold(alone, child)
                setattr(module, name, alone)
    left = [name for name, module in network.named_modules() if isinstance(module, NORMS)]
    if left:
        raise ValueError(f"batch norms that follow no convolution: {left}")
    return network


def _fold(layer: nn.Module, norm: nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d) -> bool:
    """Fold the norm into the layer; False where the layer is of another kind."""
    if not isinstance(layer, nn.Conv2d | nn.Conv3d | nn.Linear | SubmanifoldConv3d | StridedConv3d | GenerativeConvTranspose3d):
        return False
    assert norm.running_mean is not None and norm.running_var is not None
    scale = norm.weight / torch.sqrt(norm.running_var + norm.eps)
    bias: Tensor = norm.bias - norm.running_mean * scale
    if layer.bias is not None:
        bias = bias + layer.bias * scale
    # Output channels come first in PyTorch's own layers, last in the sparse ones.
    shape = [1] * layer.weight.ndim
    shape[-1 if isinstance(layer, SPARSE) else 0] = -1
    layer.weight = nn.Parameter((layer.weight * scale.view(shape)).detach(), requires_grad=False)
    layer.bias = nn.Parameter(bias.detach(), requires_grad=False)
    return True
