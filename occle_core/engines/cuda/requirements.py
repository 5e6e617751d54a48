# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Requirements of the engines for NVIDIA GPUs: compute capability, precision and cache key."""

from __future__ import annotations

import torch

from occle_core.bundle import BundleSpec, weights_digest
from occle_core.engines.float16 import to_float16
from occle_core.engines.static.export import FORM
from occle_core.errors import EngineError
from occle_core.networks.protocol import Network


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


def in_precision(
    engine: str, spec: BundleSpec, network: Network, precision: str, version: str, device: str
) -> tuple[Network, dict[str, str]]:
    """The network in a precision, and what an engine that is built from it depends on (the key of the cache).

    Args:
        engine: its name.
        spec: the bundle's spec.
        network: its network.
        precision: "fp32" or "fp16".
        version: of the package that builds.
        device: what it is built for.
    """
    if precision == "fp16":
        network = to_float16(network)
    key = {"engine": engine, "version": version, "device": device, "precision": precision}
    return network, {**key, "form": FORM, "torch": torch.__version__, "weights": weights_digest(spec, network)}
