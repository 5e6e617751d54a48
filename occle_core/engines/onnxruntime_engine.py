"""ONNX Runtime on the CPU."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from occle_core.bundle import BundleSpec
from occle_core.engines.static.engine import StaticEngine
from occle_core.engines.static.program import OUTPUTS
from occle_core.errors import EngineError
from occle_core.networks.blocks.padding import Arrays


class OnnxRuntimeEngine(StaticEngine):
    """An ONNX Runtime session.

    Args:
        spec: the bundle's spec.
        model: the network's ONNX file.
        threads: CPU threads of one run; None leaves the runtime's choice.

    Raises:
        EngineError: onnxruntime is not installed.
    """

    name, device = "onnxruntime", "CPU"

    def __init__(self, spec: BundleSpec, model: Path, threads: int | None = None) -> None:
        super().__init__(spec, "fp32")
        runtime = onnxruntime()
        options = runtime.SessionOptions()
        options.intra_op_num_threads = threads or 0
        self._session = runtime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])

    def _infer(self, arrays: Arrays) -> tuple[NDArray[np.uint8], NDArray[np.float16], NDArray[np.int32]]:
        labels, confidence, counts = self._session.run(list(OUTPUTS), arrays)
        return labels, confidence, counts


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
