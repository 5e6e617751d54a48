"""OccLE's inputs in the fixed shapes of its program."""

from __future__ import annotations

import numpy as np

from occle_core.networks.blocks.padding import Arrays, pad_scan
from occle_core.networks.capacities import Capacities
from occle_core.networks.occle.inputs import OccleInputs, VoxelisedScan


def pad(inputs: OccleInputs, capacities: Capacities, center: tuple[float, float]) -> Arrays:
    """One sample's inputs in a program's shapes.

    Returns:
        images (1, F, V, H, W, 3) uint8, projections (1, F, V, 3, 4) float32, and of the F frames' scans points (F, P, 7)
        float32, voxel (F, P) int32, table (F, N, K) int32, cells (F, N, 3) int32, count (F, 1) int32.
    """
    scans = [_pad_scan(scan, capacities, center) for scan in inputs.scans]
    stacked = {name: np.stack([scan[name] for scan in scans]) for name in scans[0]}
    return {"images": inputs.images.numpy(), "projections": inputs.projections.numpy(), **stacked}


def _pad_scan(scan: VoxelisedScan, capacities: Capacities, center: tuple[float, float]) -> Arrays:
    features = {"points": (scan.points.numpy(), 0)}
    return pad_scan(features, scan.voxel.numpy(), scan.table.numpy(), scan.coords[:, 1:].numpy(), capacities, center)
