# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""MinkOcc on compiled kernels: all that follows the image branch, for inference on a CPU."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from occle_core.native.cells import cells_of
from occle_core.native.conv import Floats, Weight
from occle_core.native.decoder import NEVER, labels
from occle_core.native.library import Library
from occle_core.native.points import Score, VoxelEncoder, encode, fuse
from occle_core.native.workspace import Workspace
from occle_core.networks.blocks.fold_batch_norms import fold_batch_norms
from occle_core.networks.minkocc.inputs import MinkOccInputs
from occle_core.networks.minkocc.native_unet import NativeUNet, numbers
from occle_core.networks.minkocc.network import MinkOcc
from occle_core.occupancy import SparseLabels


class NativeMinkOcc:
    """The network's weights in the layout of the kernels; threads may share it, each with a workspace of its own.

    Args:
        library: the kernels.
        network: its weights are copied, batch norms folded.
        free: id of the free class.
    """

    def __init__(self, library: Library, network: MinkOcc, free: int) -> None:
        folded = fold_batch_norms(network)
        fusion, first, second = folded.points.fusion, folded.points.vfe.first[0], folded.points.vfe.second[0]
        channels = fusion.score.in_features
        self.score = Score(library, numbers(fusion.score.weight)[0], fusion.score.bias.item())
        first_weights, second_weights = ((numbers(layer.weight), numbers(layer.bias)) for layer in (first, second))
        self.encoder = VoxelEncoder(library, *first_weights, *second_weights, padding=library.padded(channels) - channels)
        self.unet = NativeUNet(library, folded.unet)
        self.head = Weight(library, numbers(folded.head.weight).T[None], numbers(folded.head.bias), fill=NEVER)
        self.shape, self.free = network.shape, free

    def __call__(
        self,
        space: Workspace,
        inputs: MinkOccInputs,
        pyramid: Sequence[Floats],
        stage_done: Callable[[str], None] = lambda stage: None,
    ) -> SparseLabels:
        """Predict one frame.

        Args:
            space: this thread's.
            inputs: one frame's.
            pyramid: image features (V, H_l, W_l, padded C) per scale, finest first.
            stage_done: called with the name of each finished stage, for timing.

        Raises:
            ValueError: inputs that are not one frame's, or do not fit the network.
        """
        if inputs.batch_size != 1:
            raise ValueError(f"native kernels run one frame at a time, not a batch of {inputs.batch_size}")
        points, view, uv, table, coords = (
            np.ascontiguousarray(tensor.numpy()) for tensor in (inputs.points, inputs.view, inputs.uv, inputs.table, inputs.coords)
        )
        with space.frame():
            cells = cells_of(space, coords, self.shape)
            if len(table) != len(cells):
                raise ValueError(f"{len(table)} rows of points for {len(cells)} voxels")
            x = encode(space, fuse(space, points, pyramid, view, uv, self.score), table, self.encoder)
            stage_done("fusion")
            cells, x = self.unet(space, cells, x)
            stage_done("voxels")
            return labels(space, cells, x, self.head, self.free)
