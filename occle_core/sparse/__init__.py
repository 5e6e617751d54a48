# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Sparse 3D convolutions on voxel grids in pure PyTorch: kernel maps from a dense table, one gather and one GEMM per chunk."""

from occle_core.sparse.layers import GenerativeConvTranspose3d, SparseBatchNorm, SqueezeExcite, StridedConv3d, SubmanifoldConv3d
from occle_core.sparse.tensor import SparseTensor, add_at, prune, union_add

__all__ = [
    "GenerativeConvTranspose3d",
    "SparseBatchNorm",
    "SparseTensor",
    "SqueezeExcite",
    "StridedConv3d",
    "SubmanifoldConv3d",
    "add_at",
    "prune",
    "union_add",
]
