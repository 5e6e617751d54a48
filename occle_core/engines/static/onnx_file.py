# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""A bundle's network as an ONNX file."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path

import torch
from torch import nn

from occle_core.build_cache import cached
from occle_core.bundle import BundleSpec, weights_digest
from occle_core.console import ProgressCallback
from occle_core.engines.static.export import FORM, export_program, quiet_export
from occle_core.engines.static.program import OUTPUTS, capacities_of, program_for
from occle_core.errors import EngineError
from occle_core.networks.protocol import Network, Program

OPSET = 18


def write_onnx(spec: BundleSpec, network: Network, path: Path) -> None:
    """Export the network in its static form.

    Raises:
        EngineError: the bundle has no capacities, or the exporter is not installed.
    """
    save_onnx(program_for(spec, network), list(OUTPUTS), path)


def save_onnx(program: Program, outputs: list[str], path: Path) -> None:
    """Export a program.

    Args:
        program: its convolutions are given biases of 0 where they have none.
        outputs: names of what it returns.
        path: of the ONNX file.

    Raises:
        EngineError: the exporter is not installed.
    """
    try:
        import onnxscript.optimizer
    except ImportError as error:
        raise EngineError("ONNX export needs onnx and onnxscript: pip install 'occle_ros[engines]'") from error
    _add_biases(program)
    with torch.no_grad(), quiet_export():
        converted = torch.onnx.export(
            export_program(program),
            dynamo=True,
            opset_version=OPSET,
            input_names=list(program.INPUTS),
            output_names=outputs,
            optimize=False,
            verbose=False,
        )
    assert converted is not None
    # The exporter's own optimiser would take longer than all else: minutes for OccLE. Engines simplify what they read, but TensorRT
    # wants axes and shapes as constants. What those were made from is left over, and ONNX Runtime would name each piece.
    onnxscript.optimizer.fold_constants(converted.model)
    onnxscript.optimizer.remove_unused_nodes(converted.model)
    converted.save(path)


def _add_biases(program: Program) -> None:
    """Else the exporter (onnxscript 0.7) writes one of the wrong shape."""
    for layer in program.modules():
        if isinstance(layer, nn.Conv3d) and layer.bias is None:
            layer.bias = nn.Parameter(layer.weight.new_zeros(layer.out_channels), requires_grad=False)


def onnx_of(spec: BundleSpec, network: Network, on_progress: ProgressCallback, root: Path | None = None) -> Path:
    """The network's ONNX file from the cache, exported the first time.

    Raises:
        EngineError: see `write_onnx`.
    """
    capacities_of(spec)  # before it is said that something is built
    key = {"kind": "onnx", "form": FORM, "torch": version("torch"), "weights": weights_digest(spec, network)}

    def build(folder: Path) -> None:
        on_progress("exporting the network to ONNX, a minute or so, once")
        write_onnx(spec, network, folder / "model.onnx")

    return cached(key, build, on_progress, root) / "model.onnx"
