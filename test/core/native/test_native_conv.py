# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Compiled convolutions and coordinates against the PyTorch layers, over shapes, borders, empty sets and widths."""

import numpy as np
import pytest
import torch
from compiled_kernels import padded_rows
from hypothesis import given, settings
from scenes import cells_in, channels, even_shapes, fills, numbers_of, seeds, shapes, tensor_on

from occle_core.native import cells as native_cells
from occle_core.native.conv import Weight, convolve, linear
from occle_core.sparse import GenerativeConvTranspose3d, StridedConv3d, SubmanifoldConv3d, add_at, union_add

FEW = settings(max_examples=25, deadline=None)


def layer_of(kind, width, out, *sizes, seed=0):
    torch.manual_seed(seed % 2**31)
    layer = kind(width, out, *sizes, bias=True)
    torch.nn.init.normal_(layer.bias)
    return layer


def weight_of(space, layer):
    return Weight(space.library, numbers_of(layer.weight), numbers_of(layer.bias))


def same_cells(cells, tensor):
    """The native cells as coordinates, row by row the tensor's."""
    where = np.stack(np.unravel_index(cells.keys, cells.box), 1) - 1
    np.testing.assert_array_equal(where, tensor.coords[:, 1:].numpy())
    assert cells.shape == tensor.shape


def close(found, right):
    """Features of padded width: the first channels as expected, zeros behind."""
    right = numbers_of(right)
    np.testing.assert_allclose(found[:, : right.shape[1]], right, rtol=2e-4, atol=2e-5)
    assert not found[:, right.shape[1] :].any()


@FEW
@given(shapes, fills, channels, channels, seeds)
def test_submanifold(space, shape, fill, width, out, seed):
    x = tensor_on(cells_in(shape, fill, seed), shape, width, seed)
    layer = layer_of(SubmanifoldConv3d, width, out, seed=seed)
    with space.frame():
        cells = native_cells.cells_of(space, x.coords.numpy(), shape)
        same_cells(cells, x)
        pairs = cells.neighbours(space)
        close(convolve(space, numbers_of(x.features), weight_of(space, layer), pairs), layer(x).features)
        relu = convolve(space, padded_rows(space.library, x.features), weight_of(space, layer), pairs, relu=True)
        close(relu, torch.relu(layer(x).features))
        assert (cells.table(space) < 0).all()


@FEW
@given(shapes, fills, channels, channels, seeds)
def test_strided(space, shape, fill, width, out, seed):
    x = tensor_on(cells_in(shape, fill, seed), shape, width, seed)
    layer = layer_of(StridedConv3d, width, out, seed=seed)
    with space.frame():
        cells, pairs = native_cells.strided(space, native_cells.cells_of(space, x.coords.numpy(), shape))
        right = layer(x)
        same_cells(cells, right)
        close(convolve(space, numbers_of(x.features), weight_of(space, layer), pairs), right.features)
        assert (cells.table(space) < 0).all()


@FEW
@given(shapes, fills, channels, seeds)
def test_grown(space, shape, fill, width, seed):
    x = tensor_on(cells_in(shape, fill, seed), shape, width, seed)
    layer = layer_of(GenerativeConvTranspose3d, width, width, 3, 1, seed=seed)
    with space.frame():
        source = native_cells.cells_of(space, x.coords.numpy(), shape)
        cells, pairs = native_cells.grown(space, source)
        right = layer(x)
        same_cells(cells, right)
        rows = padded_rows(space.library, x.features)
        found = convolve(space, rows, weight_of(space, layer), pairs)
        close(found, right.features)
        native_cells.add_at(space, found, cells, rows, source)
        close(found, add_at(right, x).features)
        assert (cells.table(space) < 0).all()


@FEW
@given(even_shapes, fills, fills, channels, seeds)
def test_children_and_union(space, shape, fill, more_fill, width, seed):
    coarse = tuple(n // 2 for n in shape)
    x = tensor_on(cells_in(coarse, fill, seed), coarse, width, seed)
    more = tensor_on(cells_in(shape, more_fill, seed + 1), shape, width, seed + 1)
    layer = layer_of(GenerativeConvTranspose3d, width, width, seed=seed)
    with space.frame():
        skip = native_cells.cells_of(space, more.coords.numpy(), shape)
        keys = native_cells.children(space, native_cells.cells_of(space, x.coords.numpy(), coarse), shape)
        made = layer(x)
        united = union_add(made, more)
        first = native_cells.Cells(keys, shape)
        same_cells(first, made)
        rows = padded_rows(space.library, made.features.detach()), padded_rows(space.library, more.features)
        cells, found = native_cells.unite(space, first, rows[0], skip, rows[1])
        same_cells(cells, united)
        close(found, united.features)
        assert (cells.table(space) < 0).all()


@FEW
@given(shapes, fills, channels, channels, seeds)
def test_linear(space, shape, fill, width, out, seed):
    x = tensor_on(cells_in(shape, fill, seed), shape, width, seed).features
    layer = layer_of(torch.nn.Linear, width, out, seed=seed)
    weight = Weight(space.library, numbers_of(layer.weight).T[None], numbers_of(layer.bias))
    with space.frame():
        close(linear(space, numbers_of(x), weight), layer(x))
        close(linear(space, numbers_of(x), weight, relu=True), torch.relu(layer(x)))


def test_more_rows_than_a_tile_and_wide_features(space):
    shape = (40, 30, 8)
    x = tensor_on(cells_in(shape, 0.3, 1), shape, 96, 1)
    layer = layer_of(SubmanifoldConv3d, 96, 96)
    with space.frame():
        pairs = native_cells.cells_of(space, x.coords.numpy(), shape).neighbours(space)
        assert pairs.outputs > 4 * space.library.tile_rows
        close(convolve(space, numbers_of(x.features), weight_of(space, layer), pairs), layer(x).features)


@pytest.mark.parametrize("wrong", [(0, 3, 0, 0), (0, 0, -1, 0), (1, 0, 0, 0), (0, 1, 1, 1)])
def test_wrong_cells_are_refused_and_leave_the_table_clear(space, wrong):
    coords = np.array([[0, 1, 1, 1], wrong], np.int64)
    with space.frame():
        with pytest.raises(ValueError, match="outside of one grid"):
            native_cells.cells_of(space, coords, (3, 3, 3))
        assert (space.table(125) < 0).all()


def test_what_does_not_fit_is_refused(space):
    x = tensor_on(cells_in((4, 4, 4), 0.5, 2), (4, 4, 4), 8, 2)
    weight = weight_of(space, layer_of(SubmanifoldConv3d, 8, 8))
    with space.frame():
        cells = native_cells.cells_of(space, x.coords.numpy(), (4, 4, 4))
        rows = numbers_of(x.features)
        for other in (rows[1:], rows[:, :4], rows.astype(np.float64), rows[:, ::-1]):
            with pytest.raises(ValueError, match=r"fit|expects"):
                convolve(space, other, weight, cells.neighbours(space))
        with pytest.raises(ValueError, match="offsets"):
            linear(space, rows, weight)
        with pytest.raises(ValueError, match="twice"):
            native_cells.children(space, cells, (8, 8, 9))
