# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Submanifold convolution on a CPU where cells stand close: their neighbours are gathered three at a time.

With the features laid out in the grid's order, and a row of zeros on both sides of every run of cells along z, the 27 neighbours of
a cell are nine stretches of three rows: a third of the look-ups and of the copies, and no map of single cells.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable

from occle_core.sparse.autocast import autocast_inputs

CHUNK_ROWS = 1024
"""Output rows per GEMM: large enough for the BLAS, small enough that the gathered block stays in the cache and is reused."""
DENSE_SHARE = 0.45
"""From this share of neighbours on, one GEMM over all offsets is faster on a CPU than one per offset over the pairs."""
SAMPLE = 512
"""Cells whose neighbours are counted to know how close the cells stand."""


@dataclass(frozen=True, eq=False)
class Runs:
    """The neighbours of N cells.

    Attributes:
        places: (N,) int64, where each cell's features are laid out.
        stretches: (N, 9) int32, where the three rows begin that belong to each of the nine columns around a cell.
        size: rows of the layout.
    """

    places: Tensor
    stretches: Tensor
    size: int

    @classmethod
    def of(cls, keys: Tensor, strides: tuple[int, int, int], cells: int, least_share: float) -> Runs | None:
        """From the keys of cells in padded boxes (see Coordinates), on the CPU.

        Args:
            keys: (N,) int64.
            strides: steps of a key along x, y, z.
            cells: of all padded boxes.
            least_share: of their 27 places, how many the cells must have filled on average (a sample decides); else None.
        """
        active = np.zeros(cells, np.bool_)
        active[keys.numpy()] = True
        columns = [x * strides[0] + y * strides[1] for x in (-1, 0, 1) for y in (-1, 0, 1)]
        around = np.array([column + z for column in columns for z in (-1, 0, 1)])
        sample = keys.numpy()[:: max(1, len(keys) // SAMPLE)]
        if not len(keys) or np.count_nonzero(active[sample[:, None] + around]) < least_share * len(sample) * 27:
            return None
        near = active.copy()
        near[1:] |= active[:-1]
        near[:-1] |= active[1:]
        laid = np.flatnonzero(near)
        # A row of zeros, the cells, and three rows of zeros for the columns that have no cell near.
        begins = np.full(cells, len(laid) + 1, np.int32)
        begins[laid] = np.arange(len(laid), dtype=np.int32)
        table = torch.from_numpy(begins)
        stretches = table.index_select(0, (keys.int()[:, None] + torch.tensor(columns, dtype=torch.int32)).view(-1)).view(-1, 9)
        return cls(stretches[:, 4].long() + 1, stretches, len(laid) + 4)

    def multiply(self, features: Tensor, weight: Tensor) -> Tensor:
        """(N, C), (27, C, D) -> (N, D): every cell's sum of neighbour @ weight[offset]."""
        out = features.new_empty(len(features), weight.shape[2])
        matrix = weight.reshape(-1, weight.shape[2])
        for part, gathered in self._gathered(features):
            torch.mm(gathered, matrix, out=out[part])
        return out

    def correlate(self, features: Tensor, grad: Tensor) -> Tensor:
        """(N, C), (N, D) -> (27 * C, D): every offset's sum of neighbour^T grad."""
        total = features.new_zeros(27 * features.shape[1], grad.shape[1])
        for part, gathered in self._gathered(features):
            total.addmm_(gathered.t(), grad[part])
        return total

    def _gathered(self, features: Tensor) -> Iterator[tuple[slice, Tensor]]:
        """Cells, and their neighbours' features (cells, 27 * C), which the next step overwrites."""
        count, channels = features.shape
        laid = features.new_zeros(self.size, channels).index_copy_(0, self.places, features)
        three = laid.as_strided((self.size - 2, 3 * channels), (channels, 1))
        block = features.new_empty(9 * min(CHUNK_ROWS, count), 3 * channels)
        for start in range(0, count, CHUNK_ROWS):
            part = slice(start, min(start + CHUNK_ROWS, count))
            rows = self.stretches[part].view(-1)
            torch.index_select(three, 0, rows, out=block[: len(rows)])
            yield part, block[: len(rows)].view(-1, 27 * channels)


@autocast_inputs
def convolve_runs(features: Tensor, weight: Tensor, runs: Runs) -> Tensor:
    """(N, C), (27, C, D) -> (N, D): a submanifold convolution; differentiable once in features and weight."""
    out: Tensor = _Convolve.apply(features, weight, runs)  # type: ignore[no-untyped-call]
    return out


class _Convolve(torch.autograd.Function):
    @staticmethod
    def forward(ctx: FunctionCtx, features: Tensor, weight: Tensor, runs: Runs) -> Tensor:
        ctx.save_for_backward(features, weight)
        ctx.runs = runs  # type: ignore[attr-defined]
        return runs.multiply(features, weight)

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        features, weight = ctx.saved_tensors  # type: ignore[attr-defined]
        runs: Runs = ctx.runs  # type: ignore[attr-defined]
        needs_features, needs_weight, _ = ctx.needs_input_grad  # type: ignore[attr-defined]
        grad = grad.contiguous()
        # j is i's k-th neighbour exactly if i is j's (26 - k)-th.
        grad_features = runs.multiply(grad, weight.flip(0).transpose(1, 2)) if needs_features else None
        grad_weight = runs.correlate(features, grad).view_as(weight) if needs_weight else None
        return grad_features, grad_weight, None
