# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""OccLE's inputs in the fixed shapes of its program."""

from __future__ import annotations

import numpy as np

from occle_core.networks.blocks.padding import Arrays, pad_scan, scan_arrays
from occle_core.networks.capacities import Capacities
from occle_core.networks.occle.inputs import OccleInputs


def pad(inputs: OccleInputs, capacities: Capacities, center: tuple[float, float]) -> Arrays:
    """One sample's inputs in a program's shapes.

    Returns:
        images (1, F, V, H, W, 3) uint8, projections (1, F, V, 3, 4) float32, and of the F frames' scans points (F, P, 7)
        float32, voxel (F, P) int32, table (F, N, K) int32, cells (F, N, 3) int32, count (F, 1) int32.
    """
    first = inputs.scans[0]
    types = {"points": (tuple(first.points.shape[1:]), np.float32)}
    stacked = scan_arrays(types, first.table.shape[1], capacities, (len(inputs.scans),))
    for number, scan in enumerate(inputs.scans):
        arrays = {"points": (scan.points.numpy(), 0)}
        out = {name: array[number] for name, array in stacked.items()}
        pad_scan(arrays, scan.voxel.numpy(), scan.table.numpy(), scan.coords[:, 1:].numpy(), capacities, center, out)
    return {"images": inputs.images.numpy(), "projections": inputs.projections.numpy(), **stacked}
