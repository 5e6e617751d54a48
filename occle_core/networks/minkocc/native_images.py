# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""The image branch on compiled kernels: ResNet and feature pyramid with folded batch norms, for inference on a CPU."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from occle_core.native.conv import Floats
from occle_core.native.images import Kernel, Stack, convolve, largest, look_up, space_to_depth
from occle_core.native.library import Library
from occle_core.native.workspace import Workspace
from occle_core.networks.blocks.fold_batch_norms import fold_batch_norms
from occle_core.networks.blocks.resnet import BasicBlock, Bottleneck
from occle_core.networks.minkocc.network import MinkOcc


class NativeImages:
    """Images to pyramid levels whose pixels lie in memory one after the other; several threads may call it at the same time.

    Args:
        library: the kernels.
        network: its image branch is copied, batch norms folded.
    """

    def __init__(self, library: Library, network: MinkOcc) -> None:
        folded = fold_batch_norms(network)
        trunk, pyramid = folded.trunk, folded.pyramid
        bytes_of = np.arange(256, dtype=np.float32)[:, None]
        self._table: Floats = (bytes_of - folded.image_mean.numpy()) / folded.image_std.numpy()
        self._stem = _kernel(library, trunk.conv1)
        stages: Any = (trunk.get_submodule(f"layer{number + 1}") for number in range(trunk.stages))
        self._stages = [[_Block(library, block) for block in stage] for stage in stages]
        blocks: Any = (pyramid.inner_blocks, pyramid.layer_blocks)
        self._inner, self._layers = ([_kernel(library, layer) for (layer,) in each] for each in blocks)

    def __call__(self, stacks: Stacks, images: NDArray[np.uint8]) -> Sequence[NDArray[np.float32]]:
        """(V, H, W, 3) uint8 RGB -> (V, H_l, W_l, padded C) float32 per level, finest first; valid until the next call."""
        views, high, wide = images.shape[:3]
        pixels = stacks.take((views, (high + 1) // 2, (wide + 1) // 2, self._stem.channels), 2)
        look_up(stacks.space, images, self._table, pixels)
        whole = stacks.convolve(pixels, self._stem, relu=True)
        count, height, width, channels = whole.shape
        x = stacks.take((count, (height - 1) // 2 + 1, (width - 1) // 2 + 1, channels))
        largest(stacks.space, whole, x)
        stacks.give(pixels, whole)
        maps: list[Stack] = []
        for stage in self._stages:
            for block in stage:
                made = block(stacks, x)
                if not any(x is kept for kept in maps):
                    stacks.give(x)
                x = made
            maps.append(x)
        inner: Stack | None = None
        out: list[Stack] = []
        for x, lateral, layer in zip(reversed(maps), reversed(self._inner), reversed(self._layers)):
            coarser, inner = inner, stacks.convolve(x, lateral, more=inner)
            out.insert(0, stacks.convolve(inner, layer, margin=0))
            stacks.give(x, *([coarser] if coarser else []))
        assert inner is not None
        stacks.give(inner, *out)
        return [level.array for level in out]


class Stacks:
    """A thread's stacks of images, kept from call to call: their margins stay zeros.

    Args:
        space: of the thread.
    """

    def __init__(self, space: Workspace) -> None:
        self.space = space
        self._free: dict[tuple[tuple[int, int, int, int], int], list[Stack]] = {}

    def take(self, shape: tuple[int, int, int, int], margin: int = 1) -> Stack:
        """A stack (V, H, W, C) with any contents; `give` returns it."""
        free = self._free.setdefault((shape, margin), [])
        return free.pop() if free else Stack(*shape, margin)

    def give(self, *stacks: Stack) -> None:
        """Stacks that are not needed any more."""
        for stack in stacks:
            self._free[stack.shape, stack.margin].append(stack)

    def convolve(self, x: Stack, kernel: Kernel, more: Stack | None = None, relu: bool = False, margin: int = 1) -> Stack:
        """As `native.images.convolve`, into a new stack."""
        out = self.take(kernel.shape_of(x), margin)
        convolve(self.space, x, kernel, out, more, relu)
        return out


class _Block:
    """A residual block of either kind."""

    def __init__(self, library: Library, block: BasicBlock | Bottleneck) -> None:
        convolutions = [block.conv1, block.conv2] if isinstance(block, BasicBlock) else [block.conv1, block.conv2, block.conv3]
        *self._first, self._last = (_kernel(library, layer) for layer in convolutions)
        self._shortcut = None if block.downsample is None else _kernel(library, block.downsample[0])

    def __call__(self, stacks: Stacks, x: Stack) -> Stack:
        """The block's result in a new stack."""
        y = x
        for kernel in self._first:
            made = stacks.convolve(y, kernel, relu=True)
            if y is not x:
                stacks.give(y)
            y = made
        shortcut = x if self._shortcut is None else stacks.convolve(x, self._shortcut)
        out = stacks.convolve(y, self._last, more=shortcut, relu=True)
        stacks.give(y, *([shortcut] if shortcut is not x else []))
        return out


def _kernel(library: Library, layer: Any) -> Kernel:
    """Of an `nn.Conv2d`; the trunk's first, 7 x 7 with stride 2, reads what `look_up` writes."""
    weight, bias = (parameter.detach().cpu().numpy() for parameter in (layer.weight, layer.bias))
    if layer.kernel_size == (7, 7):
        return Kernel(library, space_to_depth(weight), bias, 1, library.padded(4 * layer.in_channels))
    return Kernel(library, weight, bias, layer.stride[0], library.padded(layer.in_channels))
