# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Moving voxel labels from the grid they were recorded on to the grid that is asked for."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from occle_core.datasets.base import DatasetError
from occle_core.geometry.grid import VoxelGrid
from occle_core.taxonomy import IGNORE, Taxonomy


def resample(labels: NDArray[np.uint8], source: VoxelGrid, target: VoxelGrid, taxonomy: Taxonomy) -> NDArray[np.uint8]:
    """Labels (X, Y, Z) of `source` on `target`, 255 where `source` says nothing.

    The cells of `target` must be a whole number of times as long as those of `source`, and its corner must lie on a corner of
    `source`'s cells; the two boxes may differ.

    Raises:
        DatasetError: the cells do not line up.
    """
    factor = round(target.resolution / source.resolution)
    offset = (np.array(target.origin) - np.array(source.origin)) / source.resolution
    start = np.round(offset).astype(int)
    if factor < 1 or abs(factor * source.resolution - target.resolution) > 1e-6 or np.abs(offset - start).max() > 1e-3:
        raise DatasetError(
            f"a voxel truth of {source.resolution} m cells from {source.origin} does not line up with a grid of "
            f"{target.resolution} m cells from {target.origin}; use a multiple of {source.resolution} m "
            "and an origin on the truth's cell corners"
        )
    shape = np.array(target.shape) * factor
    first, last = np.maximum(start, 0), np.minimum(start + shape, source.shape)
    fine = np.full(shape, IGNORE, np.uint8)
    if (last > first).all():
        here = tuple(slice(a, b) for a, b in zip(first - start, last - start))
        fine[here] = labels[tuple(slice(a, b) for a, b in zip(first, last))]
    return coarsen(fine, factor, taxonomy)


def coarsen(labels: NDArray[np.uint8], factor: int, taxonomy: Taxonomy) -> NDArray[np.uint8]:
    """Group factor^3 cells into one.

    A cell is occupied if a known child is, with the most frequent occupied label (the lowest id of equals); free if none is
    occupied and one is known to be free; else 255.

    Args:
        labels: (X, Y, Z), each a multiple of `factor`.
        factor: cells per edge of a group.
        taxonomy: names the free class.

    Returns:
        (X / factor, Y / factor, Z / factor) uint8.
    """
    if factor == 1:
        return labels
    x, y, z = (n // factor for n in labels.shape)
    children = labels.reshape(x, factor, y, factor, z, factor).transpose(0, 2, 4, 1, 3, 5).reshape(x * y * z, -1)
    coarse = np.where((children == taxonomy.free).any(axis=1), taxonomy.free, IGNORE).astype(np.uint8)
    cells, child = np.nonzero((children != taxonomy.free) & (children != IGNORE))
    voted, winners = majority(cells, children[cells, child])
    coarse[voted] = winners
    return coarse.reshape(x, y, z)


def majority(
    cells: NDArray[np.integer], labels: NDArray[np.uint8], weights: NDArray[np.float64] | None = None
) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
    """The label with most votes in every cell that has one; of equals the lowest id.

    Args:
        cells: (N,) non-negative cell numbers, one a vote.
        labels: (N,) what is voted for.
        weights: (256,) what a vote for each label counts; None counts all as 1.

    Returns:
        the cells (M,), ascending and unique, and their labels (M,) uint8.
    """
    keys, counts = np.unique(cells.astype(np.int64) * 256 + labels, return_counts=True)
    cell, label = keys // 256, (keys % 256).astype(np.uint8)
    votes = counts if weights is None else counts * weights[label]
    order = np.lexsort((label, -votes, cell))
    cell, label = cell[order], label[order]
    first = np.ones(len(cell), np.bool_)
    first[1:] = cell[1:] != cell[:-1]
    return cell[first], label[first]
