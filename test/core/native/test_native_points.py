# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Compiled point features against the PyTorch modules."""

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scenes import channels, numbers_of, seeds
from test_native_conv import close

from occle_core.native import points as native
from occle_core.networks.blocks.fold_batch_norms import fold_batch_norms
from occle_core.networks.blocks.voxel_features import VoxelFeatureEncoder
from occle_core.networks.minkocc.point_fusion import PointFusion

FEW = settings(max_examples=25, deadline=None)


@FEW
@given(st.integers(0, 300), st.integers(1, 3), st.integers(1, 3), st.integers(1, 3), channels, seeds)
def test_fusion(space, count, views, images, scales, width, seed):
    rng = np.random.default_rng(seed)
    sizes = [(int(rng.integers(1, 9)), int(rng.integers(1, 9))) for _ in range(scales)]
    pyramid = [torch.from_numpy(rng.normal(size=(images, width, *size)).astype(np.float32)) for size in sizes]
    view = torch.from_numpy(rng.integers(0, images + 1, (count, views)))
    # Borders and beyond: what no point should have, but what must not read outside of the image either.
    uv = torch.from_numpy(rng.choice([0.0, 1.0, -0.5, 1.5, *rng.random(9)], (count, views, 2)).astype(np.float32))
    points = rng.normal(size=(count, 5)).astype(np.float32)
    torch.manual_seed(seed % 2**31)
    module = PointFusion(width)
    score = native.Score(space.library, numbers_of(module.score.weight)[0], module.score.bias.item())
    stacked = [np.zeros((images, *size, len(score.weight)), np.float32) for size in sizes]
    for level, values in zip(pyramid, stacked):
        values[..., :width] = level.permute(0, 2, 3, 1)
    with space.frame():
        found = native.fuse(space, points, stacked, view.numpy(), uv.numpy(), score)
        np.testing.assert_array_equal(found[:, :5], points)
        close(found[:, 5:], module(pyramid, view, uv))


@FEW
@given(st.integers(0, 90), st.sampled_from([1, 3, 6, 35, 70]), channels, st.integers(1, 20), seeds)
def test_voxel_encoder(space, voxels, most, width, own, seed):
    rng = np.random.default_rng(seed)
    counts = rng.integers(1, most + 1, voxels)
    count, slot = int(counts.sum()), np.arange(most)
    begins = np.cumsum(counts) - counts
    table = np.where(slot < counts[:, None], begins[:, None] + slot, count)
    order = rng.permutation(count)  # points need not lie in the voxels' order
    table = np.append(order, count)[table]
    voxel = np.empty(count, np.int64)
    voxel[order] = np.repeat(np.arange(voxels), counts)
    points = rng.normal(size=(count, own + 2)).astype(np.float32)
    torch.manual_seed(seed % 2**31)
    module = VoxelFeatureEncoder(own, width)
    for layer in (module.first, module.second):
        torch.nn.init.normal_(layer[1].bias)
    folded = fold_batch_norms(module)
    layers = (numbers_of(p) for layer in (folded.first[0], folded.second[0]) for p in (layer.weight, layer.bias))
    right = folded(torch.from_numpy(points[:, :own]), torch.from_numpy(voxel), torch.from_numpy(table))
    with space.frame():
        close(native.encode(space, points, table, native.VoxelEncoder(space.library, *layers, padding=2)), right)
