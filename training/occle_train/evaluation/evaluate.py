"""Measuring a bundle on labelled frames: `occle-train evaluate`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import numpy as np
from numpy.typing import NDArray

from occle_core.datasets import Dataset, DatasetError
from occle_core.datasets.completeness import require_frames
from occle_core.datasets.voxels import coarsen
from occle_core.frame import FrameError
from occle_core.geometry.grid import SEMANTICKITTI, VoxelGrid
from occle_core.predictor import Predictor
from occle_train.data.truth import TruthReader, scored_grid, sensor_mask, voxel_truth
from occle_train.metrics import CompletionMetrics, Occ3DMetrics, RayIoU, scene_origins


def evaluate(
    predictor: Predictor,
    datasets: Sequence[Dataset],
    truth: TruthReader = voxel_truth,
    every: int = 1,
    on_progress: Callable[[str, int], None] = lambda name, i: None,
) -> dict[str, Any]:
    """Scores over all frames that have a truth.

    A network of several frames sees what it would see in the node: all frames of the recording, in order, whether they are scored
    or not. A frame of which no point lies in the grid is scored as free, which is all that the node would publish of it.

    Args:
        predictor: the bundle.
        datasets: sequences with the bundle's classes.
        truth: where the truth comes from.
        every: score each n-th of a sequence's frames with a truth only.
        on_progress: called before each scored frame.

    Cells finer than the recorded truth's are grouped into its cells before they are compared.

    Returns:
        "grid": completion scores on the bundle's grid (see CompletionMetrics); "scan": the same for the plain voxelised
        scan; for SemanticKITTI's whole volume "official": on the 0.2 m grid, predictions upsampled; for Occ3D "rayiou" and, where
        every truth has its camera mask, "occ3d"; "frames"; "milliseconds": median time per stage; "unusable": frames without a
        point in the grid; "short_history": why past frames were missing, with the number of scored frames.

    Raises:
        DatasetError: no frame has a truth, files are missing, or the classes are others.
    """
    timings: list[dict[str, float]] = []
    unusable: list[str] = []
    short: Counter[str] = Counter()
    grid, finer = scored_grid(predictor.grid, datasets[0]) if datasets else (predictor.grid, 1)
    scores = _Occ3D(predictor, grid) if predictor.taxonomy.name == "occ3d_nuscenes" else _Kitti(predictor, grid)
    for dataset in datasets:
        if dataset.taxonomy.name != predictor.taxonomy.name:
            raise DatasetError(
                f"{dataset.name} is labelled with {dataset.taxonomy.name}, the bundle predicts {predictor.taxonomy.name}"
            )
    if isinstance(scores, _Kitti) and predictor.taxonomy.free != 0:
        raise DatasetError(f"{predictor.taxonomy.name}: scores of completion need the free class first in the class list")
    looks_back = predictor.num_frames > 1
    scored = {number: scored_frames(dataset, truth, every) for number, dataset in enumerate(datasets)}
    read = {number: range(len(datasets[number])) if looks_back else frames for number, frames in scored.items()}
    require_frames((datasets[number], i) for number, frames in read.items() for i in frames)
    for number, dataset in enumerate(datasets):
        if looks_back:
            predictor.forget()
        for i in read[number]:
            frame = dataset.frame(i)
            target = truth(dataset, i, grid) if i in scored[number] else None
            if target is None:
                with suppress(FrameError):  # what cannot be predicted is not remembered either
                    predictor.observe(frame)
                continue
            on_progress(dataset.name, i)
            labels = np.full(predictor.grid.shape, predictor.taxonomy.free, np.uint8)
            try:
                occupancy = predictor.predict(frame)
                labels = occupancy.labels
                timings.append(occupancy.timings)
                if looks_back and occupancy.short_history:
                    short[occupancy.short_history] += 1
            except FrameError as error:
                unusable.append(f"{dataset.name} frame {dataset.numbers[i]}: {error}")
            points = frame.points[:, :3] @ frame.T_grid_lidar[:3, :3].T + frame.T_grid_lidar[:3, 3]
            scores.update(coarsen(labels, finer, predictor.taxonomy), target, grid.occupied(points), dataset, i, truth)
    if not timings:
        why = unusable[0] if unusable else "no frame has a voxel truth"
        raise DatasetError(f"{why}; simulate one with occle-train simulate, or ask for --truth accumulated")
    milliseconds = {stage: float(np.median([timing[stage] for timing in timings])) for stage in timings[0]}
    frames = len(timings) + len(unusable)
    return {**scores.result(), "frames": frames, "milliseconds": milliseconds, "unusable": unusable, "short_history": dict(short)}


def scored_frames(dataset: Dataset, truth: TruthReader, every: int) -> list[int]:
    """Each n-th of the frames that have a truth."""
    return [i for i in range(len(dataset)) if truth is not voxel_truth or dataset.has_truth(i)][::every]


class _Kitti:
    """SemanticKITTI's scores on the bundle's grid and, where that fills the official volume, on the official one."""

    def __init__(self, predictor: Predictor, grid: VoxelGrid) -> None:
        classes = predictor.taxonomy.num_classes
        self.factor = round(grid.resolution / SEMANTICKITTI.resolution)
        self.grid, self.scan = CompletionMetrics(classes), CompletionMetrics(classes)
        self.official = CompletionMetrics(classes) if grid.finer(self.factor) == SEMANTICKITTI else None

    def update(
        self,
        labels: NDArray[np.uint8],
        target: NDArray[np.uint8],
        hit: NDArray[np.bool_],
        dataset: Dataset,
        i: int,
        truth: TruthReader,
    ) -> None:
        self.grid.update(labels, target)
        self.scan.update(hit.astype(np.uint8), target)
        if self.official and (fine := truth(dataset, i, SEMANTICKITTI)) is not None:
            self.official.update(np.kron(labels, np.ones((self.factor,) * 3, np.uint8)), fine)

    def result(self) -> dict[str, Any]:
        official = {"official": self.official.result()} if self.official else {}
        return {"grid": self.grid.result(), "scan": self.scan.result(), **official}


class _Occ3D:
    """Occ3D's mIoU under the camera mask and RayIoU; completion over all known cells beside them."""

    def __init__(self, predictor: Predictor, grid: VoxelGrid) -> None:
        count, free = predictor.taxonomy.num_classes, predictor.taxonomy.free
        self.free, self.cells = free, grid
        self.grid, self.scan = Occ3DMetrics(count, free), Occ3DMetrics(count, free)
        self.masked, self.all_masked = Occ3DMetrics(count, free), True
        self.rays = RayIoU(grid, count, free)

    def update(
        self,
        labels: NDArray[np.uint8],
        target: NDArray[np.uint8],
        hit: NDArray[np.bool_],
        dataset: Dataset,
        i: int,
        truth: TruthReader,
    ) -> None:
        known = target != 255
        camera = sensor_mask(dataset, i, self.cells, ("camera",))
        self.grid.update(labels, target, known)
        self.scan.update(np.where(hit, 0, self.free).astype(np.uint8), target, known)
        if camera is None:
            self.all_masked = False
        else:
            self.masked.update(labels, target, known & camera)
        poses = [pose for k in range(len(dataset)) if (pose := dataset.pose(k)) is not None]
        if len(poses) == len(dataset):
            self.rays.update(labels, target, scene_origins(np.stack(poses), i, dataset.T_grid_lidar))

    def result(self) -> dict[str, Any]:
        # The benchmark's score is under the camera mask; over all cells it would be another one.
        masked = {"occ3d": self.masked.result()} if self.all_masked else {}
        return {"grid": self.grid.result(), "scan": self.scan.result(), **masked, "rayiou": self.rays.result()}
