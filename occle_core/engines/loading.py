# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Loading an engine by its name, or the one that is fastest on this machine."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import torch

from occle_core.bundle import BundleSpec
from occle_core.console import ProgressCallback
from occle_core.engines import (
    native_engine,
    onnxruntime_engine,
    openvino_engine,
    tensorrt_engine,
    tensorrt_rtx_engine,
    torch_engine,
    torch_graph_engine,
)
from occle_core.engines.base import Engine
from occle_core.engines.choice.cpu import fastest_engine
from occle_core.engines.choice.cuda import cuda_engine
from occle_core.engines.choice.timing import times_apart
from occle_core.engines.cuda.requirements import capability
from occle_core.engines.static import onnx_file
from occle_core.engines.static.fallback import FallbackEngine
from occle_core.errors import EngineError
from occle_core.native import library
from occle_core.networks.protocol import Network

ENGINE_NAMES = ("auto", "native", "torch", "torch_graph", "openvino", "onnxruntime", "tensorrt", "tensorrt_rtx")
PRECISIONS = ("fp32", "fp16", "int8")


def load_engine(
    spec: BundleSpec,
    network: Network,
    folder: Path | None = None,
    name: str = "auto",
    precision: str = "fp32",
    threads: int | None = None,
    on_progress: ProgressCallback = lambda text: None,
    max_concurrent: int = 1,
) -> Engine:
    """The network on an engine, built the first time and then taken from the cache.

    Args:
        spec: the bundle's spec.
        network: its network, in evaluation mode.
        folder: the bundle's folder, where quantised models lie.
        name: one of ENGINE_NAMES; "auto" takes the fastest that works on this machine, see `choice`.
        precision: one of PRECISIONS.
        threads: CPU threads; None leaves the engine's choice.
        on_progress: called with a line before what takes long, and what "auto" passed over.
        max_concurrent: threads that will call `run` at the same time; the CPU's threads are divided among them.

    Raises:
        EngineError: the engine does not exist, or cannot work here or in this precision.
    """
    if name not in ENGINE_NAMES:
        raise EngineError(f"there is no engine {name!r}; there are {', '.join(ENGINE_NAMES)}")
    if precision not in PRECISIONS:
        raise EngineError(f"there is no precision {precision!r}; there are {', '.join(PRECISIONS)}")
    if name != "auto":
        return _load_named(name, spec, network, folder, precision, threads, on_progress, max_concurrent)

    def load(candidate: str) -> Engine:
        return _load_named(candidate, spec, network, folder, precision, threads, on_progress, max_concurrent)

    if not torch.cuda.is_available():

        def times_of(names: list[str]) -> dict[str, float]:
            return times_apart(spec, network, folder, names, precision, threads, max_concurrent)

        return fastest_engine(spec, network, load, times_of, precision, threads, max_concurrent, on_progress)

    def load_in(candidate: str, precision: str) -> Engine:
        return _load_named(candidate, spec, network, folder, precision, threads, on_progress, max_concurrent)

    try:
        library.load(on_progress)
    except EngineError as error:
        on_progress(f"frames are prepared by NumPy and OpenCV, which takes longer: {error}")
    return cuda_engine(spec, load_in, precision, on_progress)


def quantised_file(folder: Path, typical: bool) -> Path:
    """Path of a bundle's int8 model, for the typical capacities or for all."""
    return folder / "int8" / ("typical.xml" if typical else "full.xml")


def _load_named(
    name: str,
    spec: BundleSpec,
    network: Network,
    folder: Path | None,
    precision: str,
    threads: int | None,
    on_progress: ProgressCallback,
    max_concurrent: int,
) -> Engine:
    allowed = {"native": "fp32", "torch": "fp32", "torch_graph": "fp32, fp16", "onnxruntime": "fp32", "openvino": "fp32, int8"}.get(
        name, "fp32, fp16"
    )
    if precision not in allowed.split(", "):
        raise EngineError(f"engine {name} runs in {allowed}, not in {precision}")
    each = max(1, (threads or os.cpu_count() or 1) // max_concurrent) if max_concurrent > 1 else threads
    if name == native_engine.NAME:
        return native_engine.native_engine(spec, network, threads, max_concurrent, on_progress)
    if name == "torch":
        if each is not None:
            torch.set_num_threads(each)
        return torch_engine.TorchEngine(spec, network, "cuda" if torch.cuda.is_available() else "cpu")
    if name == torch_graph_engine.NAME:
        capability(name)  # before half a minute of exporting
        program = torch_graph_engine.exported_of(spec, network, on_progress, precision=precision)
        return torch_graph_engine.TorchGraphEngine(spec, program, precision=precision)
    if name == "tensorrt":
        plan = tensorrt_engine.program_of(spec, network, precision, on_progress)
        return tensorrt_engine.TensorRtEngine(spec, plan, precision)
    if name == "tensorrt_rtx":
        plan = tensorrt_rtx_engine.plan_of(spec, network, precision, capability(name), on_progress)
        return tensorrt_rtx_engine.TensorRtRtxEngine(spec, plan, precision)

    def of_size(spec: BundleSpec, typical: bool) -> Engine:
        if name == "onnxruntime":
            onnxruntime_engine.onnxruntime()
            return onnxruntime_engine.OnnxRuntimeEngine(spec, onnx_file.onnx_of(spec, network, on_progress), each)
        openvino_engine.openvino()
        if precision == "int8":
            model = openvino_engine.quantised_of(spec, network, quantised_file(folder, typical) if folder else None)
        else:
            model = onnx_file.onnx_of(spec, network, on_progress)
        return openvino_engine.OpenVinoEngine(spec, model, precision, threads, max_concurrent)

    return _two_sizes(spec, of_size)


def _two_sizes(spec: BundleSpec, make: Callable[[BundleSpec, bool], Engine]) -> Engine:
    large = make(spec.model_copy(update={"typical": None}), False)
    if spec.typical is None:
        return large
    small = make(spec.model_copy(update={"capacities": spec.typical, "typical": None}), True)
    return FallbackEngine(small, large, {"points": spec.typical.points, **spec.typical.sets})
