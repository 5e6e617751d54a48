"""A bundle's network as an ONNX file."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import torch

from occle_core.bundle import BundleSpec, weights_digest
from occle_core.engines.base import EngineError
from occle_core.engines.cache import cached
from occle_core.engines.program import INPUTS, OUTPUTS, Program
from occle_core.engines.static_engine import capacities_of
from occle_core.nn.minkocc import MinkOcc

OPSET = 18
FORM = "2"
"""Counts up when the exported program changes for the same weights, so that no older file is taken from a cache."""


def write_onnx(spec: BundleSpec, network: MinkOcc, path: Path) -> None:
    """Export the network in its static form.

    Raises:
        EngineError: the bundle has no capacities, or the exporter is not installed.
    """
    program = Program(spec, network, capacities_of(spec)).eval()
    try:
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise EngineError("ONNX export needs onnx and onnxscript: pip install 'occle_ros[engines]'") from error
    quiet = logging.getLogger("torch.onnx")
    level = quiet.level
    quiet.setLevel(logging.ERROR)
    try:
        with torch.no_grad(), warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            exported = torch.export.export(program, program.example(), strict=False)
            converted = torch.onnx.export(
                exported, dynamo=True, opset_version=OPSET, input_names=list(INPUTS), output_names=list(OUTPUTS), verbose=False
            )
    finally:
        quiet.setLevel(level)
    assert converted is not None
    converted.save(path)


def onnx_of(spec: BundleSpec, network: MinkOcc, progress: Callable[[str], None], root: Path | None = None) -> Path:
    """The network's ONNX file from the cache, exported the first time.

    Raises:
        EngineError: see `write_onnx`.
    """
    capacities_of(spec)  # before it is said that something is built
    key = {"kind": "onnx", "form": FORM, "torch": version("torch"), "weights": weights_digest(spec, network)}

    def build(folder: Path) -> None:
        progress("exporting the network to ONNX, about half a minute, once")
        write_onnx(spec, network, folder / "model.onnx")

    return cached(key, build, progress, root) / "model.onnx"
