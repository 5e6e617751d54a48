# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""A sparse convolution to compute, independent of any library: cells, features, weights, and the cells of its result."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

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
            return distinct(torch.cat([batch, cells // self.stride], 1))
        made = cells[:, None] * self.stride + torch.tensor(offsets_of(self.kernel))
        made = torch.cat([batch[:, None].expand(-1, made.shape[1], 1), made], 2).reshape(-1, 4)
        inside = ((made[:, 1:] >= 0) & (made[:, 1:] < torch.tensor(self.out_shape))).all(1)
        return distinct(made[inside])


def distinct(cells: Tensor) -> Tensor:
    """(M, 4) cells, sorted, each once."""
    found: Tensor = cells.unique(dim=0)  # type: ignore[no-untyped-call]
    return found


def missing_cells(size: int, kernel: int, stride: int) -> int:
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
