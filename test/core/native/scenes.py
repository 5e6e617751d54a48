# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Random sets of cells, clustered as scans are, and features on them."""

import numpy as np
import torch
from hypothesis import strategies as st

from occle_core.sparse import SparseTensor

shapes = st.tuples(st.integers(1, 9), st.integers(1, 9), st.integers(1, 9))
even_shapes = shapes.map(lambda shape: tuple(2 * n for n in shape))
fills = st.sampled_from([0.0, 0.02, 0.3, 1.0])
seeds = st.integers(0, 2**32 - 1)
channels = st.sampled_from([1, 3, 8, 12, 16, 24, 33, 48])


def cells_in(shape, fill, seed):
    """(N, 4) int64 batch, x, y, z in random order; at least a corner of the grid is active unless `fill` is 0."""
    rng = np.random.default_rng(seed)
    active = rng.random(shape) < fill
    if fill:
        active[rng.choice([0, -1]), rng.choice([0, -1]), rng.choice([0, -1])] = True
    found = rng.permutation(np.argwhere(active))
    return np.hstack([np.zeros((len(found), 1), np.int64), found]).astype(np.int64)


def tensor_on(coords, shape, width, seed):
    """A SparseTensor with random features."""
    generator = torch.Generator().manual_seed(seed % 2**31)
    return SparseTensor(torch.randn(len(coords), width, generator=generator), torch.from_numpy(coords), shape)


def numbers_of(tensor):
    return tensor.detach().numpy()
