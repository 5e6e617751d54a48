# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Mink-GenUNet: a sparse encoder, and a decoder that makes voxels and prunes them (MinkOcc, Sec. IV-A and IV-B)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn

from occle_core.networks.blocks.sparse_blocks import ResidualBlock, SparseStep
from occle_core.sparse import (
    GenerativeConvTranspose3d,
    SparseTensor,
    StridedConv3d,
    SubmanifoldConv3d,
    add_at,
    prune,
    union_add,
)


@dataclass
class DecoderLevel:
    """Proposed voxels of one decoder level and their occupancy logits, before pruning.

    Attributes:
        proposed: the cells that the level made, with their features.
        occupancy: (N,) logits of "this cell is occupied".
    """

    proposed: SparseTensor
    occupancy: Tensor


class GenerativeUNet(nn.Module):
    """Sparse UNet whose decoder grows the support (Gwak et al., GSDN) and prunes it level by level.

    The coarsest level first grows by one cell all around, so that completion reaches beyond what the LiDAR touched. A residual
    block of half the width looks at the made cells' surroundings before they are pruned, on all levels but the finest, which has
    too many of them. The decoder has far more cells than the encoder, and may be narrower.

    Args:
        channels: channels per encoder level, finest first; the input and the output have channels[0].
        decoder: channels per decoder level, finest first.
        blocks: residual blocks per encoder level.
        keep: least occupancy probability that survives, per level but the coarsest, finest first.
    """

    def __init__(self, channels: Sequence[int], decoder: Sequence[int], blocks: Sequence[int], keep: Sequence[float]) -> None:
        super().__init__()
        if not len(channels) == len(blocks) == len(decoder) + 1 == len(keep) + 1:
            raise ValueError(
                f"{len(channels)} levels need as many block counts (not {len(blocks)}), and one less of decoder channels "
                f"(not {len(decoder)}) and thresholds (not {len(keep)})"
            )
        self.threshold = [float(torch.logit(torch.tensor(value))) for value in keep]
        self.encoder = nn.ModuleList(
            nn.Sequential(*(ResidualBlock(width, width) for _ in range(count))) for width, count in zip(channels, blocks)
        )
        self.down = nn.ModuleList(SparseStep(StridedConv3d(a, b), b) for a, b in pairwise(channels))
        self.grow = SparseStep(GenerativeConvTranspose3d(channels[-1], channels[-1], 3, stride=1), channels[-1])
        made = [*decoder, channels[-1]]
        self.up = nn.ModuleList(SparseStep(GenerativeConvTranspose3d(b, a), a) for a, b in pairwise(made))
        self.skip = nn.ModuleList(nn.Linear(a, b, bias=False) for a, b in zip(channels, decoder))
        self.refine = nn.ModuleList(
            nn.Identity() if not level else ResidualBlock(width, width // 2) for level, width in enumerate(decoder)
        )
        self.occupancy = nn.ModuleList(_occupancy_head(width) for width in decoder)
        self.decoder = nn.ModuleList(SparseStep(SubmanifoldConv3d(a, b), b) for a, b in zip(decoder, [channels[0], *decoder[1:]]))

    @property
    def set_names(self) -> dict[str, int]:
        """Names of the sets of cells that `forward` makes, input first, in order; and their levels, 0 the finest."""
        coarsest = len(self.up)
        names = {"voxels": 0, **{f"encoder.{level}": level for level in range(1, coarsest + 1)}, "grown": coarsest}
        return names | {f"kept.{level}": level for level in range(coarsest - 1, -1, -1)}

    def forward(self, x: SparseTensor, occupied: Sequence[Tensor] | None = None) -> tuple[SparseTensor, list[DecoderLevel]]:
        """Complete the volume.

        Args:
            x: voxel features on the finest level.
            occupied: training only: (B, X, Y, Z) bool per decoder level, finest first, of cells that pruning must keep
                (Gwak et al., Sec. 3.2). Inference passes none.

        Returns:
            the finest level after pruning, and what each decoder level proposed, finest first.
        """
        skips = [self.encoder[0](x)]
        for down, encoder in zip(self.down, self.encoder[1:]):
            skips.append(encoder(down(skips[-1])))
        x = add_at(self.grow(skips[-1]), skips[-1])
        levels: list[DecoderLevel] = []
        for number in range(len(self.up) - 1, -1, -1):
            skip = skips[number].with_features(self.skip[number](skips[number].features))
            x = self.refine[number](union_add(self.up[number](x), skip))
            logits = self.occupancy[number](x.features)[:, 0]
            levels.insert(0, DecoderLevel(x, logits))
            keep = logits.detach() > self.threshold[number]
            if occupied is not None:
                keep = keep | x.at_cells(occupied[number])
            x = self.decoder[number](prune(x, keep))
        return x, levels


def _occupancy_head(channels: int) -> nn.Linear:
    """Starts from "free": a network that begins by keeping every cell would spend its first hundred steps on a dense grid."""
    head = nn.Linear(channels, 1)
    nn.init.constant_(head.bias, -2.0)
    return head
