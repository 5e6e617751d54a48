"""MinkOcc's inputs in the fixed shapes of its program."""

from __future__ import annotations

import numpy as np

from occle_core.networks.blocks.padding import Arrays, pad_scan
from occle_core.networks.capacities import Capacities
from occle_core.networks.minkocc.inputs import MinkOccInputs


def pad(inputs: MinkOccInputs, capacities: Capacities, center: tuple[float, float]) -> Arrays:
    """One frame's inputs in a program's shapes.

    Returns:
        images (1, V, H, W, 3) uint8, points (P, 10) float32 (11 with sweeps), view (P, M) int32, uv (P, M, 2) float32, voxel (P,)
        int32, table (N, K) int32, cells (N, 3) int32, count (1,) int32; what stands for "none" is as in `MinkOccInputs`, with the
        capacities P and N.
    """
    features = {
        "points": (inputs.points.numpy(), 0),
        "view": (inputs.view.numpy().astype(np.int32), inputs.images.shape[1]),
        "uv": (inputs.uv.numpy(), 0),
    }
    cells = inputs.coords[:, 1:].numpy()
    scan = pad_scan(features, inputs.voxel.numpy(), inputs.table.numpy(), cells, capacities, center)
    return {"images": inputs.images.numpy(), **scan}
