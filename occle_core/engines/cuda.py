"""What the engines for NVIDIA GPUs ask first."""

from __future__ import annotations

import torch

from occle_core.engines.base import EngineError


def capability(engine: str) -> str:
    """Compute capability of the GPU that PyTorch uses, such as "8.9".

    Raises:
        EngineError: there is none.
    """
    if not torch.cuda.is_available():
        why = "this PyTorch is a CPU build" if torch.version.cuda is None else "PyTorch finds no GPU or no driver (try nvidia-smi)"
        raise EngineError(
            f"engine {engine} needs an NVIDIA GPU, its driver and a CUDA build of PyTorch, but {why}; use engine: openvino or torch"
        )
    major, minor = torch.cuda.get_device_capability()
    return f"{major}.{minor}"


def check_precision(engine: str, precision: str) -> None:
    """Raises EngineError unless the precision is fp32 or fp16."""
    if precision not in ("fp32", "fp16"):
        raise EngineError(f"engine {engine} runs in fp32 or fp16, not {precision}")
