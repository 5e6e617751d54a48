# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Dual Mamba: two feature grids fused by exchanging channels and scanning along a Hilbert curve (OccLE, Sec. 3.4, Appendix A)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from occle_core.networks.blocks.slices import split_by_slices
from occle_core.networks.occle.hilbert import hilbert_order, inverse
from occle_core.networks.occle.mamba import Mamba, scan_together

Shape = tuple[int, int, int]


class DualMamba(nn.Module):
    """U-Net of four down- and four upsampling stages, a Dual Mamba block in each (Fig. A1).

    Downsampling stages scan what they made, upsampling stages what they are given: the longest sequence has an eighth of the
    grid's cells.

    Args:
        channels: of both grids and the result.
        stages: channels of the downsampling stages, finest first.
        shape: cells of the grids along x, y, z; sizes that 2 does not divide round up.
        state: states per channel of the scans.
        expand: inner channels per channel of the scans.

    Attributes:
        recompute: whether a training keeps the stages' inputs alone, and computes the rest again in the backward pass.
    """

    def __init__(self, channels: int, stages: Sequence[int], shape: Shape, state: int, expand: int) -> None:
        super().__init__()
        widths, shapes = [channels, *stages], [shape]
        for _ in stages:
            x, y, z = (-(-n // 2) for n in shapes[-1])
            shapes.append((x, y, z))
        self.down = nn.ModuleList(_Pair(_Down(a, b), _Down(a, b)) for a, b in pairwise(widths))
        self.down_blocks = nn.ModuleList(DualMambaBlock(b, size, state, expand) for b, size in zip(stages, shapes[1:]))
        self.up_blocks = nn.ModuleList(DualMambaBlock(b, size, state, expand) for b, size in zip(stages, shapes[1:]))
        self.up = nn.ModuleList(_Pair(_Up(b, a), _Up(b, a)) for a, b in pairwise(widths))
        self.merge = nn.Conv3d(2 * channels, channels, 1)
        self.recompute = False

    def forward(self, one: Tensor, other: Tensor) -> Tensor:
        """Two grids (B, channels, X, Y, Z) -> the fused grid (B, channels, X, Y, Z)."""
        pair = (one, other)
        skips = []
        for down, block in zip(self.down, self.down_blocks):
            skips.append(pair)
            pair = self._stage(down, block, pair)
        for up, block, skip in zip(list(self.up)[::-1], list(self.up_blocks)[::-1], skips[::-1]):
            first, second = self._stage(block, up, pair)
            pair = (_cropped(first, skip[0]) + skip[0], _cropped(second, skip[1]) + skip[1])
        out: Tensor = self.merge(torch.cat(pair, 1))
        return out

    def _stage(self, first: nn.Module, second: nn.Module, pair: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """One module after the other."""

        def run(one: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
            made: tuple[Tensor, Tensor] = second(*first(one, other))
            return made

        if not (self.recompute and torch.is_grad_enabled()):
            return run(*pair)
        out: tuple[Tensor, Tensor] = checkpoint(run, *pair, use_reentrant=False)
        return out


class DualMambaBlock(nn.Module):
    """Position embeddings, exchange of half of the channels, Hilbert order, Mamba, restored order; the input is added back.

    Args:
        channels: of both grids, even.
        shape: cells along x, y, z.
        state, expand: see `Mamba`.
    """

    order: Tensor
    back: Tensor
    position: Tensor

    def __init__(self, channels: int, shape: Shape, state: int, expand: int) -> None:
        super().__init__()
        if channels % 2:
            raise ValueError(f"half of the channels are exchanged: their number must be even, not {channels}")
        order = hilbert_order(shape)
        self.register_buffer("order", order, persistent=False)
        self.register_buffer("back", inverse(order), persistent=False)
        self.register_buffer("position", _positions(shape)[order], persistent=False)
        self.embed = nn.ModuleList(
            nn.Sequential(nn.Linear(3, channels), nn.GELU(), nn.Linear(channels, channels)) for _ in range(2)
        )
        self.norm = nn.ModuleList(nn.LayerNorm(channels) for _ in range(2))
        self.mamba = nn.ModuleList(Mamba(channels, state, expand) for _ in range(2))

    def forward(self, one: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
        """Two grids (B, C, X, Y, Z) -> two grids of the same shape."""
        shape = one.shape
        own = [grid.flatten(2).transpose(1, 2).index_select(1, self.order) for grid in (one, other)]
        placed = [tokens + embed(self.position) for tokens, embed in zip(own, self.embed)]
        mixed = exchange_channels(*placed)
        (mamba, other_mamba), (norm, other_norm) = self.mamba, self.norm
        assert isinstance(mamba, Mamba) and isinstance(other_mamba, Mamba)
        scans = scan_together(mamba.select(norm(mixed[0])), other_mamba.select(other_norm(mixed[1])))
        scanned = (own[0] + mamba.finish(scans[0]), own[1] + other_mamba.finish(scans[1]))
        first, second = (tokens.index_select(1, self.back).transpose(1, 2).reshape(shape) for tokens in scanned)
        return first, second


def exchange_channels(one: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
    """The second halves of the channels (the last dimension) change places."""
    half = [one.shape[-1] // 2] * 2
    (a, b), (c, d) = split_by_slices(one, half, -1), split_by_slices(other, half, -1)
    return torch.cat([a, d], -1), torch.cat([c, b], -1)


class _Pair(nn.Module):
    """A layer for each of the two branches."""

    def __init__(self, one: nn.Module, other: nn.Module) -> None:
        super().__init__()
        self.one, self.other = one, other

    def forward(self, one: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
        return self.one(one), self.other(other)


class _Down(nn.Sequential):
    """Half the resolution, rounded up. Coarse stages have too few cells for statistics over a batch of one or two grids."""

    def __init__(self, channels: int, out: int) -> None:
        super().__init__(nn.Conv3d(channels, out, 3, 2, 1), nn.GroupNorm(1, out), nn.ReLU())


class _Up(nn.Sequential):
    """Twice the resolution.

    All cells share one kernel: a transposed convolution of stride 2 has weights of its own for each cell of a block of 2 x 2 x 2,
    and shows the blocks in what it predicts for flat regions.
    """

    def __init__(self, channels: int, out: int) -> None:
        super().__init__(nn.Upsample(scale_factor=2), nn.Conv3d(channels, out, 3, padding=1))


def _cropped(grid: Tensor, like: Tensor) -> Tensor:
    x, y, z = like.shape[2:]
    return grid[:, :, :x, :y, :z]


def _positions(shape: Shape) -> Tensor:
    """(X * Y * Z, 3) cell centres scaled to -1..1 over the grid, C order."""
    axes = [(torch.arange(n) + 0.5) / n * 2 - 1 for n in shape]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 3)
