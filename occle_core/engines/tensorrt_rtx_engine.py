# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""TensorRT for RTX: NVIDIA's small inference library for GeForce and RTX GPUs, which builds engines even without a GPU.

Building is tested. Running never was, for want of such a GPU: the part below that talks to one follows the documentation.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from occle_core.build_cache import cached
from occle_core.bundle import BundleSpec
from occle_core.console import ProgressCallback
from occle_core.engines.cuda.requirements import capability, check_precision, in_precision
from occle_core.engines.cuda.transfer import download_grid
from occle_core.engines.static.engine import StaticEngine
from occle_core.engines.static.onnx_file import onnx_of
from occle_core.engines.static.program import OUTPUTS, input_names
from occle_core.errors import EngineError
from occle_core.networks.blocks.padding import Arrays
from occle_core.networks.protocol import Network
from occle_core.occupancy import SparseLabels

NAME = "tensorrt_rtx"


class TensorRtRtxEngine(StaticEngine):
    """A TensorRT-RTX engine on the GPU that PyTorch uses.

    Args:
        spec: the bundle's spec.
        plan: the built engine, see `plan_of`. It is code for the GPU: load only what this machine built.
        precision: "fp32" or "fp16"; what the plan was built for.

    Raises:
        EngineError: the package, the GPU or its driver is missing, or the plan is of another version.
    """

    name = NAME

    def __init__(self, spec: BundleSpec, plan: Path, precision: str = "fp32") -> None:
        super().__init__(spec, precision)
        trt = tensorrt_rtx()
        capability(NAME)
        log: list[str] = []
        self.device = torch.cuda.get_device_name()
        # The runtime and its logger have to live as long as the engine.
        self._runtime = trt.Runtime(_logger(trt, log))
        self._engine = self._runtime.deserialize_cuda_engine(plan.read_bytes())
        if self._engine is None:
            raise EngineError(f"TensorRT-RTX cannot load {plan}: {_last(log)}")
        self._context = self._engine.create_execution_context()
        if self._context is None:
            raise EngineError(f"TensorRT-RTX cannot compile its engine for {self.device}: {_last(log)}")
        self._stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        self._buffers = {name: self._buffer(trt, name) for name in (*input_names(spec), *OUTPUTS)}

    def _buffer(self, trt: Any, name: str) -> torch.Tensor:
        """Memory on the GPU that an input is read from, or an output written to, in every run."""
        types = {
            trt.DataType.FLOAT: torch.float32,
            trt.DataType.HALF: torch.float16,
            trt.DataType.INT32: torch.int32,
            trt.DataType.UINT8: torch.uint8,
        }
        shape = tuple(self._engine.get_tensor_shape(name))
        buffer = torch.empty(shape, dtype=types[self._engine.get_tensor_dtype(name)], device="cuda")
        self._context.set_tensor_address(name, buffer.data_ptr())
        return buffer

    def _infer(self, arrays: Arrays) -> tuple[SparseLabels, NDArray[np.int32]]:
        with self._one_at_a_time, torch.cuda.stream(self._stream):
            for name, array in arrays.items():
                self._buffers[name].copy_(torch.from_numpy(np.ascontiguousarray(array)))
            if not self._context.execute_async_v3(self._stream.cuda_stream):
                raise EngineError(f"TensorRT-RTX failed to run on {self.device}; its own messages stand above")
            labels, confidence, counts = (self._buffers[name] for name in OUTPUTS)
            sparse, (counted,) = download_grid(labels[0], confidence[0], self._free, counts)
        return sparse, counted


def plan_of(
    spec: BundleSpec,
    network: Network,
    precision: str,
    compute_capability: str,
    on_progress: ProgressCallback,
    root: Path | None = None,
) -> Path:
    """The network's engine from the cache, built the first time; needs no GPU.

    Args:
        spec: the bundle's spec, with capacities.
        network: its network.
        precision: "fp32" or "fp16".
        compute_capability: of the GPU, such as "8.9"; see `occle_core.engines.cuda.requirements.capability`.
        on_progress: called with a line before what takes long.
        root: the cache; None means the user's.

    Raises:
        EngineError: the package is missing, does not know such GPUs, or refuses an operator.
    """
    check_precision(NAME, precision)
    trt = tensorrt_rtx()
    network, key = in_precision(NAME, spec, network, precision, trt.__version__, compute_capability)

    def build(folder: Path) -> None:
        model = onnx_of(spec, network, on_progress, root)
        on_progress(f"building the TensorRT-RTX engine in {precision} for compute capability {compute_capability}, once")
        build_plan(model, compute_capability, folder / "model.plan")

    return cached(key, build, on_progress, root) / "model.plan"


def build_plan(model: Path, compute_capability: str, out: Path) -> None:
    """Build an engine in the precisions that the ONNX file's tensors have.

    Raises:
        EngineError: the package is missing, does not know such GPUs, or refuses an operator.
    """
    trt = tensorrt_rtx()
    log: list[str] = []
    builder = trt.Builder(_logger(trt, log))
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, builder.logger)
    if not parser.parse_from_file(str(model)):
        refused = [parser.get_error(number) for number in range(parser.num_errors)]
        nodes = "; ".join(f"{error.node_operator()} {error.node_name()}: {error.desc().strip()}" for error in refused)
        raise EngineError(f"TensorRT-RTX refuses {model}: {nodes}")
    config = builder.create_builder_config()
    config.num_compute_capabilities = 1
    config.set_compute_capability(_target(trt, compute_capability), 0)
    # float32 means float32: TF32's 10 bits would move logits across thresholds, and labels would differ from PyTorch's.
    config.clear_flag(trt.BuilderFlag.TF32)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise EngineError(f"TensorRT-RTX cannot build an engine of {model}: {_last(log)}")
    out.write_bytes(plan)


def tensorrt_rtx() -> Any:  # imported only when asked for: it loads 230 MB of libraries
    """The tensorrt_rtx package.

    Raises:
        EngineError: it is not installed.
    """
    try:
        import tensorrt_rtx
    except (ImportError, OSError) as error:
        raise EngineError(f"engine {NAME} is not installed ({error}): pip install 'occle_ros[tensorrt_rtx]'") from error
    return tensorrt_rtx


def _target(trt: Any, compute_capability: str) -> Any:
    targets: dict[str, Any] = trt.ComputeCapability.__members__
    name = "SM" + compute_capability.replace(".", "")
    if name not in targets:
        known = ", ".join(f"{known[2:-1]}.{known[-1]}" for known in targets if known.startswith("SM"))
        raise EngineError(
            f"TensorRT-RTX {trt.__version__} has no engines for compute capability {compute_capability}, only for {known}; "
            "use engine: tensorrt or torch"
        )
    return targets[name]


def _logger(trt: Any, log: list[str]) -> Any:
    """TensorRT's errors, kept for our own messages."""

    class Log(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)

        def log(self, severity: Any, message: str) -> None:
            if severity in (trt.ILogger.Severity.ERROR, trt.ILogger.Severity.INTERNAL_ERROR):
                log.append(message)

    return Log()


def _last(log: list[str]) -> str:
    return log[-1] if log else "it does not say why"
