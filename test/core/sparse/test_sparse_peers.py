# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Sparse layers against other people's code: spconv and MinkowskiEngine with the same weights, forward and backward; and the
cases of PyTorch's dense convolutions that test_sparse.py leaves out."""

import pytest
import torch
from occle_train.loop.minkowski_backend import minkowski_order

from benchmark.sparse import peers
from benchmark.sparse.library_peers import Minkowski, Spconv
from benchmark.sparse.problem import Problem, goal, positions
from occle_core.sparse import GenerativeConvTranspose3d, SparseTensor, StridedConv3d, prune, union_add
from occle_core.sparse.runs import CHUNK_ROWS

SHAPE = (12, 10, 8)
ODD = (11, 9, 7)
LAYERS = [
    ("submanifold", 3, 1),
    ("strided", 2, 2),
    ("strided", 3, 2),
    ("strided", 2, 1),
    ("strided", 3, 1),
    ("generative", 2, 2),
    ("generative", 3, 2),
    ("generative", 3, 1),
    ("generative", 2, 1),
]

# What Spconv says about its meaning: a rim that only a part of the kernel touches, and a grid that ends one cell earlier.
SPCONV_MAKES_MORE = {("strided", 3, 2), ("strided", 2, 1), ("strided", 3, 1), ("generative", 2, 1)}
SPCONV_MAKES_LESS = {("generative", 3, 2)}
pytestmark = pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")


