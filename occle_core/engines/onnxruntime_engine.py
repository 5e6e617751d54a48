# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""ONNX Runtime on the CPU, or on an NVIDIA GPU where onnxruntime-gpu is installed (which never ran)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from occle_core.bundle import BundleSpec
from occle_core.engines.static.engine import StaticEngine
from occle_core.engines.static.program import OUTPUTS
from occle_core.errors import EngineError
from occle_core.networks.blocks.padding import Arrays
from occle_core.occupancy import SparseLabels

CUDA = "CUDAExecutionProvider"


class OnnxRuntimeEngine(StaticEngine):
    """An ONNX Runtime session.

    Args:
        spec: the bundle's spec.
        model: the network's ONNX file.
        threads: CPU threads of one run; None leaves the runtime's choice.

    Raises:
        EngineError: onnxruntime is not installed.
    """

    name = "onnxruntime"

    def __init__(self, spec: BundleSpec, model: Path, threads: int | None = None) -> None:
        super().__init__(spec, "fp32")
        runtime = onnxruntime()
        options = runtime.SessionOptions()
        options.intra_op_num_threads = threads or 0
        self._session = runtime.InferenceSession(str(model), options, providers=providers(runtime.get_available_providers()))
        # A provider whose libraries are missing is passed over by ONNX Runtime itself.
        self.device = torch.cuda.get_device_name() if self._session.get_providers()[0] == CUDA else "CPU"

    def _infer(self, arrays: Arrays) -> tuple[SparseLabels, NDArray[np.int32]]:
        labels, confidence, counts = self._session.run(list(OUTPUTS), arrays)
        return SparseLabels.of_volumes(labels[0], confidence[0], self._free), counts


def providers(available: Sequence[str]) -> list[str | tuple[str, dict[str, str]]]:
    """CUDA's where this ONNX Runtime has it and PyTorch finds a GPU, in true float32; behind it the CPU's."""
    # TF32's 10 bits would move logits across thresholds, and labels would differ from PyTorch's.
    cuda: list[str | tuple[str, dict[str, str]]] = [(CUDA, {"use_tf32": "0"})]
    return [*(cuda if CUDA in available and torch.cuda.is_available() else []), "CPUExecutionProvider"]


def onnxruntime() -> Any:
    """The onnxruntime package.

    Raises:
        EngineError: it is not installed.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise EngineError("engine onnxruntime is not installed: pip install 'occle_ros[engines]'") from error
    return onnxruntime
