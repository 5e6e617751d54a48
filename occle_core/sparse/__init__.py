"""Sparse 3D convolutions on voxel grids in pure PyTorch: kernel maps from a dense table, one gather and one GEMM per chunk."""

from occle_core.sparse.layers import GenerativeConvTranspose3d, SparseBatchNorm, SqueezeExcite, StridedConv3d, SubmanifoldConv3d
from occle_core.sparse.tensor import SparseTensor, prune, union_add

__all__ = [
    "GenerativeConvTranspose3d",
    "SparseBatchNorm",
    "SparseTensor",
    "SqueezeExcite",
    "StridedConv3d",
    "SubmanifoldConv3d",
    "prune",
    "union_add",
]
