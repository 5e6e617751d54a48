# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""The engine of CUDA graphs, as far as that can be tested without a GPU: what is recorded, and what is done with a recording."""

import numpy as np
import pytest
import torch
from lively import Replayed, street
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from occle_core.bundle import spec_for
from occle_core.engines import parity, torch_graph_engine
from occle_core.engines.loading import load_engine
from occle_core.engines.static.measure import limits_of
from occle_core.engines.torch_engine import TorchEngine
from occle_core.engines.torch_graph_engine import TorchGraphEngine, exported_of, on_device
from occle_core.errors import EngineError
from occle_core.geometry.grid import VoxelGrid
from occle_core.networks.capacities import Capacities
from occle_core.networks.minkocc.inputs import prepare
from occle_core.networks.occle.config import tiny as occle_tiny


@pytest.fixture(scope="module")
def minkocc(graph_bundle):
    return graph_bundle


def test_frame_after_frame_it_says_what_the_eager_network_says(minkocc):
    spec, network, program, _ = minkocc
    record = Replayed()
    engine = TorchGraphEngine(spec, program, "cpu", record)
    frames = [prepare(street(spec, seed), spec.voxel_grid, spec.network) for seed in range(3)]
    results = [engine.run(frame) for frame in frames]
    found = parity.compare(engine, TorchEngine(spec, network), frames, 0)
    assert found.passes("fp32") and found.frames == 3 and found.occupied > 1000 and record.runs == 6
    # A later frame does not write into the result of an earlier one.
    assert (results[0].labels != results[1].labels).any()
    for result, again in zip(results, map(engine.run, frames)):
        np.testing.assert_array_equal(result.labels, again.labels)
        np.testing.assert_array_equal(result.confidence, again.confidence)


class Placed(TorchDispatchMode):
    """Notes where tensors are made."""

    def __init__(self):
        super().__init__()
        self.devices = set()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        self.devices |= {leaf.device.type for leaf in tree_leaves(result) if isinstance(leaf, torch.Tensor)}
        return result


def placed(program):
    """The devices of all tensors that the program makes, itself on the device "meta", where no tensor has values."""
    with torch.no_grad():
        network, inputs = on_device(program, "meta")
        inputs = [tensor.to("meta") for tensor in inputs]
        with Placed() as mode:
            outputs = network(*inputs)
    assert {output.device.type for output in outputs} == {"meta"}
    return mode.devices


def test_a_recording_would_see_no_tensor_of_the_host_and_no_value(minkocc):
    """A CUDA graph refuses copies from the host, and reading a tensor's value; on "meta" both fail or are seen."""
    assert placed(minkocc[2]) == {"meta"}
    with torch.no_grad(), Placed() as mode:
        torch.zeros(2, device="meta") + torch.tensor(1.0)
    assert mode.devices == {"cpu", "meta"}  # the check can fail
    with pytest.raises(RuntimeError, match="meta"):
        torch.zeros(2, device="meta").sum().item()


@pytest.mark.slow
def test_so_it_is_for_occle(tmp_path):
    spec = spec_for(occle_tiny(cameras=2, frames=2), VoxelGrid((0.0, -3.2, -2.0), (16, 16, 8), 0.4), "semantickitti", "graph")
    torch.manual_seed(0)
    network = spec.build().eval()
    limits = limits_of(network, 2)
    spec = spec.model_copy(update={"capacities": Capacities(points=limits.pop("points"), sets=limits)})
    assert placed(exported_of(spec, network, lambda text: None, tmp_path)) == {"meta"}


def test_the_export_is_told_and_done_once(minkocc):
    lines = minkocc[3]
    assert len(lines) == 1 and "once" in lines[0]


def test_without_a_gpu_it_says_so(minkocc, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    spec, network, program, _ = minkocc
    with pytest.raises(EngineError, match="torch_graph needs an NVIDIA GPU"):
        load_engine(spec, network, None, "torch_graph")
    with pytest.raises(EngineError, match="torch_graph needs an NVIDIA GPU"):
        TorchGraphEngine(spec, program)
    with pytest.raises(EngineError, match="torch_graph runs in fp32, fp16, not in int8"):
        load_engine(spec, network, None, "torch_graph", "int8")


def test_what_cannot_be_recorded_is_an_error_with_a_way_out(minkocc, monkeypatch):
    def refuses(run):
        raise RuntimeError("operation not permitted when stream is capturing")

    monkeypatch.setattr(torch_graph_engine, "on_device", lambda program, device: (torch.nn.Identity(), (torch.zeros(1),)))
    with pytest.raises(EngineError, match=r"cannot record .*capturing; use engine: torch"):
        TorchGraphEngine(minkocc[0], minkocc[2], "cpu", refuses)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
def test_the_graph_itself_agrees_with_the_eager_network(minkocc):
    spec, network, program, _ = minkocc
    frames = [prepare(street(spec, seed), spec.voxel_grid, spec.network) for seed in range(3)]
    assert parity.compare(TorchGraphEngine(spec, program), TorchEngine(spec, network, "cuda"), frames, 0).passes("fp32")
