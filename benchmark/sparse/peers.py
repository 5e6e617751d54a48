# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""One convolution, computed by occle, a dense conv3d or (`library_peers`) others' libraries: same problem, one interface.

Tests compare results and gradients, the benchmark times.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

from torch import Tensor, nn
from torch.nn import functional as F

from benchmark.sparse.problem import Problem, missing_cells
from occle_core.sparse import GenerativeConvTranspose3d, SparseTensor, StridedConv3d, SubmanifoldConv3d


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
                x = F.pad(
                    x, [n for size in reversed(problem.shape) for n in (0, missing_cells(size, problem.kernel, problem.stride))]
                )
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
