# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""The static form against the dynamic one, which test_sparse.py holds against dense convolutions."""

import numpy as np
import pytest
import torch

from occle_core.bundle import rig_spec, spec_for
from occle_core.engines.static.measure import limits_of, measure
from occle_core.engines.static.program import program_for, sensor_cell
from occle_core.frame import Frame
from occle_core.geometry.camera import Camera
from occle_core.geometry.grid import VoxelGrid
from occle_core.networks.blocks.fold_batch_norms import fold_batch_norms
from occle_core.networks.capacities import Capacities, choose_capacities
from occle_core.networks.minkocc.config import tiny
from occle_core.networks.minkocc.inputs import prepare
from occle_core.networks.minkocc.network import MinkOcc, label_grid
from occle_core.sparse import (
    GenerativeConvTranspose3d,
    SparseTensor,
    SqueezeExcite,
    StridedConv3d,
    SubmanifoldConv3d,
    add_at,
    prune,
    union_add,
)
from occle_core.sparse.static import Budget, StaticCoordinates

SHAPE = (12, 10, 8)
CENTER = (0.0, 5.0)
CASES = ["random", "empty", "one", "borders", "full"]


def cells_of(case, seed=0):
    generator = np.random.default_rng(seed)
    everything = np.indices(SHAPE).reshape(3, -1).T
    if case == "random":
        return generator.permutation(everything)[:200]
    if case == "borders":
        upper = np.asarray(SHAPE) - 1
        return everything[((everything == 0) | (everything == upper)).any(1)]
    return everything[: {"empty": 0, "one": 1, "full": len(everything)}[case]]


def both(case, channels=4, sizes=(960,) * 6, seed=0):
    """The same features on the same cells in the dynamic and in the static form (with rubbish in unused rows)."""
    cells = torch.from_numpy(cells_of(case, seed))
    features = torch.randn(len(cells), channels, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    padded, coords = torch.full((sizes[0], channels), 7.0, dtype=torch.float64), torch.zeros(sizes[0], 3, dtype=torch.int32)
    padded[: len(cells)], coords[: len(cells)] = features, cells.int()
    count = torch.tensor([len(cells)], dtype=torch.int32)
    budget = Budget(sizes, CENTER)
    static = SparseTensor.at(StaticCoordinates.from_cells(coords, count, SHAPE, budget), padded)
    return SparseTensor(features, cells, SHAPE), static, budget


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize(
    "layer",
    [
        SubmanifoldConv3d(4, 3, bias=True),
        SubmanifoldConv3d(4, 3, 1),
        StridedConv3d(4, 3),
        StridedConv3d(4, 3, 3, bias=True),
        StridedConv3d(4, 3, 3, 1),
        GenerativeConvTranspose3d(4, 3, bias=True),
        GenerativeConvTranspose3d(4, 3, 3, 1),
        GenerativeConvTranspose3d(4, 3, 3, 2),
        SqueezeExcite(4),
    ],
    ids=lambda layer: f"{type(layer).__name__}{getattr(layer, 'kernel_size', '')}s{getattr(layer, 'stride', '')}",
)
def test_layers_say_the_same_in_both_forms(layer, case):
    layer = layer.double()
    dynamic, static, budget = both(case, sizes=(960, 7680))
    a, b = layer(dynamic), layer(static)
    torch.testing.assert_close(b.dense(), a.dense())
    assert b.shape == a.shape and int(b.coordinates.valid.sum()) == len(a)
    assert [int(count) for count in budget.counts] == a.coordinates.counts


@pytest.mark.parametrize("case", CASES)
def test_pruning_and_sums_say_the_same_in_both_forms(case):
    dynamic, static, _ = both(case)
    other_dynamic, other_static, _ = both("random", seed=1)
    torch.testing.assert_close(union_add(static, other_static).dense(), union_add(dynamic, other_dynamic).dense())
    torch.testing.assert_close(add_at(static, other_static).dense(), add_at(dynamic, other_dynamic).dense())
    keep = lambda x: x.features[:, 0] > 0.2  # noqa: E731
    torch.testing.assert_close(prune(static, keep(static)).dense(), prune(dynamic, keep(dynamic)).dense())


def test_gradients_pass_through_the_static_form():
    dynamic, static, _ = both("random", sizes=(300, 300))
    layer = StridedConv3d(4, 3).double()
    for x in (dynamic, static):
        x.features.requires_grad_()
    grads = [torch.autograd.grad(layer(x).dense().square().sum(), [x.features, layer.weight]) for x in (dynamic, static)]
    torch.testing.assert_close(grads[1][0][: len(dynamic)], grads[0][0])
    torch.testing.assert_close(grads[1][1], grads[0][1])


def test_the_nearest_cells_survive_an_overflow_and_the_rest_is_counted():
    _, static, budget = both("full", sizes=(960, 20))
    out = StridedConv3d(4, 3).double()(static)
    assert int(budget.counts[1]) == 6 * 5 * 4 and int(out.coordinates.valid.sum()) == 20
    kept = out.coordinates.xyz[:20, :2].double() + 0.5 - torch.tensor(CENTER) / 2
    ring = (kept.norm(dim=1) / 4).int()
    assert (ring == 0).all()


def small_case(seed=0):
    grid = VoxelGrid((0.0, -6.4, -2.0), (32, 32, 16), 0.4)
    spec = spec_for(tiny("kitti"), grid, "semantickitti", "test")
    torch.manual_seed(seed)
    network = spec.build().eval()
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm1d | torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.running_mean, -0.5, 0.5)
            torch.nn.init.uniform_(module.running_var, 0.5, 2.0)
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
    for head in network.unet.occupancy:
        torch.nn.init.zeros_(head.bias)
    generator = np.random.default_rng(seed)
    points = np.c_[generator.uniform((0, -6, -2), (12, 6, 4), (600, 3)), generator.random(600)].astype(np.float32)
    T = np.eye(4)
    T[:3, :3] = [[0, -1, 0], [0, 0, -1], [1, 0, 0]]
    camera = Camera(np.array([[60.0, 0, 64], [0, 60, 32], [0, 0, 1]]), T, 128, 64)
    image = generator.integers(0, 255, (64, 128, 3), dtype=np.uint8)
    return spec, network, prepare(Frame(0, points, [image], [camera]), grid, spec.network)


