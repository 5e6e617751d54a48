# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""The rolling map against single frames: `python -m benchmark.mapping.accuracy --write docs/reports/map.md`.

Simulated drives of unseen streets with traffic, the shipped network, exact poses; and the ten real frames of SemanticKITTI's
sequence 08 where they are given. One thread. The figures replace the block between the page's markers.
"""

from __future__ import annotations

import argparse
import shlex
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from occle_train.data.truth import accumulated
from occle_train.evaluation.calibrate import CalibrationCounts
from occle_train.streets import simulate
from occle_train.streets.drive import Drive
from occle_train.streets.shapes.classes import KITTI_CLASS

from benchmark.machine import machine, spread
from benchmark.mapping.errors import CAUSES, ErrorCauses
from benchmark.mapping.scores import MapScores
from benchmark.page import add_write_option, publish
from occle_core.atomic_file import atomic_write
from occle_core.datasets import Dataset, open_dataset
from occle_core.geometry.grid import SEMANTICKITTI, VoxelGrid
from occle_core.mapping import MapConfig, MapSnapshot, RollingMap
from occle_core.occupancy import Occupancy
from occle_core.pictures.top_view import top_view
from occle_core.predictor import Predictor

SCALE = 0.52
"""Of the simulated images; the network's input is still smaller."""
_CLASSES = np.append(KITTI_CLASS, np.zeros(256 - len(KITTI_CLASS), np.uint8))
_CLASSES[255] = 0


def main() -> int:
    """Simulate, map, score, write."""
    parser = argparse.ArgumentParser(prog="python -m benchmark.mapping.accuracy", description=__doc__)
    parser.add_argument("--bundle", type=Path, default=Path("config/bundles/kitti"))
    parser.add_argument("--engine", default="openvino")
    parser.add_argument("--seed", type=int, default=930, help="of the streets; 910 chose the map's constants")
    parser.add_argument("--drives", type=int, default=5)
    parser.add_argument("--frames", type=int, default=50, help="of each drive, at 10 Hz")
    parser.add_argument("--real", type=Path, help="SemanticKITTI folder of sequence 08")
    parser.add_argument("--data", type=Path, help="keep the simulated drives here, or use those that are there")
    add_write_option(parser)
    parser.add_argument("--picture", type=Path, help="JPEG or PNG of the map from above, the single frame beside it")
    given = parser.parse_args()
    torch.set_num_threads(1)
    predictor = Predictor.load(given.bundle, given.engine, threads=1, on_progress=lambda text: print(text, file=sys.stderr))
    with TemporaryDirectory(prefix="occle-mapping-") as temporary:
        folder = given.data or Path(temporary)
        if not (folder / "sequences").is_dir():
            print(f"simulating {given.drives} drives of {given.frames} frames", file=sys.stderr)
            simulate(folder, "kitti", given.drives, given.frames, given.seed, SCALE, workers=1)
        parts = [simulated(predictor, folder, given)]
        if given.real:
            parts.append(real(predictor, given.real))
    head = f"`python -m benchmark.mapping.accuracy {shlex.join(sys.argv[1:])}` on {machine(1)}\n"
    publish("\n".join([head, *parts]), "benchmark.mapping.accuracy", given.write)
    return 0


def simulated(predictor: Predictor, folder: Path, given: argparse.Namespace) -> str:
    """Scores over the simulated drives, as Markdown."""
    scores, counts = MapScores(predictor.taxonomy, predictor.grid), CalibrationCounts()
    milliseconds: list[float] = []
    plain = Predictor(predictor.spec.model_copy(update={"calibration": None}), predictor.engine, "")
    for number in range(given.drives):
        dataset = open_dataset(folder / "sequences" / f"{number:02d}")
        drive = Drive("kitti", given.seed, number, given.frames, SCALE)
        T_map_street = np.linalg.inv(drive.base_pose(0) @ drive.rig.T_base_lidar).astype(np.float64)
        scores.restart()
        for i, occupancy, shot, T, spent in mapped(predictor, dataset):
            truth = dataset.truth(i, SEMANTICKITTI)
            assert truth is not None
            cls, moving = drive.voxels(i, shot.grid, T_map_street)
            scores.update(occupancy, truth, shot, T, (_CLASSES[cls], moving))
            milliseconds.append(spent)
            if i % 10 == 0:
                own = dataset.truth(i, predictor.grid)
                assert own is not None
                counts.add(plain.predict_recorded(dataset, i), own)
            if number == 0 and i == given.frames - 1 and given.picture:
                draw(given.picture, occupancy, shot, T)
        print(f"drive {number}: {scores.result()}", file=sys.stderr)
    found = scores.result()
    p50, p95, _ = spread(milliseconds)
    before, after = counts.errors(None), counts.errors(predictor.spec.calibration)
    count = given.drives * given.frames
    return "\n".join(
        [
            f"**Simulated, {given.drives} drives of {given.frames} frames** (seed {given.seed}; scored from each one's 11th)",
            "",
            _table(found),
            "",
            *_causes(scores.errors),
            "",
            "| | single frame | map | wanted |",
            "| --- | ---: | ---: | ---: |",
            f"| flicker, % of occupied cells and frame | {found['single flicker']:.1f} | {found['map flicker']:.1f} | "
            f"<= {found['single flicker'] / 3:.1f} |",
            f"| trails, % of {found['cells left']:.0f} cells left 1 s ago | {found['single trails']:.1f} | "
            f"{found['map trails']:.1f} | <= 2 |",
            f"| of these, occupied in every frame since | | {found['map trails, all the time']:.1f} | |",
            f"| of these, not called ground | | {found['map trails, not ground']:.1f} | |",
            f"| of these, called a class that moves | | {found['map trails, movers']:.1f} | |",
            f"| ms a frame, p50 / p95 of {count} (processor time, one thread) | | {p50:.1f} / {p95:.1f} | <= 15 |",
            "",
            "| expected calibration error, % | before | after | wanted |",
            "| --- | ---: | ---: | ---: |",
            f"| of the class | {100 * before['class']:.1f} | {100 * after['class']:.1f} | |",
            f"| of occupancy, cells called occupied | {100 * before['occupied']:.1f} | {100 * after['occupied']:.1f} | <= 3 |",
            f"| of occupancy, all known cells | {100 * before['occupied_all']:.1f} | {100 * after['occupied_all']:.1f} | <= 3 |",
            "",
        ]
    )


