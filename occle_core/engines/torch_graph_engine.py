# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""PyTorch's static form recorded once as a CUDA graph: its kernels without the time that Python and their launches take.

Revision 399099b of it ran on an H200; what came since (one upload, the download of kept cells, float16) never ran on a GPU. Tests
show without one: the recorded program makes no tensor on the host and asks for no value of a tensor, which a recording would
refuse, and its results are the eager network's when it is run in place of a recording.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.export.passes import move_to_device_pass

from occle_core.build_cache import cached
from occle_core.bundle import BundleSpec, weights_digest
from occle_core.console import ProgressCallback
from occle_core.engines.cuda.requirements import capability
from occle_core.engines.cuda.transfer import Staging, download_grid
from occle_core.engines.float16 import to_float16
from occle_core.engines.static.engine import StaticEngine
from occle_core.engines.static.export import FORM, export_program
from occle_core.engines.static.program import capacities_of, program_for
from occle_core.errors import EngineError
from occle_core.networks.blocks.padding import Arrays
from occle_core.networks.protocol import Network
from occle_core.occupancy import SparseLabels

NAME = "torch_graph"
WARM_UP = 3
"""Runs before the recording, in which libraries take the memory that they keep."""

Outputs = tuple[Tensor, ...]
Record = Callable[[Callable[[], Outputs]], tuple[Callable[[], None], Outputs]]
"""Takes a run of the network on fixed tensors; gives what repeats it, and the tensors that it writes its results to."""


class TorchGraphEngine(StaticEngine):
    """The exported program on fixed tensors of a GPU, replayed for every frame.

    Args:
        spec: the bundle's spec.
        program: the exported program, see `exported_of`.
        device: torch's name of the GPU.
        record: how the run is recorded.
        precision: "fp32" or "fp16"; what the program is.

    Raises:
        EngineError: there is no GPU, or the program cannot be recorded.
    """

    name = NAME

    def __init__(
        self, spec: BundleSpec, program: Path, device: str = "cuda", record: Record | None = None, precision: str = "fp32"
    ) -> None:
        super().__init__(spec, precision)
        if record is None:
            capability(NAME)
        self.device = torch.cuda.get_device_name() if record is None else device
        with torch.no_grad():
            network, example = on_device(program, device)
            self._staging = Staging(example, device)
            inputs = self._staging.device
            try:
                self._replay, self._outputs = (record or record_cuda_graph)(lambda: network(*inputs))
            except RuntimeError as error:
                raise EngineError(f"engine {NAME} cannot record the network: {error}; use engine: torch") from error

    def _infer(self, arrays: Arrays) -> tuple[SparseLabels, NDArray[np.int32]]:
        with self._one_at_a_time, torch.no_grad():
            for held, array in zip(self._staging.host, arrays.values(), strict=True):
                held.copy_(torch.from_numpy(np.ascontiguousarray(array)))
            self._staging.upload()
            self._replay()
            labels, confidence, counts = self._outputs
            sparse, (counted,) = download_grid(labels[0], confidence[0], self._free, counts)
        return sparse, counted


def record_cuda_graph(run: Callable[[], Outputs]) -> tuple[Callable[[], None], Outputs]:
    """A CUDA graph of a run, see `Record`."""
    aside = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    aside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(aside):
        for _ in range(WARM_UP):
            run()
    torch.cuda.current_stream().wait_stream(aside)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        outputs = run()
    return graph.replay, outputs


def on_device(program: Path, device: str) -> tuple[nn.Module, Outputs]:
    """The exported program with its weights and constants on a device, and inputs of the host that hold no voxel."""
    loaded = torch.export.load(program)
    assert loaded.example_inputs is not None
    inputs = tuple(loaded.example_inputs[0])
    return move_to_device_pass(loaded, device).module(), inputs


def exported_of(
    spec: BundleSpec, network: Network, on_progress: ProgressCallback, root: Path | None = None, precision: str = "fp32"
) -> Path:
    """The network's static form as torch.export's file, in "fp32" or "fp16", from the cache, exported the first time.

    Constants are part of it: made while the network runs, they would come from the host in the middle of a recording.

    Raises:
        EngineError: the bundle has no capacities.
    """
    capacities_of(spec)  # before it is said that something is built
    if precision == "fp16":
        network = to_float16(network)
    key = {"kind": "torch.export", "form": FORM, "torch": torch.__version__, "weights": weights_digest(spec, network)}

    def build(folder: Path) -> None:
        on_progress("exporting the network with torch.export, half a minute or so, once")
        torch.export.save(export_program(program_for(spec, network)), folder / "network.pt2")

    return cached(key, build, on_progress, root) / "network.pt2"