def run(program, inputs):
    padded = MinkOcc.pad(inputs, program.capacities, program.center)
    with torch.inference_mode():
        return program(*(torch.from_numpy(np.asarray(array)) for array in padded.values()))


def test_folded_batch_norms_change_nothing():
    _, network, inputs = small_case()
    with torch.inference_mode():
        a, b = network(inputs).classes, fold_batch_norms(network)(inputs).classes
    assert torch.equal(a.coords, b.coords)
    torch.testing.assert_close(a.features, b.features, rtol=1e-3, atol=1e-4)
    assert not any(
        isinstance(module, torch.nn.BatchNorm1d | torch.nn.BatchNorm2d) for module in fold_batch_norms(network).modules()
    )


def test_the_whole_program_equals_the_eager_network():
    spec, network, inputs = small_case()
    counts = measure(network, [inputs])
    chosen = choose_capacities(counts, limits_of(network, spec.network.points.max_points))
    program = program_for(spec.model_copy(update={"capacities": chosen}), network)
    assert list(network.pad(inputs, chosen, program.center)) == list(program.INPUTS)
    labels, confidence, found = run(program, inputs)
    with torch.inference_mode():
        expected, sure = label_grid(network(inputs).classes, program.free)
    assert int((expected != program.free).sum()) > 100
    assert torch.equal(labels, expected)
    torch.testing.assert_close(confidence, sure, rtol=0, atol=2e-3)
    assert found.tolist() == [counts[name][0] for name in network.set_names]


def test_too_many_voxels_lose_the_farthest_and_are_reported():
    spec, network, inputs = small_case()
    limits = limits_of(network, spec.network.points.max_points)
    sizes = {name: limit for name, limit in limits.items() if name != "points"} | {"voxels": 64}
    tight = Capacities(points=limits["points"], sets=sizes)
    program = program_for(spec.model_copy(update={"capacities": tight}), network)
    padded = MinkOcc.pad(inputs, program.capacities, program.center)
    assert padded["count"].tolist() == [64] and len(inputs.coords) > 64
    x, y = sensor_cell(spec)
    distance = lambda cells: np.hypot(cells[:, 0] + 0.5 - x, cells[:, 1] + 0.5 - y)  # noqa: E731
    everything = np.sort(distance(inputs.coords[:, 1:].numpy()))
    np.testing.assert_allclose(np.sort(distance(padded["cells"])), everything[:64])
    assert run(program, inputs)[2][0] == 64


def test_capacities_hold_the_percentile_and_a_margin_and_stay_within_the_grid():
    chosen = choose_capacities({"points": [1000] * 10, "voxels": [100, 200, 300]}, {"points": 5000, "voxels": 310})
    assert chosen.points == 1152 and chosen.sets == {"voxels": 310}


def test_sets_are_named_in_the_order_in_which_the_network_makes_them():
    network = rig_spec("tiny", "kitti").build()
    assert list(network.set_names) == ["voxels", "encoder.1", "encoder.2", "encoder.3", "grown", "kept.2", "kept.1", "kept.0"]
