# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""MinkOcc's inputs in the fixed shapes of its program."""

from __future__ import annotations

import numpy as np

from occle_core.networks.blocks.padding import Arrays, pad_scan, scan_arrays
from occle_core.networks.capacities import Capacities
from occle_core.networks.minkocc.inputs import MinkOccInputs


def pad(inputs: MinkOccInputs, capacities: Capacities, center: tuple[float, float]) -> Arrays:
    """One frame's inputs in a program's shapes.

    Returns:
        images (1, V, H, W, 3) uint8, points (P, 10) float32 (11 with sweeps), view (P, M) int32, uv (P, M, 2) float32, voxel (P,)
        int32, table (N, K) int32, cells (N, 3) int32, count (1,) int32; what stands for "none" is as in `MinkOccInputs`, with the
        capacities P and N.
    """
    points, view, uv, table = (tensor.numpy() for tensor in (inputs.points, inputs.view, inputs.uv, inputs.table))
    types = {"points": (points.shape[1:], np.float32), "view": (view.shape[1:], np.int32), "uv": (uv.shape[1:], np.float32)}
    scan = scan_arrays(types, table.shape[1], capacities)
    features = {"points": (points, 0), "view": (view, inputs.images.shape[1]), "uv": (uv, 0)}
    pad_scan(features, inputs.voxel.numpy(), table, inputs.coords[:, 1:].numpy(), capacities, center, scan)
    return {"images": inputs.images.numpy(), **scan}
