# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Does PyTorch's own compiler pay? `python -m benchmark.engines.inductor`: the shipped KITTI network's static form by AOTInductor.

Beside it are the same program eagerly, the dynamic form eagerly, and OpenVINO, in turns on the same frame; labels are compared.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from occle_train.minkocc.fit import minkocc_config
from rich.console import Console
from rich.table import Table

from benchmark.machine import drive, machine
from occle_core.bundle import load_bundle
from occle_core.engines.openvino_engine import OpenVinoEngine
from occle_core.engines.static import onnx_file
from occle_core.engines.static.program import capacities_of, pad, program_for
from occle_core.engines.torch_engine import TorchEngine
from occle_core.networks.blocks.fold_batch_norms import fold_batch_norms
from occle_core.networks.minkocc.inputs import prepare


def main() -> int:
    """Compile, measure, print."""
    parser = argparse.ArgumentParser(prog="python -m benchmark.engines.inductor", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("out/bench"))
    parser.add_argument("--turns", type=int, default=15)
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    spec, network, _ = load_bundle(Path("config/bundles/kitti"))
    # The smaller of the two programs, which serves most frames.
    spec = spec.model_copy(update={"capacities": spec.typical or spec.capacities, "typical": None})
    inputs = prepare(drive(given.out / "drive_kitti", "kitti", 12).frame(0), spec.voxel_grid, minkocc_config(spec))
    program = program_for(spec, fold_batch_norms(network)).eval()
    tensors = tuple(torch.from_numpy(array) for array in pad(spec, inputs, capacities_of(spec)).values())
    began = time.perf_counter()
    with torch.inference_mode(), TemporaryDirectory() as folder:
        package = str(Path(folder) / "network.pt2")
        torch._inductor.aoti_compile_and_package(torch.export.export(program, tensors, strict=False), package_path=package)
        compiled = torch._inductor.aoti_load_package(package)
        took = time.perf_counter() - began
        dynamic = TorchEngine(spec, network)
        openvino = OpenVinoEngine(spec, onnx_file.onnx_of(spec, network, print), threads=given.threads)
        runs: dict[str, Callable[[], np.ndarray]] = {
            "static form, eager": lambda: program(*tensors)[0].numpy(),
            "static form, AOTInductor": lambda: compiled(*tensors)[0].numpy(),
            "static form, OpenVINO": lambda: openvino.run(inputs).labels,
            "dynamic form, eager": lambda: dynamic.run(inputs).labels,
        }
        labels = {name: run() for name, run in runs.items()}
        times: dict[str, list[float]] = {name: [] for name in runs}
        for _ in range(given.turns):
            for name, run in runs.items():
                began = time.perf_counter()
                run()
                times[name].append((time.perf_counter() - began) * 1e3)
    console = Console()
    console.print(machine(given.threads), highlight=False)
    shown = Table(title=f"KITTI network, milliseconds a frame; compiled in {took:.0f} s")
    for heading in ("form", "median", "quartiles", "cells that differ from the dynamic form's"):
        shown.add_column(heading)
    for name, taken in times.items():
        low, middle, high = np.percentile(taken, (25, 50, 75))
        different = int((labels[name].reshape(-1) != labels["dynamic form, eager"].reshape(-1)).sum())
        shown.add_row(name, f"{middle:.0f}", f"{low:.0f} to {high:.0f}", str(different))
    console.print(shown)
    return 0


if __name__ == "__main__":
    sys.exit(main())
