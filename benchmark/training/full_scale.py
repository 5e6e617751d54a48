# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Slices of a training at full scale: `python -m benchmark.training.full_scale --help`.

What a loader process does for one frame of size base, what one frame's weak target takes in time and on disk, and how long a
frame's scores take, on frames of the given folders. docs/how_to/full_scale.md multiplies them by the data sets' sizes.
"""

from __future__ import annotations

import argparse
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from occle_train.configs import find_config
from occle_train.data.accumulate import traversed
from occle_train.data.samples import open_all
from occle_train.data.truth import voxel_truth
from occle_train.metrics import RayIoU, scene_origins
from occle_train.minkocc.batches import TrainingSet
from occle_train.minkocc.config import FitConfig
from occle_train.minkocc.fit import minkocc_config
from occle_train.minkocc.recipe import RecipeSamples
from occle_train.occle.batches import PhaseBatches
from occle_train.occle.run_config import OccleRun, spec_of
from occle_train.occle.samples import OccleSamples
from occle_train.process_group import ProcessGroup
from occle_train.pseudo_labels.label_folder import LabelFolder
from rich.console import Console
from rich.table import Table

from benchmark.machine import machine
from occle_core import taxonomy
from occle_core.bundle import rig_spec
from occle_core.geometry.affine import transform_points
from occle_core.native import library
from occle_core.networks.occle.config import OccleConfig


def main() -> int:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(prog="python -m benchmark.training.full_scale", description=__doc__)
    for name in ("nuscenes", "kitti"):
        parser.add_argument(f"--{name}", type=Path, required=True, help="data set of that layout, images at full size")
        parser.add_argument(f"--{name}-labels", type=Path, required=True, help="its pseudo-labels")
    parser.add_argument("--frames", type=int, default=4, help="frames that are timed")
    given = parser.parse_args()
    torch.set_num_threads(1)
    rows: list[tuple[str, str]] = []
    with tempfile.TemporaryDirectory() as folder:
        rows += _minkocc(given.nuscenes, given.nuscenes_labels, given.frames, Path(folder))
    rows += _occle(given.kitti, given.kitti_labels, given.frames)
    rows.append(("memory of this process at most, GiB", f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.1f}"))
    table = Table("slice", "measured")
    for row in rows:
        table.add_row(*row)
    console = Console(width=120)
    console.print(machine())
    console.print(table)
    return 0


def _minkocc(data: Path, labels: Path, frames: int, folder: Path) -> list[tuple[str, str]]:
    spec = rig_spec("base", "nuscenes")
    settings = FitConfig.model_validate(yaml.safe_load(find_config("minkocc_0").read_text("utf-8")))
    assert settings.recipe is not None
    classes, datasets = taxonomy.load(spec.taxonomy), open_all(data)
    network = minkocc_config(spec)
    samples = RecipeSamples(datasets, spec.voxel_grid, network, settings.recipe, LabelFolder(labels, classes), folder, 0.0)
    batches = TrainingSet(samples, spec.voxel_grid, network, settings.for_frames(28130).sampling_plan, classes.free, ProcessGroup())
    items = list(range(min(frames, len(samples))))
    made = _seconds(samples.weak_target, items)
    size = sum(file.stat().st_size for file in folder.rglob("*.npz")) / len(items)
    batch = _seconds(lambda item: batches[item, [item]], items)
    dataset, rays = datasets[0], RayIoU(spec.voxel_grid, classes.num_classes, classes.free, library=library.load())
    poses = np.stack([pose for i in range(len(dataset)) if (pose := dataset.pose(i)) is not None])

    def score(i: int) -> None:
        truth = voxel_truth(dataset, i, spec.voxel_grid)
        if truth is not None:
            rays.update(np.roll(truth, 1, 0), truth, scene_origins(poses, i, dataset.T_grid_lidar))

    def carve(i: int) -> None:
        frame = dataset.frame(i)
        points = transform_points(frame.T_grid_lidar, frame.points[:, :3])
        traversed(frame.T_grid_lidar[:3, 3], points, spec.voxel_grid)

    some = list(range(min(frames, len(dataset))))
    carved, scored = _seconds(carve, some), _seconds(score, some)
    return [
        ("MinkOcc, weak target of a frame (20 scans and their labels), s", made),
        ("the same on disk, kB (and points' labels of its scans)", f"{size / 1000:.0f}"),
        (f"MinkOcc, rays of one scan of {len(dataset.frame(0).points)} points, s", carved),
        ("MinkOcc, a frame of a batch once that is there, s", batch),
        (f"RayIoU of a frame, {len(scene_origins(poses, 0, dataset.T_grid_lidar))} origins, s", scored),
    ]


def _occle(data: Path, labels: Path, frames: int) -> list[tuple[str, str]]:
    run = OccleRun.model_validate(yaml.safe_load(find_config("occle_semantickitti").read_text("utf-8")))
    spec = spec_of(run, "kitti")
    # Any frame may be timed: truth that is not read costs nothing.
    recipe: Any = run.recipe.model_copy(update={"frame_interval": 1, "truth": "accumulated"})
    folder, network = LabelFolder(labels, taxonomy.load(spec.taxonomy)), spec.network
    assert isinstance(network, OccleConfig)
    samples = OccleSamples(open_all(data), spec.voxel_grid, network, recipe, folder, 0.0)
    batches = PhaseBatches(samples, "fusion", recipe)
    items = list(range(len(samples)))[-frames:]  # with their whole history
    return [("OccLE, a frame of a batch (five scans and images), s", _seconds(lambda item: batches[item, [item]], items))]


def _seconds(work: Callable[[int], Any], items: list[int]) -> str:
    """Median CPU seconds of an item, one thread."""
    taken = []
    for item in items:
        started = time.process_time()
        work(item)
        taken.append(time.process_time() - started)
    return f"{np.median(taken):.2f}"


if __name__ == "__main__":
    sys.exit(main())
