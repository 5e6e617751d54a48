# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Compiled decoder layers against the PyTorch ones."""

import numpy as np
import torch
from compiled_kernels import padded_rows
from hypothesis import given, settings
from hypothesis import strategies as st
from scenes import cells_in, channels, even_shapes, fills, numbers_of, seeds, shapes, tensor_on
from test_native_conv import close, layer_of, same_cells

from occle_core.native import cells as native_cells
from occle_core.native import decoder
from occle_core.native.conv import Weight
from occle_core.networks.minkocc.native_unet import _children
from occle_core.networks.minkocc.network import label_grid
from occle_core.sparse import GenerativeConvTranspose3d, SparseTensor, SqueezeExcite, prune, union_add

FEW = settings(max_examples=25, deadline=None)


@FEW
@given(shapes, fills, st.sampled_from([4, 12, 16, 48]), seeds)
def test_excite(space, shape, fill, width, seed):
    coords = cells_in(shape, fill, seed)
    x, y = (tensor_on(coords, shape, width, seed + number) for number in (0, 1))
    torch.manual_seed(seed % 2**31)
    layer = SqueezeExcite(width)
    weights = decoder.Excite(space.library, *(numbers_of(p) for p in layer.gate.parameters()))
    with space.frame():
        found = padded_rows(space.library, y.features)
        decoder.excite(space, found, padded_rows(space.library, x.features), weights)
    close(found, torch.relu(layer(y).features + x.features))


@FEW
@given(shapes, fills, channels, seeds, st.sampled_from([-9.0, 0.0, 9.0]))
def test_prune(space, shape, fill, width, seed, threshold):
    x = tensor_on(cells_in(shape, fill, seed), shape, width, seed)
    torch.manual_seed(seed % 2**31)
    head = torch.nn.Linear(width, 1)
    weights = decoder.Occupancy(space.library, numbers_of(head.weight)[0], head.bias.item(), threshold)
    with space.frame():
        cells = native_cells.cells_of(space, x.coords.numpy(), shape)
        kept, found = decoder.prune(space, cells, padded_rows(space.library, x.features), weights)
        right = prune(x, head(x.features)[:, 0] > threshold)
        same_cells(kept, right)
        close(found, right.features)


@FEW
@given(even_shapes, fills, fills, channels, seeds, st.sampled_from([-9.0, 0.0, 9.0]))
def test_the_finest_level_is_union_then_prune(space, shape, fill, more_fill, width, seed, threshold):
    coarse = tuple(n // 2 for n in shape)
    x = tensor_on(cells_in(coarse, fill, seed), coarse, width, seed)
    skip = tensor_on(cells_in(shape, more_fill, seed + 1), shape, width, seed + 1)
    up = torch.nn.Module()
    up.conv = layer_of(GenerativeConvTranspose3d, width, width, seed=seed)
    head = torch.nn.Linear(width, 1)
    made = up.conv(x)
    united = union_add(made.with_features(torch.relu(made.features)), skip)
    right = prune(united, head(united.features)[:, 0] > threshold)
    weights = decoder.Occupancy(space.library, numbers_of(head.weight)[0], head.bias.item(), threshold)
    with space.frame():
        cells = native_cells.cells_of(space, x.coords.numpy(), coarse)
        other = native_cells.cells_of(space, skip.coords.numpy(), shape)
        rows = padded_rows(space.library, x.features), padded_rows(space.library, skip.features)
        kept, found = decoder.finest(space, cells, rows[0], _children(space.library, up), other, rows[1], weights)
        same_cells(kept, right)
        close(found, right.features)
        assert (other.table(space) < 0).all()


@FEW
@given(shapes, fills, st.integers(1, 40), seeds)
def test_labels(space, shape, fill, classes, seed):
    x = tensor_on(cells_in(shape, fill, seed), shape, classes, seed)
    scaled = SparseTensor.at(x.coordinates, (x.features * 6).round())  # equal logits among them
    free = seed % classes
    head = Weight(space.library, np.eye(classes)[None], None, fill=decoder.NEVER)  # so that features are the logits
    with space.frame():
        cells = native_cells.cells_of(space, x.coords.numpy(), shape)
        found = decoder.labels(space, cells, padded_rows(space.library, numbers_of(scaled.features)), head, free)
    labels, confidence = found.labels, found.confidence
    assert len(np.unique(found.cells)) == len(found.cells) and (found.classes != free).all()
    right, sure = (volume[0].numpy() for volume in label_grid(scaled, free))
    np.testing.assert_array_equal(labels, right)
    steps = np.abs(confidence.view(np.int16).astype(int) - sure.view(np.int16).astype(int))
    assert steps.max(initial=0) <= 2 and (confidence[right == free] == 0).all()
