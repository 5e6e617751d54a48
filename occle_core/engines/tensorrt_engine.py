# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""TensorRT through torch-tensorrt: for NVIDIA GPUs of all kinds, those of data centres included.

Written after the API of torch-tensorrt 2.13.0, the pair of torch 2.13.0. It never ran: it cannot even be imported without a
GPU and its driver.
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
from occle_core.engines.static.program import program_for
from occle_core.errors import EngineError
from occle_core.networks.blocks.padding import Arrays
from occle_core.networks.protocol import Network, Program
from occle_core.occupancy import SparseLabels

NAME = "tensorrt"


class TensorRtEngine(StaticEngine):
    """A program compiled by torch-tensorrt, on the GPU that PyTorch uses.

    Args:
        spec: the bundle's spec.
        program: the compiled program, see `program_of`. It is code for the GPU: load only what this machine built.
        precision: "fp32" or "fp16"; what the program was compiled for.

    Raises:
        EngineError: the package, the GPU or its driver is missing, or the program cannot be loaded.
    """

    name = NAME

    def __init__(self, spec: BundleSpec, program: Path, precision: str = "fp32") -> None:
        super().__init__(spec, precision)
        trt = torch_tensorrt()
        try:
            self._program = trt.load(str(program)).module()
        except Exception as error:  # torch-tensorrt has no exceptions of its own
            raise EngineError(f"torch-tensorrt cannot load {program}: {error}") from error
        self.device = torch.cuda.get_device_name()

    def _infer(self, arrays: Arrays) -> tuple[SparseLabels, NDArray[np.int32]]:
        inputs = [torch.from_numpy(np.ascontiguousarray(array)).cuda() for array in arrays.values()]
        with self._one_at_a_time, torch.inference_mode():
            labels, confidence, counts = self._program(*inputs)
            sparse, (counted,) = download_grid(labels[0], confidence[0], self._free, counts)
        return sparse, counted


def program_of(spec: BundleSpec, network: Network, precision: str, on_progress: ProgressCallback, root: Path | None = None) -> Path:
    """The compiled program from the cache, compiled for this machine's GPU the first time.

    Args:
        spec: the bundle's spec, with capacities.
        network: its network.
        precision: "fp32" or "fp16".
        on_progress: called with a line before what takes long.
        root: the cache; None means the user's.

    Raises:
        EngineError: the package, the GPU or its driver is missing, or the program cannot be compiled.
    """
    check_precision(NAME, precision)
    trt = torch_tensorrt()
    device = f"{torch.cuda.get_device_name()} {capability(NAME)}"
    network, key = in_precision(NAME, spec, network, precision, trt.__version__, device)

    def build(folder: Path) -> None:
        on_progress(f"compiling the network with TensorRT in {precision}, some minutes, once")
        compile_program(trt, program_for(spec, network), folder / "model.ep")

    return cached(key, build, on_progress, root) / "model.ep"


def compile_program(trt: Any, program: Program, out: Path) -> None:
    """Compile for this machine's GPU, in the precisions that the program's tensors have; what TensorRT refuses runs in PyTorch.

    Args:
        trt: the torch_tensorrt package.
        program: on the CPU; moved to the GPU.
        out: file to write.

    Raises:
        EngineError: it cannot be compiled.
    """
    program.cuda()
    inputs = [tensor.cuda() for tensor in program.example()]
    with torch.no_grad():
        exported = torch.export.export(program, tuple(inputs), strict=False)
        try:
            # float32 means float32: TF32's 10 bits would move logits across thresholds.
            compiled = trt.dynamo.compile(exported, arg_inputs=inputs, disable_tf32=True)
            trt.save(compiled, str(out), output_format="exported_program", arg_inputs=inputs)
        except Exception as error:  # torch-tensorrt has no exceptions of its own
            raise EngineError(f"torch-tensorrt cannot compile the network: {error}") from error


def torch_tensorrt() -> Any:  # imported only when asked for
    """The torch_tensorrt package.

    Raises:
        EngineError: the GPU, its driver or the package is missing.
    """
    # Without a driver its import fails in ways that do not say so.
    capability(NAME)
    try:
        import torch_tensorrt
    except Exception as error:  # it raises plain Exceptions when TensorRT's libraries are missing
        raise EngineError(f"engine {NAME} is not installed ({error}): pip install 'occle_ros[tensorrt]'") from error
    return torch_tensorrt
