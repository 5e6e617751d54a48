# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""A network whose convolutions run in float16: for GPUs, whose matrix units multiply these at twice the speed or more."""

from __future__ import annotations

from typing import Any, TypeVar

import torch
from torch import nn

from occle_core.networks.blocks.fold_batch_norms import SPARSE, fold_batch_norms
from occle_core.networks.occle.cross_plane import FrameFusion
from occle_core.sparse import SparseTensor, SqueezeExcite

Network = TypeVar("Network", bound=nn.Module)
HALF = (nn.Conv2d, *SPARSE)
FULL = (nn.Linear, nn.Conv3d, SqueezeExcite, FrameFusion)


def to_float16(network: Network) -> Network:
    """A copy with folded batch norms whose convolutions, of images and of voxels, have float16 weights, inputs and outputs.

    The rest stays in float32, because it is cheap, and because float16 would be wrong there: image positions and their weights
    (a pixel's position needs more than 11 bits), means over thousands of voxels (their sums leave float16's range), sums along
    the residual connections, and the heads, whose logits decide which voxels exist and what they are. So do dense 3D convolutions:
    TensorRT-RTX fails to compile some of them in float16. Keys, tables and counts are integers and do not change.
    """
    network = fold_batch_norms(network)
    for module in network.modules():
        if isinstance(module, HALF):
            module.half()
        if isinstance(module, HALF + FULL):
            module.register_forward_pre_hook(_cast)
    return network


def _cast(module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
    """The module's only argument in the module's own precision."""
    (x,) = args
    dtype = torch.float16 if isinstance(module, HALF) else torch.float32
    return (x.with_features(x.features.to(dtype)) if isinstance(x, SparseTensor) else x.to(dtype),)
