# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""torch.export of a program: what engines are built from, without the noise and the waiting."""

from __future__ import annotations

import contextlib
import gc
import io
import logging
import warnings
from collections.abc import Iterator

import torch
from torch.export import ExportedProgram

from occle_core.networks.protocol import Program

FORM = "6"
"""Counts up when the exported program changes for the same weights, so that no older file is taken from a cache."""


def export_program(program: Program) -> ExportedProgram:
    """A program's graph, with its weights and constants."""
    with torch.no_grad(), quiet_export():
        return torch.export.export(program, program.example(), strict=False)


@contextlib.contextmanager
def quiet_export() -> Iterator[None]:
    """Silence the exporter's log and pause the garbage collector.

    Traversing all objects of an export, repeatedly, takes as long as the export.
    """
    quiet = logging.getLogger("torch.onnx")
    level, collects = quiet.level, gc.isenabled()
    quiet.setLevel(logging.ERROR)
    gc.disable()
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        quiet.setLevel(level)
        if collects:
            gc.enable()
