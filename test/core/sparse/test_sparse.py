# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Sparse layers against PyTorch's dense convolutions, forward and backward, and by hand where there is no dense counterpart."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from occle_core.sparse import (
    GenerativeConvTranspose3d,
    SparseBatchNorm,
    SparseTensor,
    SqueezeExcite,
    StridedConv3d,
    SubmanifoldConv3d,
    prune,
    union_add,
)
from occle_core.sparse.gather_gemm import gather_gemm
from occle_core.sparse.runs import CHUNK_ROWS, Runs, convolve_runs

SHAPE = (12, 10, 8)


def random_tensor(share=0.2, batch=2, channels=4, seed=0, shape=SHAPE):
    generator = torch.Generator().manual_seed(seed)
    coords = (torch.rand(batch, *shape, generator=generator) < share).nonzero()
    features = torch.randn(len(coords), channels, dtype=torch.float64, generator=generator)
    return SparseTensor(features, coords[torch.randperm(len(coords), generator=generator)], shape, batch)


def dense_kernel(layer):
    """(K^3, C_in, C_out) in C order of the offsets -> conv3d's (C_out, C_in, k, k, k)."""
    k = layer.kernel_size
    return layer.weight.view(k, k, k, *layer.weight.shape[1:]).permute(4, 3, 0, 1, 2)


def at(volume, x):
    batch, i, j, k = x.coords.unbind(1)
    return volume[batch, :, i, j, k]


CASES = {
    "sparse": random_tensor(),
    "dense": random_tensor(share=1.0),
    "one voxel": SparseTensor(torch.ones(1, 4, dtype=torch.float64), torch.tensor([[0, 3, 3, 3]]), SHAPE, 2),
    "corner": SparseTensor(torch.ones(1, 4, dtype=torch.float64), torch.tensor([[1, 11, 9, 7]]), SHAPE, 2),
    "empty": SparseTensor(torch.zeros(0, 4, dtype=torch.float64), torch.zeros(0, 4, dtype=torch.int64), SHAPE, 2),
    "several chunks": random_tensor(share=0.3, batch=1, shape=(24, 20, 20)),
    "several chunks, close": random_tensor(share=0.7, batch=1, shape=(24, 20, 20)),
}


@pytest.fixture(params=CASES, ids=list(CASES))
def x(request):
    return CASES[request.param]


def test_the_largest_cases_need_more_than_one_chunk_and_take_both_ways():
    few, close = CASES["several chunks"], CASES["several chunks, close"]
    assert min(len(few), len(close)) > CHUNK_ROWS
    assert few.coordinates.runs is None and close.coordinates.runs is not None


@pytest.mark.parametrize("share", [0.01, 0.1, 0.3, 0.6, 1.0])
@pytest.mark.parametrize("shape", [(7, 6, 9), (5, 4, 2), (6, 5, 1)])
def test_runs_with_gaps_of_every_length_equal_the_map_of_single_cells(share, shape):
    for seed in range(5):
        x = random_tensor(share, 2, seed=seed, shape=shape)
        if not len(x):
            continue
        runs = Runs.of(x.coordinates.keys, x.coordinates.strides, x.coordinates.cells, 0.0)
        weight = torch.randn(27, 4, 3, dtype=torch.float64)
        expected = gather_gemm(x.features, weight, x.coordinates.neighbours(3), mirrored=True)
        torch.testing.assert_close(convolve_runs(x.features, weight, runs), expected)


