# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Latency against the numbers of voxels and cameras: `python -m benchmark.engines.scaling`.

Eager PyTorch and untrained small networks. Untrained heads keep arbitrary cells, so the pruning thresholds are set to keep as many
as a scan has: what counts here is how time grows, not the time itself.
"""

from __future__ import annotations

import argparse
import csv
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from occle_train.minkocc.fit import minkocc_config
from rich.console import Console
from rich.table import Table

from benchmark.machine import drive, machine
from occle_core.bundle import BundleSpec, rig_spec, spec_for
from occle_core.datasets import Dataset
from occle_core.engines.torch_engine import TorchEngine
from occle_core.networks.minkocc.inputs import prepare
from occle_core.networks.minkocc.network import MinkOcc

RUNS = 5
SHARE = 0.2
"""Of each level's candidates, as trained networks keep."""


def main() -> int:
    """Measure, print, and write scaling.csv."""
    parser = argparse.ArgumentParser(prog="python -m benchmark.engines.scaling", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("out/bench"))
    parser.add_argument("--threads", type=int)
    given = parser.parse_args()
    if given.threads:
        torch.set_num_threads(given.threads)
    Console().print(machine(given.threads), highlight=False)
    rows = []
    kitti, nuscenes = drive(given.out / "drive_kitti", "kitti", 12), drive(given.out / "drive_nuscenes", "nuscenes", 12)
    spec = rig_spec("small", "kitti")
    for finer in (1, 2, 4):
        grid = spec.voxel_grid.finer(finer)
        rows.append(measure(spec_for(spec.network, grid, spec.taxonomy, "finer"), kitti, f"{grid.resolution} m"))
    spec = rig_spec("small", "nuscenes")
    for cameras in range(1, 7):
        rows.append(measure(spec, nuscenes, f"{cameras} cameras", cameras))
    shown = Table(title="milliseconds, median")
    for name in rows[0]:
        shown.add_column(name)
    for row in rows:
        shown.add_row(*(value if isinstance(value, str) else f"{value:.0f}" for value in row.values()))
    Console().print(shown)
    with (given.out / "scaling.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return 0


def measure(spec: BundleSpec, dataset: Dataset, name: str, cameras: int | None = None) -> dict[str, str | float]:
    """Stages of one configuration; with `cameras`, the images of the others do not exist for the network."""
    if cameras is not None:
        config = minkocc_config(spec)
        image = config.image.model_copy(update={"num_cameras": cameras})
        spec = spec.model_copy(update={"network": config.model_copy(update={"image": image})})
    torch.manual_seed(0)
    network = spec.build().eval()
    assert isinstance(network, MinkOcc)
    frame = dataset.frame(0)
    if cameras is not None:
        frame = replace(frame, images=frame.images[:cameras], cameras=frame.cameras[:cameras])
    began = time.perf_counter()
    inputs = prepare(frame, spec.voxel_grid, minkocc_config(spec))
    prepared = (time.perf_counter() - began) * 1e3
    with torch.inference_mode():
        for level in range(len(network.unet.threshold) - 1, -1, -1):
            logits = network(inputs).levels[level].occupancy
            network.unet.threshold[level] = float(torch.quantile(logits, 1 - SHARE))
    engine = TorchEngine(spec, network)
    engine.run(inputs)
    stages: dict[str, list[float]] = {}
    for _ in range(RUNS):
        for stage, milliseconds in engine.run(inputs).timings.items():
            stages.setdefault(stage, []).append(milliseconds)
    medians = {stage: float(np.median(values)) for stage, values in stages.items()}
    # "voxels" is a stage too.
    return {"": name, "occupied voxels": len(inputs.coords), "prepare": prepared, **medians, "network": sum(medians.values())}


if __name__ == "__main__":
    sys.exit(main())