def real(predictor: Predictor, folder: Path) -> str:
    """Scores over a real recording without voxel truth: labelled scans are accumulated."""
    dataset = open_dataset(folder)
    scores, counts = MapScores(predictor.taxonomy, predictor.grid), CalibrationCounts()
    plain = Predictor(predictor.spec.model_copy(update={"calibration": None}), predictor.engine, "")
    for i, occupancy, shot, T, _ in mapped(predictor, dataset):
        scores.update(occupancy, accumulated(dataset, i, predictor.grid.finer(2)), shot, T, None, warm=len(dataset) // 2)
        counts.add(plain.predict_recorded(dataset, i), accumulated(dataset, i, predictor.grid))
    found = scores.result()
    before, after = counts.errors(None), counts.errors(predictor.spec.calibration)
    seconds = (dataset.stamps[-1] - dataset.stamps[0]) * 1e-9
    return "\n".join(
        [
            f"**Real, {len(dataset)} frames of {seconds:.1f} s** (scored in the second half; truth from these labelled scans)",
            "",
            _table(found),
            "",
            *_causes(scores.errors),
            "",
            f"Flicker {found['single flicker']:.1f} % of the single frame, {found['map flicker']:.1f} % of the map. Expected "
            f"calibration error of occupancy in cells called occupied {100 * before['occupied']:.1f} % before and "
            f"{100 * after['occupied']:.1f} % after, of the class {100 * before['class']:.1f} % and {100 * after['class']:.1f} %.",
            "",
        ]
    )


def mapped(
    predictor: Predictor, dataset: Dataset, config: MapConfig | None = None
) -> Iterator[tuple[int, Occupancy, MapSnapshot, NDArray[np.float64], float]]:
    """Every frame's number, occupancy, the map after it, T_world_grid, and the update's milliseconds of processor time."""
    world = RollingMap(predictor.taxonomy, config)
    for i in range(len(dataset)):
        frame = dataset.frame(i)
        predictor.recall(dataset, i)
        occupancy = predictor.predict(frame)
        pose = dataset.pose(i)
        T = None if pose is None else pose @ np.linalg.inv(frame.T_grid_lidar)
        began = time.thread_time()
        update = world.update(occupancy, frame, T)
        spent = (time.thread_time() - began) * 1e3
        if T is None or not update.accepted:
            raise ValueError(f"{dataset.name} frame {i}: not mapped ({update.refused}); the recording needs poses")
        yield i, occupancy, world.snapshot(), T, spent


def draw(path: Path, occupancy: Occupancy, shot: MapSnapshot, T_world_grid: NDArray[np.float64]) -> None:
    """The single frame, and the map around it, from above."""
    labels = np.where(shot.occupied, shot.labels, np.uint8(shot.taxonomy.free))
    labels[labels == shot.taxonomy.ignore] = shot.taxonomy.free
    x, y, z = (float(v) for v in np.asarray(shot.grid.origin) - T_world_grid[:3, 3])
    around = top_view(labels, VoxelGrid((x, y, z), shot.grid.shape, shot.grid.resolution), shot.taxonomy, 750)
    pictures = [top_view(occupancy.labels, occupancy.grid, occupancy.taxonomy, 384), around]
    height = max(p.shape[0] for p in pictures)
    padded = [cv2.copyMakeBorder(p, 0, height - p.shape[0], 0, 12, cv2.BORDER_CONSTANT, value=(255, 255, 255)) for p in pictures]
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as temporary:
        cv2.imwrite(str(temporary), cv2.cvtColor(np.concatenate(padded, axis=1), cv2.COLOR_RGB2BGR))


def _table(found: dict[str, float]) -> str:
    lines = ["| | IoU | mIoU | IoU within 24 m | mIoU within 24 m |", "| --- | ---: | ---: | ---: | ---: |"]
    for name, text in (
        ("own", "single frame, in its own cells"),
        ("faultless", "truth of the frame's own cells, at the map's cells"),
        ("single", "single frame, at the map's cells"),
        ("map", "map, in its own cells"),
    ):
        cells = (f"{found[f'{name}{where} {key}']:.1f}" for where in ("", " near") for key in ("IoU", "mIoU"))
        lines.append(f"| {text} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _causes(errors: ErrorCauses) -> list[str]:
    names = ("faultless", "single", "map")
    found = [errors.result(name) for name in names]
    lines = ["| at the map's cells, % of the occupied ones | truth of the frame's | single frame | map |"]
    lines += ["| --- | ---: | ---: | ---: |"]
    for cause, text in CAUSES.items():
        cells = ("" if cause == "single" and name != "map" else f"{row[cause]:.1f}" for name, row in zip(names, found))
        lines.append(f"| {text} | {' | '.join(cells)} |")
    return lines


if __name__ == "__main__":
    sys.exit(main())
