# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""`occle-train export`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from occle_core.bundle import read_spec
from occle_core.engines.base import describe
from occle_train.commands.common import console, path_option, split_names, user_path
from occle_train.data.samples import open_all
from occle_train.evaluation import export as exporting
from occle_train.evaluation.terminal_tables import capacity_table, parity_line


def export(
    bundle: Annotated[Path, typer.Argument(help="bundle folder", parser=user_path, metavar="PATH")],
    data: Annotated[Path | None, path_option("frames of the rig: measure what the engines' tables must hold")] = None,
    sequences: Annotated[str, typer.Option(help="comma-separated sequences; empty for all")] = "",
    frames: Annotated[int, typer.Option(min=1, help="how many frames, drawn evenly")] = 40,
    keep_capacities: Annotated[bool, typer.Option(help="leave the bundle's capacities as they are")] = False,
    int8: Annotated[bool, typer.Option(help="also quantise the image branch to int8 (OpenVINO, NNCF)")] = False,
    check: Annotated[bool, typer.Option(help="fail unless the engines agree with eager PyTorch on the frames")] = False,
    engines: Annotated[str, typer.Option(help="comma-separated engines to build and check")] = "openvino,onnxruntime",
    precision: Annotated[str, typer.Option(help="fp32, fp16 or int8")] = "fp32",
) -> None:
    """Get a bundle ready for engines of fixed shapes: measure its tables, build the engines, hold them against PyTorch.

    Example: occle-train export config/bundles/kitti --data out/streets --check
    """
    if data is None and (int8 or check or not keep_capacities):
        raise ValueError(
            "no frames to measure, quantise or check with; give --data DATASET or, to measure nothing, --keep-capacities"
        )
    datasets = open_all(data, split_names(sequences)) if data else []
    prepared = list(exporting.frames_of(datasets, read_spec(bundle), frames))
    if not keep_capacities:
        console.print(capacity_table(exporting.calibrate(bundle, prepared)))
    if int8:
        exporting.write_int8(bundle, prepared, console.print)
    failed = []
    for name in engines.split(","):
        engine, parity = exporting.check(bundle, name, precision, prepared if check else [], console.print)
        console.print(describe(engine), highlight=False)
        if check:
            console.print(parity_line(parity), highlight=False)
            if not parity.passes(precision):
                failed.append(name)
    if failed:
        raise ValueError(f"{', '.join(failed)}: labels differ from PyTorch's by more than {precision} may; do not use this engine")
