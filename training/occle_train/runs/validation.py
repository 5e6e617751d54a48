# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Validation during a training: scores on frames that it does not learn from, the best bundle, pictures beside the truth."""

from __future__ import annotations

import csv
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2

from occle_core.atomic_file import atomic_write
from occle_core.bundle import BundleSpec, save_bundle
from occle_core.datasets import Dataset, DatasetError
from occle_core.engines.torch_engine import TorchEngine
from occle_core.frame import FrameError
from occle_core.networks.protocol import Network
from occle_core.pictures import legend, overlay, panel, perspective
from occle_core.predictor import Predictor
from occle_train.data.truth import TruthReader, scored_grid, voxel_truth
from occle_train.evaluation.evaluate import evaluate, scored_frames
from occle_train.loop.curves import read_rows
from occle_train.runs.folder import BEST

VALIDATION = "validation.csv"
COLUMNS = ("step", "iou", "miou", "rayiou", "seconds")
PICTURES = 3


@dataclass(frozen=True)
class Slice:
    """A part of a data set that is scored.

    Args:
        datasets: sequences with the network's classes.
        every: each n-th of a sequence's frames with a truth is scored.
        truth: where the truth comes from.
    """

    datasets: Sequence[Dataset]
    every: int
    truth: TruthReader = voxel_truth

    @property
    def frames(self) -> list[tuple[Dataset, int]]:
        """The frames that are scored."""
        return [(dataset, i) for dataset in self.datasets for i in scored_frames(dataset, self.truth, self.every)]


def slice_of(datasets: Sequence[Dataset], frames: int, data: Path | str, truth: TruthReader = voxel_truth) -> Slice:
    """About `frames` frames, evenly drawn.

    Raises:
        DatasetError: no frame has a truth.
    """
    count = sum(len(scored_frames(dataset, truth, 1)) for dataset in datasets)
    if not count:
        raise DatasetError(f"--validation {data}: no frame has voxel truth; simulate some with occle-train simulate")
    return Slice(datasets, math.ceil(count / frames), truth)


def predictor_of(spec: BundleSpec, network: Network, device: str = "cpu") -> Predictor:
    """A predictor of a network that is in no bundle yet."""
    return Predictor(spec, TorchEngine(spec, network, device), spec.name)


def headline(scores: dict[str, Any]) -> dict[str, float]:
    """Shares "iou", "miou" (over the classes that are there) and, on Occ3D's layout, "rayiou" of `evaluate`'s scores."""
    kind = scores.get("occ3d") or scores["grid"]
    found = {"iou": kind["iou"], "miou": kind.get("miou_present", kind["miou"])}
    return found | ({"rayiou": scores["rayiou"]["rayiou"]} if "rayiou" in scores else {})


def headline_text(scores: dict[str, float]) -> str:
    """Scores in a line: `IoU 52.10 %, mIoU 21.30 %`."""
    names = {"iou": "IoU", "miou": "mIoU", "rayiou": "RayIoU"}
    return ", ".join(f"{names[name]} {100 * value:.2f} %" for name, value in scores.items() if name in names)


class Validator:
    """Scores networks on a slice while they are trained, logs the scores in validation.csv, and keeps the best bundle.

    Args:
        run: the run's folder.
        part: what is scored.
        spec: of the networks, with the provenance of the bundle.
        first: the step that the run continues with; later rows are dropped.
        device: where the networks are scored.
        log: called with a line per validation.
    """

    def __init__(self, run: Path, part: Slice, spec: BundleSpec, first: int, device: str, log: Callable[[str], None]) -> None:
        self.run, self.part, self.spec, self.device, self.log = run, part, spec, device, log
        file = run / VALIDATION
        rows = [row for row in read_rows(file) if int(row["step"]) <= first] if file.exists() else []
        self.best = max((float(row["miou"]) for row in rows), default=0.0)
        with atomic_write(file) as temporary, temporary.open("w", newline="") as fresh:
            writer = csv.DictWriter(fresh, COLUMNS)
            writer.writeheader()
            writer.writerows(rows)

    def __call__(self, step: int, network: Network) -> dict[str, Any]:
        """Score a network that is as a bundle would hold it. Returns the scores of `evaluate`."""
        started = time.monotonic()
        scores = evaluate(predictor_of(self.spec, network, self.device), self.part.datasets, self.part.truth, self.part.every)
        found = headline(scores)
        with (self.run / VALIDATION).open("a", newline="") as file:
            row = {name: f"{value:.5f}" for name, value in found.items()}
            csv.DictWriter(file, COLUMNS, restval="").writerow(
                {"step": step, **row, "seconds": f"{time.monotonic() - started:.1f}"}
            )
        better = found["miou"] > self.best
        if better:
            self.best = found["miou"]
            provenance = {**self.spec.provenance, "validation": {"step": step, "frames": scores["frames"], **found}}
            save_bundle(self.run / BEST, self.spec.model_copy(update={"provenance": provenance}), network)
        note = ", the best so far" if better else ""
        self.log(f"step {step}: validation on {scores['frames']} frames: {headline_text(found)}{note}")
        return scores


def draw_validation(run: Path, part: Slice, predictor: Predictor) -> list[Path]:
    """Pictures of frames of a slice that can be predicted: the image with the predicted voxels, the prediction, and the truth."""
    frames = part.frames
    chosen = sorted({round(k * (len(frames) - 1) / max(1, PICTURES - 1)) for k in range(PICTURES)})
    written = []
    for number, (dataset, i) in enumerate((frames[place] for place in chosen), 1):
        predictor.recall(dataset, i)
        frame = dataset.frame(i)
        try:
            found = predictor.predict(frame)
        except FrameError:
            continue  # the scores name it
        grid, classes = predictor.grid, predictor.taxonomy
        coarse, finer = scored_grid(grid, dataset)
        truth = part.truth(dataset, i, coarse)
        assert truth is not None
        truth = truth.repeat(finer, 0).repeat(finer, 1).repeat(finer, 2)
        views = [("prediction", perspective(found.labels, grid, classes)), ("truth", perspective(truth, grid, classes))]
        rows = [views]
        if frame.images and frame.images[0] is not None:
            image, camera = frame.images[0], frame.cameras[0]
            title = f"{dataset.name}, frame {dataset.numbers[i]}: {{}} in the image of {dataset.camera_names[0]}"
            rows = [
                [
                    (title.format(name), overlay(image, camera, labels, grid, classes, frame.T_grid_lidar))
                    for name, labels in (("prediction", found.labels), ("truth", truth))
                ],
                views,
            ]
        page = panel(rows, footer=legend([found.labels, truth], classes, 1600))
        file = run / f"validation-{number}.jpg"
        cv2.imwrite(str(file), page[:, :, ::-1])
        written.append(file)
    predictor.forget()
    return written
