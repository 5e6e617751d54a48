# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""A convolution by spconv and by MinkowskiEngine, where they are installed."""

from __future__ import annotations

import warnings
from types import ModuleType
from typing import Any

import torch
from occle_train.loop.minkowski_backend import minkowski_order
from torch import Tensor, nn

from benchmark.sparse.peers import Peer
from benchmark.sparse.problem import Problem, missing_cells


class Spconv(Peer):
    """spconv 2.3. Its weights are (D, k, k, k, C) with the offsets of a cross-correlation: C order, as ours.

    Differences of meaning: a strided convolution whose kernel is wider than its stride also makes the cells that only the
    kernel's rim touches, a transposed one with kernel 2, stride 1 reaches one cell beyond the grid, and one with kernel 3,
    stride 2 ends one cell before it.
    """

    name = "spconv"

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem)
        self.spconv = spconv = import_spconv()
        k, (_, channels, width) = problem.kernel, problem.weight.shape
        padding = k // 2 if k % 2 else 0
        if problem.kind == "submanifold":
            self.layer = spconv.SubMConv3d(channels, width, k, bias=False, indice_key="map")
        elif problem.kind == "strided":
            self.layer = spconv.SparseConv3d(channels, width, k, problem.stride, padding, bias=False)
        else:
            self.layer = spconv.SparseConvTranspose3d(channels, width, k, problem.stride, padding, bias=False)
        weight = problem.weight.view(k, k, k, channels, width).permute(4, 0, 1, 2, 3).contiguous()
        self.layer.weight = nn.Parameter(weight)
        self.indices = problem.coords.int().contiguous()
        # A kernel without padding must reach the last place of a grid that is rounded up.
        grows = problem.kind == "strided" and not k % 2
        self.shape = [size + (missing_cells(size, k, problem.stride) if grows else 0) for size in problem.shape]

    def input(self) -> Any:
        return self.spconv.SparseConvTensor(self.features, self.indices, self.shape, self.problem.batch_size)

    def run(self, x: Any) -> Any:
        return self.layer(x)

    def rows(self, out: Any) -> Tensor:
        features: Tensor = out.features
        return features

    def cells(self, out: Any) -> Tensor:
        return torch.as_tensor(out.indices).long()

    @property
    def weight(self) -> Tensor:
        weight: Tensor = self.layer.weight
        return weight

    def weight_gradient(self) -> Tensor:
        gradient: Tensor = self.layer.weight.grad
        return gradient.permute(1, 2, 3, 4, 0).reshape(self.problem.weight.shape)


def import_spconv() -> ModuleType:
    """`spconv.pytorch`.

    Raises:
        ImportError: spconv is not installed.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of its own dependencies, on import
        import spconv.pytorch as spconv
        from spconv.pytorch import ops
    if not torch.cuda.is_available():
        # Version 2.3.8 asks for the CUDA stream in every backward pass, also for tensors on the CPU, which then do not use it.
        ops.get_current_stream = lambda: 0
    module: ModuleType = spconv
    return module


class Minkowski(Peer):
    """MinkowskiEngine 0.5: coordinates are multiples of a level's stride, and offsets come in `minkowski_order`."""

    name = "MinkowskiEngine"

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that it was built for the CPU only
            import MinkowskiEngine
        self.engine = MinkowskiEngine
        _, channels, width = problem.weight.shape
        layer = {
            "submanifold": MinkowskiEngine.MinkowskiConvolution,
            "strided": MinkowskiEngine.MinkowskiConvolution,
            "generative": MinkowskiEngine.MinkowskiGenerativeConvolutionTranspose,
        }[problem.kind]
        self.layer = layer(channels, width, kernel_size=problem.kernel, stride=problem.stride, dimension=3)
        self.order = minkowski_order(problem.kernel)
        self.layer.kernel = nn.Parameter(problem.weight[self.order].clone())
        self.tensor_stride = problem.stride if problem.kind == "generative" else 1
        scale = torch.tensor([1, *[self.tensor_stride] * 3])
        self.coordinates = (problem.coords * scale).int().contiguous()

    def input(self) -> Any:
        return self.engine.SparseTensor(self.features, self.coordinates, tensor_stride=self.tensor_stride)

    def again(self, x: Any) -> Any:
        return self.engine.SparseTensor(
            self.features, coordinate_map_key=x.coordinate_map_key, coordinate_manager=x.coordinate_manager
        )

    def run(self, x: Any) -> Any:
        return self.layer(x)

    def rows(self, out: Any) -> Tensor:
        features: Tensor = out.F
        return features

    def cells(self, out: Any) -> Tensor:
        cells: Tensor = out.C.long()
        return cells // torch.tensor([1, *out.tensor_stride])

    @property
    def weight(self) -> Tensor:
        weight: Tensor = self.layer.kernel
        return weight

    def weight_gradient(self) -> Tensor:
        gradient: Tensor = self.layer.kernel.grad
        return gradient[self.order.argsort()]
