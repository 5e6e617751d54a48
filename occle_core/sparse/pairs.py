# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Kernel maps as pairs: which rows of the input meet which rows of the output under which offset, and nothing else.

On a LiDAR scan a cell has 4 to 9 of its 27 neighbours. A GEMM per offset over its pairs alone does a third of the work of one
GEMM over all offsets, and the sums over each output's pairs are a gather too (an embedding bag), without any scatter.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import embedding_bag
from torch.utils.weak import WeakTensorKeyDictionary


@dataclass(frozen=True, eq=False)
class Pairs:
    """The pairs of one kernel map, ordered by offset.

    Attributes:
        source: (P,) int32 rows of the input.
        target: (P,) int32 rows of the output.
        counts: pairs of each offset.
        sizes: rows of the input, rows of the output.
    """

    source: Tensor
    target: Tensor
    counts: tuple[int, ...]
    sizes: tuple[int, int]

    @classmethod
    def of(cls, rows: Tensor, size: int) -> Pairs:
        """From (M, K) rows, on the CPU, of an input with `size` rows; `size` stands for none."""
        count, kernel = rows.shape
        # numpy: on random patterns its nonzero is six times faster than torch's.
        flat = rows.t().reshape(-1).numpy()
        at = np.flatnonzero(flat < size)
        counts = np.diff(np.searchsorted(at, np.arange(kernel + 1) * count))
        target = at.astype(np.int32) - np.repeat(np.arange(kernel, dtype=np.int32) * np.int32(count), counts)
        return cls(torch.from_numpy(flat[at]), torch.from_numpy(target), tuple(counts.tolist()), (size, count))

    def multiply(self, features: Tensor, weight: Tensor) -> Tensor:
        """(N, C), (K, C, D) -> (M, D): every output's sum of features[source] @ weight[offset]."""
        return _sum(self._products(features, self.source, weight), *self._by_target)

    def multiply_back(self, grad: Tensor, weight: Tensor) -> Tensor:
        """(M, D), (K, C, D) -> (N, C): every input's sum of grad[target] @ weight[offset]^T."""
        return _sum(self._products(grad, self.target, weight.transpose(1, 2)), *self._by_source)

    def correlate(self, features: Tensor, grad: Tensor) -> Tensor:
        """(N, C), (M, D) -> (K, C, D): every offset's sum of features[source]^T grad[target]."""
        total = features.new_zeros(len(self.counts), features.shape[1], grad.shape[1])
        most = max(self.counts)
        left, right = features.new_empty(most, features.shape[1]), features.new_empty(most, grad.shape[1])
        start = 0
        for offset, count in enumerate(self.counts):
            if count:
                torch.index_select(features, 0, self.source[start : start + count], out=left[:count])
                torch.index_select(grad, 0, self.target[start : start + count], out=right[:count])
                torch.mm(left[:count].t(), right[:count], out=total[offset])
                start += count
        return total

    def _products(self, features: Tensor, rows: Tensor, weight: Tensor) -> Tensor:
        """(P, D): features[rows] @ weight[offset] of every pair."""
        products = features.new_empty(len(rows), weight.shape[2])
        gathered = features.new_empty(max(self.counts), features.shape[1])
        start = 0
        for offset, count in enumerate(self.counts):
            if count:
                part = slice(start, start + count)
                torch.index_select(features, 0, rows[part], out=gathered[:count])
                torch.mm(gathered[:count], weight[offset], out=products[part])
                start += count
        return products

    @cached_property
    def _by_target(self) -> tuple[Tensor, Tensor]:
        return _grouped(self.target, self.sizes[1])

    @cached_property
    def _by_source(self) -> tuple[Tensor, Tensor]:
        return _grouped(self.source, self.sizes[0])


def share_of(rows: Tensor, size: int) -> float:
    """Of all places of a map (M, K) on the CPU, how many hold a pair; much faster than finding them."""
    return np.count_nonzero(rows.numpy() < size) / max(1, rows.numel())


def pairs_of(rows: Tensor, size: int) -> Pairs:
    """The pairs of a map (M, K), made once for all layers that share the tensor."""
    if rows not in _KNOWN:
        _KNOWN[rows] = Pairs.of(rows, size)
    known: Pairs = _KNOWN[rows]
    return known


_KNOWN = WeakTensorKeyDictionary()
"""Pairs by the identity of the map's tensor; they go when it goes."""


def _grouped(rows: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """The pairs (P,) ordered by their row, and where each row's begin (size + 1,)."""
    starts = torch.zeros(size + 1, dtype=torch.int64, device=rows.device)
    torch.cumsum(torch.bincount(rows, minlength=size), 0, out=starts[1:])
    return torch.argsort(rows, stable=True), starts


def _sum(products: Tensor, order: Tensor, starts: Tensor) -> Tensor:
    out: Tensor = embedding_bag(order, products, starts, mode="sum", include_last_offset=True)
    return out
