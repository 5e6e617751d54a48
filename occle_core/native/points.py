# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Point and voxel features on compiled kernels (see points.cpp): PointFusion and the voxel feature encoder."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from occle_core.native.conv import Floats
from occle_core.native.library import Library, address
from occle_core.native.workspace import Workspace


class Score:
    """Weight (C,) and bias of PointFusion's score, for images of padded channels."""

    def __init__(self, library: Library, weight: ArrayLike, bias: float) -> None:
        source = np.asarray(weight, np.float32)
        self.weight: Floats = np.zeros(library.padded(len(source)), np.float32)
        self.weight[: len(source)] = source
        self.bias = bias


def fuse(space: Workspace, points: Floats, pyramid: Sequence[Floats], view: NDArray[np.int64], uv: Floats, score: Score) -> Floats:
    """Point features with fused image features behind them.

    Args:
        points: (P, A).
        pyramid: (images, H_l, W_l, padded C) per scale.
        view: (P, M) image of each sampled view; a number that is no image stands for none.
        uv: (P, M, 2) position in it, 0..1 from border to border.
        score: of the softmax over scales and views.

    Returns:
        (P, A + padded C).
    """
    (count, own), views, images, width = points.shape, view.shape[1], len(pyramid[0]), len(score.weight)
    out = space.empty(np.float32, count, own + width)
    levels = [address(level, np.float32, images, None, None, width) for level in pyramid]
    pixels = (ctypes.c_void_p * len(levels))(*levels)
    heights, widths = (np.array([level.shape[axis] for level in pyramid], np.int64) for axis in (1, 2))
    work = space.empty(np.float32, space.pool.threads, views * len(levels) * (width + 1))
    space.library.call(
        "fuse_points",
        space.pool.handle,
        ctypes.addressof(pixels),
        address(heights, np.int64, None),
        address(widths, np.int64, None),
        len(levels),
        images,
        width,
        address(score.weight, np.float32, width),
        score.bias,
        address(view, np.int64, count, views),
        address(uv, np.float32, count, views, 2),
        count,
        views,
        address(points, np.float32, count, own),
        own,
        address(out, np.float32, count, own + width),
        address(work, np.float32, None, None),
    )
    return out


class VoxelEncoder:
    """Weights of the voxel feature encoder: (C, A) and (C, 2 C) with their biases, as `nn.Linear` keeps them.

    Args:
        padding: columns of zeros that the points have behind their A features.
    """

    def __init__(self, library: Library, w1: ArrayLike, b1: ArrayLike, w2: ArrayLike, b2: ArrayLike, padding: int = 0) -> None:
        first, second = np.asarray(w1, np.float32), np.asarray(w2, np.float32)
        self.channels = len(first)
        width = library.padded(self.channels)
        self.first: Floats = np.zeros((first.shape[1] + padding, width), np.float32)
        self.first[: first.shape[1], : self.channels] = first.T
        self.second: Floats = np.zeros((2 * width, width), np.float32)
        self.second[: self.channels, : self.channels] = second[:, : self.channels].T
        self.second[width : width + self.channels, : self.channels] = second[:, self.channels :].T
        self.biases: Floats = np.zeros((2, width), np.float32)
        self.biases[0, : self.channels], self.biases[1, : self.channels] = b1, b2


def encode(space: Workspace, points: Floats, table: NDArray[np.int64], weights: VoxelEncoder) -> Floats:
    """Points (P, A + padding) and the voxels' (N, K) point rows, P for none -> (N, padded C)."""
    (inputs, width), most = weights.first.shape, max(space.library.constant("encoder_rows"), table.shape[1])
    out = space.empty(np.float32, len(table), width)
    threads = space.pool.threads
    work, rows = space.empty(np.float32, threads * 4 * most, width), space.empty(np.int64, threads * 2 * most)
    space.library.call(
        "encode_voxels",
        space.pool.handle,
        address(points, np.float32, None, inputs),
        len(points),
        inputs,
        address(table, np.int64, None, None),
        *table.shape,
        width,
        address(weights.first, np.float32, inputs, width),
        address(weights.biases[0], np.float32, width),
        address(weights.second, np.float32, 2 * width, width),
        address(weights.biases[1], np.float32, width),
        address(out, np.float32, len(table), width),
        address(work, np.float32, None, width),
        address(rows, np.int64, None),
    )
    return out
