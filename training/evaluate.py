"""Measuring a bundle on labelled frames: `occle-train evaluate`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from occle_core.datasets import Dataset, DatasetError
from occle_core.datasets.voxels import coarsen
from occle_core.grid import SEMANTICKITTI, VoxelGrid
from occle_core.predictor import Predictor
from training.metrics import CompletionMetrics, Occ3DMetrics, RayIoU, scene_origins
from training.truth import Truth, scored_grid, sensor_mask, voxel_truth


def evaluate(
    predictor: Predictor,
    datasets: Sequence[Dataset],
    truth: Truth = voxel_truth,
    every: int = 1,
    progress: Callable[[str, int], None] = lambda name, i: None,
) -> dict[str, Any]:
    """Scores over all frames that have a truth.

    Args:
        predictor: the bundle.
        datasets: sequences with the bundle's classes.
        truth: where the truth comes from.
        every: take each n-th frame only.
        progress: called before each frame.

    Cells finer than the recorded truth's are grouped into its cells before they are compared.

    Returns:
        "grid": completion scores on the bundle's grid (see CompletionMetrics); "scan": the same for the plain voxelised
        scan; for SemanticKITTI's whole volume "official": on the 0.2 m grid, predictions upsampled; for Occ3D "occ3d" (camera
        mask) and "rayiou"; "frames"; "milliseconds": median time per stage.

    Raises:
        DatasetError: no frame has a truth, or the classes are others.
    """
    frames, timings = 0, []
    grid, finer = scored_grid(predictor.grid, datasets[0]) if datasets else (predictor.grid, 1)
    scores = _Occ3D(predictor, grid) if predictor.taxonomy.name == "occ3d_nuscenes" else _Kitti(predictor, grid)
    for dataset in datasets:
        if dataset.taxonomy.name != predictor.taxonomy.name:
            raise DatasetError(
                f"{dataset.name} is labelled with {dataset.taxonomy.name}, the bundle predicts {predictor.taxonomy.name}"
            )
        for i in range(0, len(dataset), every):
            target = truth(dataset, i, grid)
            if target is None:
                continue
            progress(dataset.name, i)
            frame = dataset.frame(i)
            occupancy = predictor.predict(frame)
            timings.append(occupancy.timings)
            points = frame.points[:, :3] @ frame.T_grid_lidar[:3, :3].T + frame.T_grid_lidar[:3, 3]
            labels = coarsen(occupancy.labels, finer, predictor.taxonomy)
            scores.update(labels, target, grid.occupied(points), dataset, i, truth)
            frames += 1
    if not frames:
        raise DatasetError("no frame has a voxel truth; simulate one with occle-train simulate, or ask for --truth accumulated")
    milliseconds = {stage: float(np.median([timing[stage] for timing in timings])) for stage in timings[0]}
    return {**scores.result(), "frames": frames, "milliseconds": milliseconds}


def plain(value: Any) -> Any:
    """Scores as JSON takes them: lists for arrays, null for what is not a number."""
    if isinstance(value, np.ndarray):
        return [None if np.isnan(v) else float(v) for v in value]
    return float(value)


class _Kitti:
    """SemanticKITTI's scores on the bundle's grid and, where that fills the official volume, on the official one."""

    def __init__(self, predictor: Predictor, grid: VoxelGrid) -> None:
        classes = predictor.taxonomy.num_classes
        self.factor = round(grid.resolution / SEMANTICKITTI.resolution)
        self.grid, self.scan = CompletionMetrics(classes), CompletionMetrics(classes)
        self.official = CompletionMetrics(classes) if grid.finer(self.factor) == SEMANTICKITTI else None

    def update(
        self, labels: NDArray[np.uint8], target: NDArray[np.uint8], hit: NDArray[np.bool_], dataset: Dataset, i: int, truth: Truth
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
        self.masked = Occ3DMetrics(count, free)
        self.rays = RayIoU(grid, count, free)

    def update(
        self, labels: NDArray[np.uint8], target: NDArray[np.uint8], hit: NDArray[np.bool_], dataset: Dataset, i: int, truth: Truth
    ) -> None:
        known = target != 255
        camera = sensor_mask(dataset, i, self.cells, ("camera",))
        self.grid.update(labels, target, known)
        self.scan.update(np.where(hit, 0, self.free).astype(np.uint8), target, known)
        self.masked.update(labels, target, known if camera is None else known & camera)
        poses = [pose for k in range(len(dataset)) if (pose := dataset.pose(k)) is not None]
        if len(poses) == len(dataset):
            self.rays.update(labels, target, scene_origins(np.stack(poses), i, dataset.T_grid_lidar))

    def result(self) -> dict[str, Any]:
        return {"grid": self.grid.result(), "scan": self.scan.result(), "occ3d": self.masked.result(), "rayiou": self.rays.result()}
