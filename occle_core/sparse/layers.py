# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Layers on SparseTensors. Weights are (K^3, C_in, C_out) with offsets in C order, as in MinkowskiEngine."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from occle_core.sparse import native_gemm
from occle_core.sparse.coordinates import Coordinates
from occle_core.sparse.gather_gemm import gather_gemm
from occle_core.sparse.runs import convolve_runs
from occle_core.sparse.tensor import SparseTensor


class _Kernel(nn.Module):
    """A kernel of k x k x k matrices and an optional bias."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, bias: bool, fan_in: int) -> None:
        super().__init__()
        self.kernel_size = kernel_size
        self.weight = nn.Parameter(torch.empty(kernel_size**3, in_channels, out_channels))
        self.bias = nn.Parameter(torch.zeros(out_channels)) if bias else None
        nn.init.normal_(self.weight, std=math.sqrt(2.0 / fan_in))

    def _finish(self, coordinates: Coordinates, features: Tensor) -> SparseTensor:
        return SparseTensor.at(coordinates, features if self.bias is None else features.add_(self.bias))


class SubmanifoldConv3d(_Kernel):
    """Convolution whose output cells are its input cells (Graham et al., Submanifold Sparse Convolutional Networks).

    Args:
        in_channels, out_channels: channels.
        kernel_size: edge length of the kernel, 1 or 3 cells.
        bias: add a learnt offset.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int = 3, bias: bool = False) -> None:
        if kernel_size not in (1, 3):
            raise ValueError(f"a submanifold kernel is 1 or 3 cells wide (the table's margin is one cell), not {kernel_size}")
        super().__init__(in_channels, out_channels, kernel_size, bias, in_channels * kernel_size**3)

    def forward(self, x: SparseTensor) -> SparseTensor:
        """(N, in_channels) -> (N, out_channels) on the same cells."""
        if self.kernel_size == 3 and native_gemm.available(x.features, self.weight) and (pairs := x.coordinates.pairs) is not None:
            return self._finish(x.coordinates, native_gemm.multiply(x.features, self.weight, pairs))
        runs = x.coordinates.runs if self.kernel_size == 3 else None
        if runs is not None:
            return self._finish(x.coordinates, convolve_runs(x.features, self.weight, runs))
        rows = x.coordinates.neighbours(self.kernel_size)
        return self._finish(x.coordinates, gather_gemm(x.features, self.weight, rows, mirrored=True))


class StridedConv3d(_Kernel):
    """Convolution onto the coarser grid: a coarse cell is active when one of the fine cells in its box is.

    out[c] = sum over offsets o of in[stride * c + o] @ weight[o]; offsets 0..k-1 for even kernels, -r..r for odd ones.
    Grids whose shape the stride does not divide round up.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int = 2, stride: int = 2, bias: bool = False) -> None:
        super().__init__(in_channels, out_channels, kernel_size, bias, in_channels * kernel_size**3)
        self.stride = stride

    def forward(self, x: SparseTensor) -> SparseTensor:
        """Active cells of shape S -> active cells of shape ceil(S / stride)."""
        out, rows = x.coordinates.strided(self.kernel_size, self.stride)
        return self._finish(out, gather_gemm(x.features, self.weight, rows))


class GenerativeConvTranspose3d(_Kernel):
    """Transposed convolution that makes cells: support = unique(stride * C + offsets) (Gwak et al., GSDN, Sec. 3).

    Every input cell c adds in[c] @ weight[o] to the output cell stride * c + o. Kernel 2 with stride 2 gives eight children
    per parent from one GEMM; odd kernels overlap and sum; kernel 3 with stride 1 grows the support by one cell all around.
    Output cells outside `shape * stride` are dropped.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int = 2, stride: int = 2, bias: bool = False) -> None:
        overlap = max(1.0, kernel_size / stride)
        super().__init__(in_channels, out_channels, kernel_size, bias, round(in_channels * overlap**3))
        self.stride = stride

    def forward(self, x: SparseTensor) -> SparseTensor:
        """Active cells of shape S -> active cells of shape S * stride."""
        if self.kernel_size == self.stride == 2:
            # No two parents share a child, so one GEMM makes them all.
            channels = self.weight.shape[2]
            matrix = self.weight.permute(1, 0, 2).reshape(-1, 8 * channels)
            made = x.features @ matrix if self.bias is None else torch.addmm(self.bias.repeat(8), x.features, matrix)
            return SparseTensor.at(x.coordinates.children(), made.reshape(-1, channels))
        out, rows = x.coordinates.transposed(self.kernel_size, self.stride)
        return self._finish(out, gather_gemm(x.features, self.weight, rows))


class SparseBatchNorm(nn.BatchNorm1d):
    """Batch normalisation over all active cells of the batch; a tensor without cells passes through."""

    def forward(self, x: SparseTensor) -> SparseTensor:  # type: ignore[override]
        """Same cells, normalised features."""
        return x.with_features(super().forward(x.features)) if len(x) else x


class SqueezeExcite(nn.Module):
    """Channel gates from each grid's mean feature (Hu et al., Squeeze-and-Excitation Networks).

    Args:
        channels: channels of the features.
        reduction: how many times narrower the gate's hidden layer is.
    """

    def __init__(self, channels: int, reduction: int = 4) -> None:
        super().__init__()
        self.gate = nn.Sequential(
            nn.Linear(channels, channels // reduction), nn.ReLU(), nn.Linear(channels // reduction, channels), nn.Sigmoid()
        )

    def forward(self, x: SparseTensor) -> SparseTensor:
        """Same cells, features scaled per channel and grid."""
        gate = self.gate(x.coordinates.mean(x.features))
        return x.with_features(x.features * (gate if x.batch_size == 1 else gate[x.coordinates.batch]))
