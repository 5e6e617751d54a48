# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""One convolution, computed by occle, spconv, MinkowskiEngine or a dense conv3d: same cells, features and weights, one interface.

Tests compare results and gradients, the benchmark times.
"""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from dataclasses import dataclass
from types import ModuleType
from typing import Any, ClassVar, Literal

import torch
from occle_train.loop.minkowski_backend import minkowski_order
from torch import Tensor, nn
from torch.nn import functional as F

from occle_core.sparse import GenerativeConvTranspose3d, SparseTensor, StridedConv3d, SubmanifoldConv3d
from occle_core.sparse.coordinates import offsets_of

Kind = Literal["submanifold", "strided", "generative"]


@dataclass(frozen=True)
class Problem:
    """A convolution and what it is applied to.

    Attributes:
        kind: submanifold, strided or generative transposed (see `occle_core.sparse.layers` for what they compute).
        kernel, stride: of the convolution, cells.
        coords: (N, 4) int64 batch, x, y, z of the active cells, contiguous (spconv reads the memory as it lies).
        shape: cells of a grid along x, y, z.
        batch_size: number of grids.
        features: (N, C).
        weight: (K^3, C, D), offsets in C order.
    """

    kind: Kind
    kernel: int
    stride: int
    coords: Tensor
    shape: tuple[int, int, int]
    batch_size: int
    features: Tensor
    weight: Tensor

    @property
    def out_shape(self) -> tuple[int, int, int]:
        """Cells of the output grid."""
        x, y, z = (n * self.stride if self.kind == "generative" else -(-n // self.stride) for n in self.shape)
        return x, y, z

    def made_cells(self) -> Tensor:
        """(M, 4) int64 cells of the output, sorted: computed without any of the competitors."""
        batch, cells = self.coords[:, :1], self.coords[:, 1:]
        if self.kind == "submanifold":
            return self.coords
        if self.kind == "strided":
            return torch.cat([batch, cells // self.stride], 1).unique(dim=0)
        made = cells[:, None] * self.stride + torch.tensor(offsets_of(self.kernel))
        made = torch.cat([batch[:, None].expand(-1, made.shape[1], 1), made], 2).reshape(-1, 4)
        inside = ((made[:, 1:] >= 0) & (made[:, 1:] < torch.tensor(self.out_shape))).all(1)
        return made[inside].unique(dim=0)


class Peer(ABC):
    """A competitor with its own copy of a problem's features and weight.

    Attributes:
        name: for tables.
        features: (N, C) leaf; its `grad` is the gradient of the features.
    """

    name: ClassVar[str]

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self.features = problem.features.clone().requires_grad_()

    @abstractmethod
    def input(self) -> Any:
        """The competitor's own tensor, as it is made for a new frame: nothing about neighbours is known yet."""

    @abstractmethod
    def run(self, x: Any) -> Any:
        """The convolution: on the same x again, what the competitor keeps about neighbours is reused."""

    def again(self, x: Any) -> Any:
        """The competitor's own tensor for the next layer on the same cells, after `run(x)`."""
        return x

    @abstractmethod
    def rows(self, out: Any) -> Tensor:
        """(M, D) features of a result."""

    @abstractmethod
    def cells(self, out: Any) -> Tensor:
        """(M, 4) int64 batch, x, y, z of a result's rows."""

    @property
    @abstractmethod
    def weight(self) -> Tensor:
        """The competitor's own weight, a leaf."""

    @abstractmethod
    def weight_gradient(self) -> Tensor:
        """(K^3, C, D) with offsets in C order, after a backward pass."""

    def clear_gradients(self) -> None:
        """Before the next backward pass, which would else add to them."""
        self.features.grad = self.weight.grad = None


class Occle(Peer):
    """This project's layers."""

    name = "occle"

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem)
        _, channels, width = problem.weight.shape
        self.layer: SubmanifoldConv3d | StridedConv3d | GenerativeConvTranspose3d
        if problem.kind == "submanifold":
            self.layer = SubmanifoldConv3d(channels, width, problem.kernel)
        elif problem.kind == "strided":
            self.layer = StridedConv3d(channels, width, problem.kernel, problem.stride)
        else:
            self.layer = GenerativeConvTranspose3d(channels, width, problem.kernel, problem.stride)
        self.layer.weight = nn.Parameter(problem.weight.clone())

    def input(self) -> SparseTensor:
        return SparseTensor(self.features, self.problem.coords, self.problem.shape, self.problem.batch_size)

    def run(self, x: SparseTensor) -> SparseTensor:
        out: SparseTensor = self.layer(x)
        return out

    def rows(self, out: SparseTensor) -> Tensor:
        return out.features

    def cells(self, out: SparseTensor) -> Tensor:
        return out.coords

    @property
    def weight(self) -> Tensor:
        return self.layer.weight

    def weight_gradient(self) -> Tensor:
        assert self.layer.weight.grad is not None
        return self.layer.weight.grad


