# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""OpenVINO: the default on CPUs, in float32 or quantised to int8."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from occle_core.bundle import BundleSpec, weights_digest
from occle_core.engines.static.engine import StaticEngine
from occle_core.engines.static.program import capacities_of, pad
from occle_core.errors import EngineError
from occle_core.networks.blocks.padding import Arrays
from occle_core.networks.protocol import Network, NetworkInputs
from occle_core.occupancy import SparseLabels

DIGEST = "occle_weights"


class OpenVinoEngine(StaticEngine):
    """A compiled OpenVINO model.

    Args:
        spec: the bundle's spec.
        model: the network's ONNX file, or an OpenVINO .xml.
        precision: "fp32" or "int8"; what the model is.
        threads: CPU threads; None leaves OpenVINO's choice.
        max_concurrent: threads that will call `run` at the same time; they share the CPU's.

    Raises:
        EngineError: openvino is not installed.
    """

    name, device = "openvino", "CPU"

    def __init__(
        self, spec: BundleSpec, model: Path, precision: str = "fp32", threads: int | None = None, max_concurrent: int = 1
    ) -> None:
        super().__init__(spec, precision)
        core = shared_core()
        # float32 throughout: on CPUs with bfloat16 OpenVINO would otherwise round, and labels would differ from PyTorch's.
        hint = "LATENCY" if max_concurrent == 1 else "THROUGHPUT"
        options: dict[str, Any] = {"PERFORMANCE_HINT": hint, "NUM_STREAMS": str(max_concurrent), "INFERENCE_PRECISION_HINT": "f32"}
        if threads:
            options["INFERENCE_NUM_THREADS"] = threads
        self._compiled = core.compile_model(core.read_model(model), self.device, options)
        self._own = threading.local()

    def _infer(self, arrays: Arrays) -> tuple[SparseLabels, NDArray[np.int32]]:
        if not hasattr(self._own, "request"):
            self._own.request = self._compiled.create_infer_request()
        found = self._own.request.infer([np.ascontiguousarray(array) for array in arrays.values()], share_inputs=True)
        labels, counts = np.array(found[0][0]), np.array(found[2])  # the request's memory serves the next frame
        return SparseLabels.of_volumes(labels, found[1][0], self._free), counts


def openvino() -> Any:
    """The openvino package.

    Raises:
        EngineError: it is not installed.
    """
    try:
        import openvino
    except ImportError as error:
        raise EngineError("engine openvino is not installed: pip install 'occle_ros[engines]'") from error
    return openvino


@cache
def shared_core() -> Any:
    """OpenVINO's Core, one for the process and never given back.

    The CPU plugin of each Core gives the thread that makes it a stack for signals, and frees that when it ends. After the second of
    two Cores, or the first in another thread, the thread is left with the freed one: the next signal that Python handles, such as
    Ctrl-C, ends the process with a segmentation fault (OpenVINO 2026.4.1).

    Raises:
        EngineError: openvino is not installed.
    """
    return openvino().Core()


def quantised_of(spec: BundleSpec, network: Network, file: Path | None) -> Path:
    """The bundle's int8 model.

    Raises:
        EngineError: there is none, or it was made from other weights or capacities.
    """
    make = "make it with `occle-train export BUNDLE --data DATASET --int8`"
    if file is None or not file.is_file():
        raise EngineError(f"the bundle {spec.name} has no int8 model; {make}")
    model = shared_core().read_model(file)
    found = model.get_rt_info(DIGEST).astype(str) if model.has_rt_info(DIGEST) else ""
    if found != weights_digest(spec, network):
        raise EngineError(f"{file} was made from other weights or capacities than the bundle has now; {make}")
    return file


def quantise(spec: BundleSpec, network: Network, model: Path, frames: Iterable[NetworkInputs], out: Path) -> None:
    """Quantise the image branch to int8 by what it sees on frames (NNCF, post-training).

    All that follows the last image convolution keeps float32: where points sample the image, and which voxels exist. One voxel made
    or not made changes all that follow.

    Args:
        spec: the bundle's spec.
        network: its network.
        model: the network's ONNX file.
        frames: what the sensors see, some dozens.
        out: the .xml to write; a .bin comes to lie beside it.

    Raises:
        EngineError: nncf is not installed, or there is one CPU only: OpenVINO 2026.4.1 dies of a segmentation fault when it
            compiles the model that NNCF measures on for that.
    """
    if len(os.sched_getaffinity(0)) < 2:
        raise EngineError("quantising to int8 needs two CPUs: OpenVINO cannot compile what it measures on for one")
    ov = openvino()
    try:
        import nncf
    except ImportError as error:
        raise EngineError("int8 needs nncf: pip install 'occle_ros[int8]'") from error
    nncf.set_log_level(logging.WARNING)  # it has a line for every node that is not quantised, thousands
    capacities = capacities_of(spec)
    padded = [pad(spec, inputs, capacities) for inputs in frames]
    data = [{name: np.ascontiguousarray(array) for name, array in arrays.items()} for arrays in padded]
    whole = shared_core().read_model(model)
    image_branch = upstream_of(whole, "Convolution")
    kept = [node.get_friendly_name() for node in whole.get_ordered_ops() if node.get_friendly_name() not in image_branch]
    quantised = nncf.quantize(
        whole,
        nncf.Dataset(data),
        subset_size=len(data),
        fast_bias_correction=True,
        ignored_scope=nncf.IgnoredScope(names=kept, validate=False),
    )
    quantised.set_rt_info(weights_digest(spec, network), DIGEST)
    out.parent.mkdir(parents=True, exist_ok=True)
    ov.save_model(quantised, out, compress_to_fp16=False)


def upstream_of(model: Any, kind: str) -> set[str]:
    """Names of the nodes of a kind, and of all that they depend on."""
    found: set[str] = set()
    waiting = [node for node in model.get_ordered_ops() if node.get_type_name() == kind]
    while waiting:
        node = waiting.pop()
        if node.get_friendly_name() not in found:
            found.add(node.get_friendly_name())
            waiting.extend(entry.get_source_output().get_node() for entry in node.inputs())
    return found
