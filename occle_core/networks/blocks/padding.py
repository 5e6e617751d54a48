"""Scans in the fixed shapes of a program."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from occle_core.networks.capacities import Capacities

Arrays = dict[str, NDArray[np.generic]]


def pad_scan(
    features: Mapping[str, tuple[NDArray[np.generic], int]],
    voxel: NDArray[np.int64],
    table: NDArray[np.int64],
    cells: NDArray[np.int64],
    capacities: Capacities,
    center: tuple[float, float],
) -> Arrays:
    """One scan, padded to a program's capacities; the farthest voxels are left out where they or their points do not fit.

    Args:
        features: arrays (P, ...) of the points by name, each with what fills the rows that hold no point.
        voxel: (P,) row of the voxel that each point lies in.
        table: (N, K) point rows of each voxel; P where it has fewer.
        cells: (N, 3) the voxels.
        capacities: rows of the points and of the voxels.
        center: where the sensor is, x and y in cells.

    Returns:
        the features, then voxel (rows of points,), table (rows of voxels, K), cells (rows of voxels, 3) and count (1,), all int32;
        what stands for "none" are the capacities.
    """
    rows, voxels = capacities.points, capacities.voxels
    if len(voxel) > rows or len(cells) > voxels:
        features, voxel, table, cells = _nearest(features, table, cells, capacities, center)
    filled = len(cells)
    padded_table = np.full((voxels, table.shape[1]), rows, np.int32)
    padded_table[:filled] = np.where(table == len(voxel), rows, table)
    return {
        **{name: _padded(array, rows, fill) for name, (array, fill) in features.items()},
        "voxel": _padded(voxel.astype(np.int32), rows, voxels),
        "table": padded_table,
        "cells": _padded(cells.astype(np.int32), voxels, 0),
        "count": np.array([filled], np.int32),
    }


def _nearest(
    features: Mapping[str, tuple[NDArray[np.generic], int]],
    table: NDArray[np.int64],
    cells: NDArray[np.int64],
    capacities: Capacities,
    center: tuple[float, float],
) -> tuple[dict[str, tuple[NDArray[np.generic], int]], NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """The nearest voxels whose points fit, from near to far: features, voxel, table, cells."""
    none = len(next(iter(features.values()))[0])
    distance = np.hypot(cells[:, 0] + 0.5 - center[0], cells[:, 1] + 0.5 - center[1])
    order = np.argsort(distance, kind="stable")
    total = np.cumsum((table[order] < none).sum(1))
    order = order[: min(capacities.voxels, int(np.searchsorted(total, capacities.points, side="right")))]
    table = table[order]
    filled = table < none
    rows = table[filled]
    kept = np.full(table.shape, len(rows), np.int64)
    kept[filled] = np.arange(len(rows))
    return {name: (array[rows], fill) for name, (array, fill) in features.items()}, np.nonzero(filled)[0], kept, cells[order]


def _padded(array: NDArray[np.generic], rows: int, fill: int) -> NDArray[np.generic]:
    out = np.full((rows, *array.shape[1:]), fill, array.dtype)
    out[: len(array)] = array
    return out