class Dense(Peer):
    """PyTorch's dense convolution: cells are written into a volume, and the output's cells, given to it, are read from it."""

    name = "dense conv3d"

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem)
        k, (_, channels, width) = problem.kernel, problem.weight.shape
        order = (3, 4, 0, 1, 2) if problem.kind == "generative" else (4, 3, 0, 1, 2)
        self.volume_weight = problem.weight.view(k, k, k, channels, width).permute(order).clone().requires_grad_()
        self.order = order
        self.wanted = problem.made_cells()

    def input(self) -> Tensor:
        batch, x, y, z = self.problem.coords.unbind(1)
        volume = self.features.new_zeros(self.problem.batch_size, *self.problem.shape, self.features.shape[1])
        return volume.index_put((batch, x, y, z), self.features).permute(0, 4, 1, 2, 3)

    def again(self, x: Tensor) -> Tensor:
        return self.input()  # nothing is known about neighbours: the volume is filled again

    def run(self, x: Tensor) -> Tensor:
        problem, odd = self.problem, self.problem.kernel % 2
        padding = problem.kernel // 2 if odd else 0
        if problem.kind == "generative":
            out = F.conv_transpose3d(
                x, self.volume_weight, stride=problem.stride, padding=padding, output_padding=problem.stride - 1 if odd else 0
            )
        else:
            if not odd:  # a last cell that the stride does not reach has neighbours outside: zeros
                x = F.pad(x, [n for size in reversed(problem.shape) for n in (0, _missing(size, problem.kernel, problem.stride))])
            out = F.conv3d(x, self.volume_weight, stride=problem.stride, padding=padding)
        batch, i, j, k = self.wanted.unbind(1)
        return out[batch, :, i, j, k]

    def rows(self, out: Tensor) -> Tensor:
        return out

    def cells(self, out: Tensor) -> Tensor:
        return self.wanted

    @property
    def weight(self) -> Tensor:
        return self.volume_weight

    def weight_gradient(self) -> Tensor:
        assert self.weight.grad is not None
        back = [self.order.index(axis) for axis in range(5)]
        return self.weight.grad.permute(back).reshape(self.problem.weight.shape)


class Spconv(Peer):
    """spconv 2.3. Its weights are (D, k, k, k, C) with the offsets of a cross-correlation: C order, as ours.

    Differences of meaning: a strided convolution whose kernel is wider than its stride also makes the cells that only the
    kernel's rim touches, a transposed one with kernel 2, stride 1 reaches one cell beyond the grid, and one with kernel 3,
    stride 2 ends one cell before it.
    """

    name = "spconv"

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem)
        self.spconv = spconv = _spconv()
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
        self.shape = [size + (_missing(size, k, problem.stride) if grows else 0) for size in problem.shape]

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


def _spconv() -> ModuleType:
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


def _missing(size: int, kernel: int, stride: int) -> int:
    """Cells by which an axis must grow for a kernel without padding to reach ceil(size / stride) places."""
    return max(0, (-(-size // stride) - 1) * stride + kernel - size)


def goal(cells: Tensor, width: int, dtype: torch.dtype) -> Tensor:
    """(M, width) gradient of the output that depends on the cell alone, whatever the order of the rows."""
    phase = cells.to(torch.float64) @ torch.tensor([1.1, 0.7, 1.9, 2.3], dtype=torch.float64)
    return torch.sin(phase[:, None] + torch.arange(width, dtype=torch.float64)).to(dtype)


def positions(cells: Tensor, among: Tensor) -> Tensor:
    """For each of cells (M, 4) its row among others (N, 4), which are all different; -1 where it is none of them."""
    if not len(cells) or not len(among):
        return torch.full((len(cells),), -1)
    together = torch.cat([cells, among]).long()
    lower = together.amin(0)
    sizes = (together.amax(0) - lower + 1).tolist()
    steps = torch.tensor([sizes[1] * sizes[2] * sizes[3], sizes[2] * sizes[3], sizes[3], 1])
    numbers = ((together - lower) * steps).sum(1)
    known, order = numbers[len(cells) :].sort()
    place = torch.searchsorted(known, numbers[: len(cells)]).clamp(max=len(known) - 1)
    return torch.where(known[place] == numbers[: len(cells)], order[place], -1)
