# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""`auto` on CUDA, with engines of the CPU in the places of the GPU's."""

import numpy as np
import pytest
import torch
from lively import Replayed, street

from occle_core.engines import onnxruntime_engine
from occle_core.engines.base import EngineResult
from occle_core.engines.choice import cuda as choice
from occle_core.engines.choice.cuda import cuda_engine
from occle_core.engines.choice.timing import synthetic
from occle_core.engines.torch_engine import TorchEngine
from occle_core.engines.torch_graph_engine import TorchGraphEngine, exported_of
from occle_core.errors import EngineError
from occle_core.networks.minkocc.inputs import prepare
from occle_core.occupancy import SparseLabels


@pytest.fixture(scope="module")
def bundle(graph_bundle):
    """Spec, network and the graph of the CPU by precision."""
    spec, network, program, _ = graph_bundle
    return spec, network, {"fp32": TorchGraphEngine(spec, program, "cpu", Replayed())}


@pytest.fixture
def choose(bundle, monkeypatch):
    """Chooses between the eager network and what `graph` makes; gives the engine and what was said."""
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "a GPU")
    monkeypatch.setattr(choice, "POINTS", 3000)
    spec, network, graphs = bundle

    def run(precision="fp32", graph=None):
        said = []

        def load(name, precision):
            if name == "torch":
                return TorchEngine(spec, network)
            return graph() if graph else graphs[precision]

        return cuda_engine(spec, load, precision, said.append), said

    return run


def check_choice(bundle, choose, precision):
    engine, said = choose(precision)
    assert (engine.name, engine.precision, said) == ("torch_graph", precision, [])
    assert "as in eager PyTorch on a made-up street" in engine.reason
    eager, frame = TorchEngine(*bundle[:2]), prepare(street(bundle[0], 0), bundle[0].voxel_grid, bundle[0].network)
    found, right = engine.run(frame), eager.run(frame)
    occupied = np.count_nonzero((found.labels != 0) | (right.labels != 0))
    assert occupied > 1000 and "network" in found.timings
    assert np.count_nonzero(found.labels != right.labels) <= (0 if precision == "fp32" else 0.01) * occupied
    return engine, eager


def test_the_graph_is_chosen_where_its_labels_are_right_and_what_does_not_fit_runs_eagerly(bundle, choose):
    engine, eager = check_choice(bundle, choose, "fp32")
    large = prepare(street(bundle[0], 5, 12_000), bundle[0].voxel_grid, bundle[0].network)
    found = engine.run(large)
    assert not found.overflow and "voxels" in found.timings and found.timings["rerun"] > 0
    np.testing.assert_array_equal(found.labels, eager.run(large).labels)


@pytest.mark.slow
def test_the_graph_in_float16_has_its_own_limit(bundle, choose, tmp_path):
    spec, network, graphs = bundle
    program = exported_of(spec, network, print, tmp_path, "fp16")
    graphs["fp16"] = TorchGraphEngine(spec, program, "cpu", Replayed(), "fp16")
    check_choice(bundle, choose, "fp16")


class Wrong:
    """Calls every cell occupied."""

    name, precision, device, reason = "torch_graph", "fp32", "a GPU", ""

    def __init__(self, shape, overflow=()):
        self.shape, self.overflow = shape, dict.fromkeys(overflow, 1)

    def run(self, inputs):
        sparse = SparseLabels.of_volumes(np.ones(self.shape, np.uint8), np.ones(self.shape, np.float16), 0)
        return EngineResult(sparse, self.overflow)


def refuses(shape):
    raise EngineError("engine torch_graph cannot record the network")


def out_of_memory(shape):
    raise RuntimeError("CUDA out of memory")


def unknown_operator(shape):
    raise TypeError("unhashable type")


@pytest.mark.parametrize(
    ("graph", "why"),
    [
        (refuses, "cannot record"),
        (out_of_memory, "out of memory"),
        (unknown_operator, "TypeError: unhashable type"),
        (Wrong, r"only .* % of \d+ occupied cells"),
        (lambda shape: Wrong(shape, ["points"]), "no made-up street fits"),
    ],
)
def test_the_eager_network_runs_where_the_graph_cannot(bundle, choose, graph, why):
    engine, said = choose(graph=lambda: graph(bundle[0].voxel_grid.shape))
    assert engine.name == "torch" and "a GPU; not torch_graph: " in engine.reason
    with pytest.raises(EngineError, match=why):
        raise EngineError(said[0])


def test_int8_is_refused(choose):
    with pytest.raises(EngineError, match="fp32 or fp16, not int8"):
        choose("int8")


def test_every_street_is_smaller_than_the_one_before(monkeypatch, bundle):
    sizes = []
    monkeypatch.setattr(choice, "synthetic", lambda spec, points: sizes.append(points) or synthetic(spec, 500))
    wrong = Wrong(bundle[0].voxel_grid.shape, ["points"])
    assert choice.check_parity(wrong, wrong, bundle[0]).frames == 0
    assert sizes == [60_000, 30_000, 15_000, 7500, 3750, 1875]


def test_onnx_runtime_uses_a_gpu_where_both_know_one(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    both = onnxruntime_engine.providers(["CUDAExecutionProvider", "CPUExecutionProvider"])
    assert both == [("CUDAExecutionProvider", {"use_tf32": "0"}), "CPUExecutionProvider"]
    assert onnxruntime_engine.providers(["CPUExecutionProvider"]) == ["CPUExecutionProvider"]
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert onnxruntime_engine.providers(["CUDAExecutionProvider", "CPUExecutionProvider"]) == ["CPUExecutionProvider"]