@pytest.mark.parametrize("kernel", [1, 3])
def test_submanifold_convolution_equals_dense_at_the_active_cells(x, kernel):
    layer = SubmanifoldConv3d(4, 5, kernel, bias=True).double()
    expected = F.conv3d(x.dense(), dense_kernel(layer), layer.bias, padding=kernel // 2)
    out = layer(x)
    assert torch.equal(out.coords, x.coords)
    torch.testing.assert_close(out.features, at(expected, out))


@pytest.mark.parametrize(("kernel", "stride"), [(2, 2), (3, 2), (3, 3), (4, 4), (1, 2)])
def test_strided_convolution_equals_dense_on_the_coarse_cells(x, kernel, stride):
    layer = StridedConv3d(4, 5, kernel, stride).double()
    edges = [part for size in reversed(SHAPE) for part in (0, -size % stride)]  # grids round up
    before = kernel // 2 if kernel % 2 else 0
    expected = F.conv3d(F.pad(x.dense(), edges), dense_kernel(layer), stride=stride, padding=before)
    out = layer(x)
    parents = {(b, i // stride, j // stride, k // stride) for b, i, j, k in x.coords.tolist()}
    assert {tuple(row) for row in out.coords.tolist()} == parents and len(out) == len(parents)
    torch.testing.assert_close(out.features, at(expected, out))


def test_strided_convolution_rounds_odd_grids_up():
    x = SparseTensor(torch.ones(1, 1), torch.tensor([[0, 4, 6, 2]]), (5, 7, 3), 1)
    out = StridedConv3d(1, 1)(x)
    assert out.shape == (3, 4, 2) and out.coords.tolist() == [[0, 2, 3, 1]]


@pytest.mark.parametrize(("kernel", "stride"), [(2, 2), (3, 2), (3, 1)])
def test_generative_convolution_equals_dense_transposed(x, kernel, stride):
    layer = GenerativeConvTranspose3d(4, 5, kernel, stride).double()
    weight = dense_kernel(layer).transpose(0, 1)
    padding, extra = (kernel // 2, stride - 1) if kernel % 2 else (0, 0)
    expected = F.conv_transpose3d(x.dense(), weight, stride=stride, padding=padding, output_padding=extra)
    out = layer(x)
    first = -(kernel // 2) if kernel % 2 else 0
    span = range(first, first + kernel)
    made = {
        (b, stride * i + di, stride * j + dj, stride * k + dk)
        for b, i, j, k in x.coords.tolist()
        for di in span
        for dj in span
        for dk in span
    }
    inside = {c for c in made if all(0 <= v < n * stride for v, n in zip(c[1:], SHAPE if x.shape == SHAPE else x.shape))}
    assert {tuple(row) for row in out.coords.tolist()} == inside and len(out) == len(inside)
    torch.testing.assert_close(out.features, at(expected, out))
    assert torch.equal(out.dense() != 0, expected != 0)


@pytest.mark.parametrize(
    ("make", "share"),
    [
        (lambda: SubmanifoldConv3d(3, 2), 0.25),
        (lambda: SubmanifoldConv3d(3, 2), 0.9),
        (lambda: StridedConv3d(3, 2), 0.25),
        (lambda: StridedConv3d(3, 2, 3), 0.25),
        (lambda: GenerativeConvTranspose3d(3, 2), 0.25),
        (lambda: GenerativeConvTranspose3d(3, 2, 3), 0.25),
        (lambda: GenerativeConvTranspose3d(3, 2, 3, 1), 0.25),
    ],
)
def test_gradients_by_finite_differences(make, share):
    x = random_tensor(share, batch=2, channels=3, shape=(3, 4, 3))
    assert len(x) > 12 and (x.coordinates.runs is None) == (share < 0.5)
    layer = make().double()

    def run(features, weight):
        layer.weight.data = weight.data
        return torch.func.functional_call(layer, {"weight": weight}, (x.with_features(features),)).features

    assert torch.autograd.gradcheck(run, (x.features.clone().requires_grad_(), layer.weight.detach().clone().requires_grad_()))


@pytest.mark.parametrize("case", ["several chunks", "several chunks, close"])
def test_gradients_over_several_chunks_equal_dense(case):
    x = CASES[case]
    layer = SubmanifoldConv3d(4, 5).double()
    features = x.features.clone().requires_grad_()
    goal = torch.randn(len(x), 5, dtype=torch.float64)
    (layer(x.with_features(features)).features * goal).sum().backward()
    weight_grad, layer.weight.grad = layer.weight.grad, None
    dense_features = x.features.clone().requires_grad_()
    volume = F.conv3d(x.with_features(dense_features).dense(), dense_kernel(layer), padding=1)
    (at(volume, x) * goal).sum().backward()
    torch.testing.assert_close(features.grad, dense_features.grad)
    torch.testing.assert_close(weight_grad, layer.weight.grad)


def test_prune_keeps_cells_and_order():
    x = random_tensor()
    keep = torch.arange(len(x)) % 3 == 0
    out = prune(x, keep)
    assert torch.equal(out.coords, x.coords[keep]) and torch.equal(out.features, x.features[keep])


@pytest.mark.parametrize(
    "pair", [("sparse", "corner"), ("empty", "sparse"), ("sparse", "empty"), ("sparse", "dense"), ("empty", "empty")]
)
def test_union_add_equals_dense_addition(pair):
    a, b = (CASES[name] for name in pair)
    out = union_add(a, b)
    active = {tuple(row) for row in a.coords.tolist()} | {tuple(row) for row in b.coords.tolist()}
    assert {tuple(row) for row in out.coords.tolist()} == active and len(out) == len(active)
    torch.testing.assert_close(out.dense(), a.dense() + b.dense())


@pytest.mark.parametrize("types", [(torch.float16, torch.float32), (torch.float32, torch.float16)])
def test_union_add_of_two_types_keeps_the_wider_one(types):
    a, b = (random_tensor(seed=seed) for seed in (1, 2))
    narrow = [x.with_features(x.features.to(kind)) for x, kind in zip((a, b), types)]
    out = union_add(*narrow)
    assert out.features.dtype == torch.float32
    torch.testing.assert_close(out.features, union_add(*(x.with_features(x.features.float()) for x in narrow)).features)


def test_union_add_gradients():
    a, b = random_tensor(shape=(4, 4, 4)), random_tensor(seed=1, shape=(4, 4, 4))

    def run(left, right):
        return union_add(a.with_features(left), b.with_features(right)).features

    assert torch.autograd.gradcheck(run, (a.features.clone().requires_grad_(), b.features.clone().requires_grad_()))


def test_union_add_refuses_other_grids():
    with pytest.raises(ValueError, match="cannot add"):
        union_add(random_tensor(), random_tensor(shape=(4, 4, 4)))


def test_squeeze_excite_gates_each_grid_by_its_own_mean():
    x = random_tensor()
    layer = SqueezeExcite(4).double()
    out = layer(x)
    for grid in (0, 1):
        rows = x.coords[:, 0] == grid
        gate = layer.gate(x.features[rows].mean(0))
        torch.testing.assert_close(out.features[rows], x.features[rows] * gate)


def test_batch_norm_passes_an_empty_tensor():
    layer = SparseBatchNorm(4).double()
    assert len(layer(CASES["empty"])) == 0
    torch.testing.assert_close(layer(CASES["sparse"]).features.mean(0), torch.zeros(4, dtype=torch.float64))


@pytest.mark.parametrize("kernel", [2, 5])
def test_submanifold_kernels_that_the_margin_cannot_hold_are_refused(kernel):
    with pytest.raises(ValueError, match="1 or 3"):
        SubmanifoldConv3d(4, 4, kernel)


def test_coordinates_are_checked():
    with pytest.raises(ValueError, match="twice"):
        SparseTensor(torch.zeros(2, 1), torch.tensor([[0, 1, 1, 1], [0, 1, 1, 1]]), SHAPE, 1)
    with pytest.raises(ValueError, match="outside"):
        SparseTensor(torch.zeros(1, 1), torch.tensor([[0, 12, 0, 0]]), SHAPE, 1)
    with pytest.raises(ValueError, match="expected"):
        SparseTensor(torch.zeros(2, 1), torch.zeros(3, 4, dtype=torch.int64), SHAPE, 1)


def test_dense_round_trip_and_three_column_coords():
    coords = torch.from_numpy(np.argwhere(np.random.default_rng(0).random(SHAPE) < 0.3))
    features = torch.randn(len(coords), 2)
    x = SparseTensor(features, coords, SHAPE)
    i, j, k = coords.unbind(1)
    assert torch.equal(x.dense()[0, :, i, j, k].T, features)
    assert torch.equal(x.coords[:, 1:], coords)
