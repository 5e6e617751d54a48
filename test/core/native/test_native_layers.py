# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""The sparse layers on compiled kernels: features, cells and gradients of PyTorch's own way, in batches too."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scenes import seeds, shapes

from occle_core.native import library
from occle_core.sparse import GenerativeConvTranspose3d, SparseTensor, StridedConv3d, SubmanifoldConv3d, native_gemm

LAYERS = {
    "submanifold": (SubmanifoldConv3d, 32, 48),
    "submanifold, one cell": (SubmanifoldConv3d, 16, 16, 1),
    "strided": (StridedConv3d, 32, 16),
    "strided, overlapping": (StridedConv3d, 16, 32, 3, 2),
    "generative": (GenerativeConvTranspose3d, 16, 48, 3, 1),
}


@pytest.fixture(autouse=True)
def _layers_on_kernels():
    with native_gemm.use_kernels():
        yield


def test_layers_stay_with_pytorch_until_they_are_let(kernels, monkeypatch):
    """Engine `torch` is the reference of all others, also in a process that has loaded the library."""
    monkeypatch.setenv(library.VARIABLE, kernels.instructions)
    features, weight = torch.randn(5, 32), torch.randn(27, 32, 48)
    assert native_gemm.available(features, weight)
    with native_gemm.use_kernels(False):
        assert not native_gemm.available(features, weight) and native_gemm.workspace() is None
    assert native_gemm.available(features, weight)


@pytest.mark.parametrize("name", LAYERS)
def test_autocast_is_pytorchs(name):
    """A training in bfloat16 on a CPU is one in every layer, whatever its channels."""
    kind, channels, *more = LAYERS[name]
    cells = torch.nonzero(torch.rand(6, 6, 6, generator=torch.Generator().manual_seed(0)) < 0.5)
    with torch.autocast("cpu", torch.bfloat16):
        found = kind(channels, *more)(SparseTensor(torch.rand(len(cells), channels), cells, (6, 6, 6))).features
    assert found.dtype == torch.bfloat16


@settings(max_examples=15, deadline=None)
@given(
    name=st.sampled_from(sorted(LAYERS)), shape=shapes, batch=st.integers(1, 3), fill=st.sampled_from([0.0, 0.05, 0.6]), seed=seeds
)
def test_layers_and_their_gradients(kernels, name, shape, batch, fill, seed):
    kind, *sizes = LAYERS[name]
    torch.manual_seed(seed % 2**31)
    layer = kind(*sizes, bias=True)
    coords = (torch.rand(batch, *shape) < fill).nonzero()
    coords = coords[torch.randperm(len(coords))]
    features = torch.randn(len(coords), sizes[0])
    results = []
    for instructions in (kernels.instructions, "off"):
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv(library.VARIABLE, instructions)
            own = features.clone().requires_grad_()
            assert native_gemm.available(own, layer.weight) == (instructions != "off")
            layer.zero_grad()
            out = layer(SparseTensor(own, coords, shape, batch))
            torch.manual_seed(1)
            out.features.backward(torch.randn(out.features.shape))
            results.append((out, own.grad, layer.weight.grad.clone(), layer.bias.grad.clone()))
    (found, *gradients), (right, *expected) = results
    assert torch.equal(found.coords, right.coords) and found.shape == right.shape
    for mine, other in zip((found.features.detach(), *gradients), (right.features.detach(), *expected), strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-4, atol=1e-4)


def test_only_what_the_kernels_can_do_is_theirs(kernels, monkeypatch):
    monkeypatch.setenv(library.VARIABLE, kernels.instructions)
    features, weight = torch.zeros(3, 16), torch.zeros(27, 16, 16)
    assert native_gemm.available(features, weight)
    assert not native_gemm.available(features.double(), weight.double())
    assert not native_gemm.available(features.half(), weight)
    assert not native_gemm.available(features, torch.zeros(27, 16, 17))
    assert not native_gemm.available(features.to("meta"), weight.to("meta"))


def test_several_layers_share_pairs_and_threads_do_not_disturb_each_other(kernels, monkeypatch):
    monkeypatch.setenv(library.VARIABLE, kernels.instructions)
    torch.manual_seed(0)
    layer, coords = SubmanifoldConv3d(16, 16), (torch.rand(1, 30, 20, 8) < 0.3).nonzero()
    tensors = [SparseTensor(torch.randn(len(coords), 16), coords, (30, 20, 8)) for _ in range(6)]
    alone = [layer(layer(x)).features for x in tensors]
    assert tensors[0].coordinates.pairs is tensors[0].coordinates.pairs
    with ThreadPoolExecutor(2) as threads:
        together = list(threads.map(lambda x: layer(layer(x)).features, tensors * 4))
    assert all(torch.equal(found, alone[number % 6]) for number, found in enumerate(together))


def test_cells_that_cannot_be_are_refused_as_without_kernels(kernels, monkeypatch):
    for cells, why in (
        ([[0, 2, 0, 0]], "outside"),
        ([[2, 0, 0, 0]], "outside"),
        ([[0, 0, -1, 0]], "outside"),
        ([[1, 1, 1, 1]] * 2, "twice"),
    ):
        for instructions in (kernels.instructions, "off"):
            monkeypatch.setenv(library.VARIABLE, instructions)
            with pytest.raises(ValueError, match=why):
                SparseTensor(torch.zeros(len(cells), 16), torch.tensor(cells), (2, 2, 2), 2)
    monkeypatch.setenv(library.VARIABLE, kernels.instructions)
    right = SparseTensor(torch.zeros(2, 16), torch.tensor([[1, 1, 1, 1], [0, 1, 1, 1]], dtype=torch.int32), (2, 2, 2), 2)
    assert right.coords.tolist() == [[1, 1, 1, 1], [0, 1, 1, 1]]