def random_cells(share, batch, shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    cells = (torch.rand(batch, *shape, generator=generator) < share).nonzero()
    return cells[torch.randperm(len(cells), generator=generator)].contiguous()


def on_the_border(shape):
    """The cells of a box's surface."""
    inner = torch.ones(shape, dtype=torch.bool)
    inner[1:-1, 1:-1, 1:-1] = False
    cells = inner.nonzero()
    return torch.cat([torch.ones(len(cells), 1, dtype=torch.int64), cells], 1).contiguous()


CELLS = {
    "random": (random_cells(0.2, 2, SHAPE), SHAPE, 2),
    "random on an odd grid": (random_cells(0.2, 2, ODD), ODD, 2),
    "border of the second grid": (on_the_border(SHAPE), SHAPE, 2),
    "one voxel in the last corner": (torch.tensor([[1, 11, 9, 7]]), SHAPE, 2),
    "every cell": (random_cells(1.1, 1, (6, 4, 4)), (6, 4, 4), 1),
}


@pytest.fixture(autouse=True)
def one_thread():
    """With two threads and more spconv 2.3.8 adds rows to the same cell at the same time and loses some (159 of 200 runs)."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def make_problem(kind, kernel, stride, cells, shape, batch, channels=4, width=5):
    generator = torch.Generator().manual_seed(1)
    features = torch.randn(len(cells), channels, dtype=torch.float64, generator=generator)
    weight = torch.randn(kernel**3, channels, width, dtype=torch.float64, generator=generator)
    return Problem(kind, kernel, stride, cells, shape, batch, features, weight)


@pytest.fixture(params=CELLS, ids=list(CELLS))
def cells(request):
    return CELLS[request.param]


def compare(peer_type, problem, extra=False, missing=False):
    """Results on all common cells, and gradients of a loss over them. `extra`: the peer may make more cells, `missing`: less."""
    ours, peer = peers.Occle(problem), peer_type(problem)
    out, theirs = ours.run(ours.input()), peer.run(peer.input())
    mine, others = ours.cells(out), peer.cells(theirs)
    found = positions(mine, others)
    assert len(out) == len(problem.made_cells())
    assert missing or (found >= 0).all(), "the peer makes fewer cells"
    assert extra or len(others) == int((found >= 0).sum()), "the peer makes more cells"
    common = found >= 0
    rows, their_rows = ours.rows(out)[common], peer.rows(theirs)[found[common]]
    torch.testing.assert_close(rows, their_rows)
    gradient = goal(mine[common], rows.shape[1], rows.dtype)
    rows.backward(gradient)
    their_rows.backward(gradient)
    torch.testing.assert_close(ours.features.grad, peer.features.grad)
    torch.testing.assert_close(ours.weight_gradient(), peer.weight_gradient())


@pytest.mark.parametrize(("kind", "kernel", "stride"), LAYERS)
def test_dense_convolution_agrees(kind, kernel, stride, cells):
    compare(peers.Dense, make_problem(kind, kernel, stride, *cells))


@pytest.mark.parametrize(("kind", "kernel", "stride"), LAYERS)
def test_spconv_agrees(kind, kernel, stride, cells):
    pytest.importorskip("spconv", reason="spconv is not installed: pip install spconv==2.3.8")
    layer = (kind, kernel, stride)
    compare(Spconv, make_problem(*layer, *cells), extra=layer in SPCONV_MAKES_MORE, missing=layer in SPCONV_MAKES_LESS)


@pytest.mark.parametrize(("kind", "kernel", "stride"), LAYERS)
def test_minkowski_engine_agrees(kind, kernel, stride, cells):
    minkowski()
    # MinkowskiEngine knows no bounds: what grows beyond the grid stays.
    compare(Minkowski, make_problem(kind, kernel, stride, *cells), extra=kind == "generative" and kernel != stride)


def minkowski():
    return pytest.importorskip("MinkowskiEngine", reason="MinkowskiEngine is not installed: docs/how_to/minkowski.md")


def test_minkowski_pruning_and_union_agree():
    engine = minkowski()
    a, b = random_cells(0.3, 2, SHAPE), random_cells(0.3, 2, SHAPE, seed=5)
    left, right = torch.randn(len(a), 3, dtype=torch.float64), torch.randn(len(b), 3, dtype=torch.float64)
    keep = torch.arange(len(a)) % 3 == 0
    x = engine.SparseTensor(left, a.int())
    pruned = engine.MinkowskiPruning()(x, keep)
    ours = prune(SparseTensor(left, a, SHAPE, 2), keep)
    assert torch.equal(ours.features, pruned.F[positions(ours.coords, pruned.C)])
    joined = engine.MinkowskiUnion()(x, engine.SparseTensor(right, b.int(), coordinate_manager=x.coordinate_manager))
    ours = union_add(SparseTensor(left, a, SHAPE, 2), SparseTensor(right, b, SHAPE, 2))
    assert len(ours) == len(joined.F)
    torch.testing.assert_close(ours.features, joined.F[positions(ours.coords, joined.C)])


@pytest.mark.parametrize("kernel", [2, 3])
def test_minkowski_order_of_offsets_is_found_by_experiment(kernel):
    """One voxel that is seen through one offset at a time shows which of our offsets each of MinkowskiEngine's is."""
    engine = minkowski()
    layer = engine.MinkowskiConvolution(1, kernel**3, kernel_size=kernel, stride=kernel, dimension=3)
    layer.kernel.data = torch.eye(kernel**3)[:, None, :].contiguous()
    first = -(kernel // 2) if kernel % 2 else 0
    for number in range(kernel**3):
        offset = torch.tensor([number // kernel**2, number // kernel % kernel, number % kernel]) + first
        # A cell at a kernel's centre makes sure that the coarse cell is there.
        coords = torch.cat([torch.zeros(1, 1, dtype=torch.int64), 4 * kernel + offset[None]], 1)
        coords = torch.cat([coords, torch.tensor([[0, *[4 * kernel] * 3]])]).unique(dim=0)
        features = (coords[:, 1:] == 4 * kernel + offset).all(1)[:, None].float()
        out = layer(engine.SparseTensor(features, coords.int().contiguous()))
        row = int((out.C[:, 1:] == 4 * kernel).all(1).nonzero())
        assert minkowski_order(kernel)[out.F[row].argmax()] == number


@pytest.mark.parametrize("kernel", [2, 3])
@pytest.mark.parametrize("layer", [StridedConv3d, GenerativeConvTranspose3d])
def test_scattered_gradients_over_several_chunks_equal_dense(layer, kernel):
    kind = "strided" if layer is StridedConv3d else "generative"
    problem = make_problem(kind, kernel, 2, random_cells(0.3, 1, (24, 24, 24)), (24, 24, 24), 1, 2, 3)
    assert len(problem.made_cells()) > (CHUNK_ROWS if kind == "generative" else CHUNK_ROWS // 2)
    compare(peers.Dense, problem)


@pytest.mark.parametrize(("kind", "kernel", "stride"), LAYERS)
def test_no_cells_give_no_cells_and_zero_gradients(kind, kernel, stride):
    ours = peers.Occle(make_problem(kind, kernel, stride, torch.zeros(0, 4, dtype=torch.int64), SHAPE, 2))
    out = ours.run(ours.input())
    out.features.sum().backward()
    assert len(out) == 0 and out.features.shape == (0, 5)
    assert ours.features.grad.shape == (0, 4) and (ours.weight_gradient() == 0).all()


def test_gradient_of_pruning_reaches_kept_cells_only():
    cells = random_cells(0.3, 2, (4, 4, 4))
    x = SparseTensor(torch.randn(len(cells), 3, dtype=torch.float64), cells, (4, 4, 4), 2)
    keep = torch.arange(len(x)) % 2 == 0

    def run(features):
        return prune(x.with_features(features), keep).features

    features = x.features.clone().requires_grad_()
    assert torch.autograd.gradcheck(run, (features,))
    run(features).sum().backward()
    assert torch.equal(features.grad != 0, keep[:, None].expand(-1, 3))


@pytest.mark.parametrize("layer", [StridedConv3d, GenerativeConvTranspose3d])
@pytest.mark.parametrize("kernel", [2, 3])
def test_gradients_with_stride_1_by_finite_differences(layer, kernel):
    cells = random_cells(0.25, 2, (4, 4, 4))
    x = SparseTensor(torch.randn(len(cells), 2, dtype=torch.float64), cells, (4, 4, 4), 2)
    convolution = layer(2, 3, kernel, 1).double()

    def run(features, weight):
        return torch.func.functional_call(convolution, {"weight": weight}, (x.with_features(features),)).features

    assert torch.autograd.gradcheck(run, (x.features.requires_grad_(), convolution.weight.detach().clone().requires_grad_()))
