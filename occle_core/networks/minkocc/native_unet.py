# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""The generative UNet on compiled kernels: the same layers as `GenerativeUNet`, one frame at a time, for inference."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from occle_core.native.cells import Cells, add_at, children, grown, strided, unite
from occle_core.native.conv import Floats, Weight, convolve, linear
from occle_core.native.decoder import Excite, Occupancy, excite, finest, prune
from occle_core.native.library import Library
from occle_core.native.workspace import Workspace
from occle_core.networks.blocks.sparse_blocks import ResidualBlock
from occle_core.networks.minkocc.unet import GenerativeUNet


def numbers(tensor: Any) -> NDArray[np.float32]:
    """A layer's parameter as an array."""
    found: NDArray[np.float32] = tensor.detach().cpu().numpy()
    return found


class NativeBlock:
    """A `ResidualBlock` with folded batch norms."""

    def __init__(self, library: Library, block: ResidualBlock) -> None:
        self.first, self.second = (Weight(library, numbers(c.weight), numbers(c.bias)) for c in (block.conv1, block.conv2))
        squeeze, _, spread, _ = block.excite.gate
        self.gate = Excite(library, *(numbers(p) for p in (squeeze.weight, squeeze.bias, spread.weight, spread.bias)))

    def __call__(self, space: Workspace, cells: Cells, x: Floats) -> Floats:
        """(N, padded channels) -> the same."""
        pairs = cells.neighbours(space)
        y = convolve(space, convolve(space, x, self.first, pairs, relu=True), self.second, pairs)
        excite(space, y, x, self.gate)
        return y


class NativeUNet:
    """A `GenerativeUNet` with folded batch norms.

    Args:
        library: the kernels.
        unet: its weights are copied.
    """

    def __init__(self, library: Library, unet: GenerativeUNet) -> None:
        layers: Any = unet  # lists of modules do not say of which
        self.encoder = [[NativeBlock(library, block) for block in level] for level in layers.encoder]
        self.down = [_step(library, step) for step in layers.down]
        self.grow = _step(library, layers.grow)
        self.up = [_children(library, step) for step in layers.up]
        self.skip = [Weight(library, numbers(layer.weight).T[None]) for layer in layers.skip]
        self.refine = [NativeBlock(library, block) if isinstance(block, ResidualBlock) else None for block in layers.refine]
        self.decoder = [_step(library, step) for step in layers.decoder]
        self.heads = [
            Occupancy(library, numbers(head.weight)[0], head.bias.item(), threshold)
            for head, threshold in zip(layers.occupancy, unet.threshold)
        ]

    def __call__(self, space: Workspace, cells: Cells, x: Floats) -> tuple[Cells, Floats]:
        """Voxel features (N, padded channels) on the finest level -> the cells that survive pruning, and their features."""
        levels = []
        for number, blocks in enumerate(self.encoder):
            if number:
                cells, pairs = strided(space, cells)
                x = convolve(space, x, self.down[number - 1], pairs, relu=True)
            for block in blocks:
                x = block(space, cells, x)
            levels.append((cells, x))
        cells, pairs = grown(space, cells)
        x = convolve(space, x, self.grow, pairs, relu=True)
        add_at(space, x, cells, levels[-1][1], levels[-1][0])
        for number in range(len(self.up) - 1, -1, -1):
            cells, x = self._decode(space, number, cells, x, *levels[number])
        return cells, x

    def _decode(
        self, space: Workspace, number: int, cells: Cells, x: Floats, skip_cells: Cells, skip: Floats
    ) -> tuple[Cells, Floats]:
        """One decoder level: children, skip, refinement, pruning and the level's convolution."""
        more, up, head, refine = linear(space, skip, self.skip[number]), self.up[number], self.heads[number], self.refine[number]
        if refine is None:
            cells, x = finest(space, cells, x, up, skip_cells, more, head)
        else:
            keys = children(space, cells, skip_cells.shape)
            made = linear(space, x, up, relu=True).reshape(len(keys), len(up.bias) // 8)  # no -1: all may be pruned
            cells, x = unite(space, Cells(keys, skip_cells.shape), made, skip_cells, more)
            cells, x = prune(space, cells, refine(space, cells, x), head)
        return cells, convolve(space, x, self.decoder[number], cells.neighbours(space), relu=True)


def _step(library: Library, step: Any) -> Weight:
    return Weight(library, numbers(step.conv.weight), numbers(step.conv.bias))


def _children(library: Library, step: Any) -> Weight:
    """The eight matrices of a kernel 2, stride 2 side by side, each padded by itself: (1, C, 8 padded D)."""
    each = _step(library, step)
    flat = each.weight.transpose(1, 0, 2).reshape(1, each.channels, -1)
    bias: Floats = each.bias.repeat(8).reshape(-1, 8).T.reshape(-1)
    return Weight(library, flat, bias)
