# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
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
    out: Arrays,
) -> None:
    """One scan, padded to a program's capacities; the farthest voxels are left out where they or their points do not fit.

    Args:
        features: arrays (P, ...) of the points by name, each with what fills the rows that hold no point.
        voxel: (P,) row of the voxel that each point lies in.
        table: (N, K) point rows of each voxel; P where it has fewer.
        cells: (N, 3) the voxels.
        capacities: rows of the points and of the voxels.
        center: where the sensor is, x and y in cells.
        out: what is written, see `scan_arrays`; what stands for "none" are the capacities.
    """
    rows, voxels = capacities.points, capacities.voxels
    if len(voxel) > rows or len(cells) > voxels:
        features, voxel, table, cells = _nearest(features, table, cells, capacities, center)
    for name, (array, fill) in features.items():
        _write(out[name], array, fill)
    _write(out["voxel"], voxel, voxels)
    _write(out["table"], table, rows)
    if len(voxel) != rows:
        part = out["table"][: len(table)]
        part[part == len(voxel)] = rows
    _write(out["cells"], cells, 0)
    out["count"][0] = len(cells)


def scan_arrays(
    features: Mapping[str, tuple[tuple[int, ...], type[np.generic]]], kept: int, capacities: Capacities, scans: tuple[int, ...] = ()
) -> Arrays:
    """Room for `pad_scan`: the features by their shapes per point and types, then voxel, table, cells and count, all int32.

    Args:
        features: shape per point, and type, by name.
        kept: points of a voxel that its row of the table holds.
        capacities: rows of the points and of the voxels.
        scans: leading axes, for several scans.
    """
    points, voxels = (*scans, capacities.points), (*scans, capacities.voxels)
    return {
        **{name: np.empty((*points, *shape), dtype) for name, (shape, dtype) in features.items()},
        "voxel": np.empty(points, np.int32),
        "table": np.empty((*voxels, kept), np.int32),
        "cells": np.empty((*voxels, 3), np.int32),
        "count": np.empty((*scans, 1), np.int32),
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


def _write(out: NDArray[np.generic], array: NDArray[np.generic], fill: int) -> None:
    out[: len(array)] = array
    out[len(array) :] = fill
