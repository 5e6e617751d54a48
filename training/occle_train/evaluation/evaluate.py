# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Measuring a bundle on labelled frames: `occle-train evaluate`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from occle_core.datasets import Dataset, DatasetError
from occle_core.datasets.completeness import require_frames
from occle_core.datasets.voxels import coarsen
from occle_core.frame import FrameError
from occle_core.predictor import Predictor
from occle_train.data.truth import TruthReader, known_truth, scored_grid, voxel_truth
from occle_train.evaluation.degraded import Degradation, keep
from occle_train.evaluation.scores import KittiScores, Occ3DScores, ScoredFrame


def evaluate(
    predictor: Predictor,
    datasets: Sequence[Dataset],
    truth: TruthReader = voxel_truth,
    every: int = 1,
    on_progress: Callable[[str, int], None] = lambda name, i: None,
    degrade: Degradation = keep,
) -> dict[str, Any]:
    """Scores over all frames that have a truth.

    A network of several frames sees what it would see in the node: all frames of the recording, in order, whether they are scored
    or not. A frame that cannot be predicted, such as one without a point in the grid, is scored as free: none is published.

    Args:
        predictor: the bundle.
        datasets: sequences with the bundle's classes.
        truth: where the truth comes from.
        every: score each n-th of a sequence's frames with a truth only.
        on_progress: called before each scored frame.
        degrade: what is done to each frame before the network sees it.

    Cells finer than the recorded truth's are grouped into its cells before they are compared. In other classes than Occ3D's own,
    its truths are scored under the camera mask alone: cells that nothing saw are free in them.

    Returns:
        "grid": completion scores on the bundle's grid (see CompletionMetrics); "scan": the same for the plain voxelised
        scan; for SemanticKITTI's whole volume "official": on the 0.2 m grid, predictions upsampled; for Occ3D "rayiou" and, where
        every truth has its camera mask, "occ3d"; "frames"; "milliseconds": median time per stage; "unusable": frames that cannot
        be predicted; "short_history": why past frames were missing, with the number of scored frames.

    Raises:
        DatasetError: no frame has a truth, files are missing, or the classes are others.
    """
    wanted = {number: scored_frames(dataset, truth, every) for number, dataset in enumerate(datasets)}
    return measure(predictor, datasets, wanted, truth, on_progress, degrade).result()


@dataclass
class Measured:
    """What was counted on frames, to be put together with other frames'.

    Attributes:
        scores: of the data set's kind.
        timings: per predicted frame, milliseconds of its stages.
        unusable: frames that cannot be predicted, such as those of which no point lies in the grid, in words.
        short: why past frames were missing, with the number of scored frames.
    """

    scores: KittiScores | Occ3DScores
    timings: list[dict[str, float]] = field(default_factory=list)
    unusable: list[str] = field(default_factory=list)
    short: Counter[str] = field(default_factory=Counter)

    def merge(self, other: Measured) -> None:
        """Add what was counted on later frames."""
        self.scores.merge(other.scores)
        self.timings += other.timings
        self.unusable += other.unusable
        self.short += other.short

    def result(self) -> dict[str, Any]:
        """See `evaluate`.

        Raises:
            DatasetError: nothing was predicted.
        """
        if not self.timings:
            missing = "no frame has a voxel truth; simulate one with occle-train simulate, or ask for --truth accumulated"
            raise DatasetError(f"no frame can be predicted: {self.unusable[0]}" if self.unusable else missing)
        milliseconds = {stage: float(np.median([timing[stage] for timing in self.timings])) for stage in self.timings[0]}
        frames, short = len(self.timings) + len(self.unusable), dict(self.short)
        return {
            **self.scores.result(),
            "frames": frames,
            "milliseconds": milliseconds,
            "unusable": self.unusable,
            "short_history": short,
        }


def measure(
    predictor: Predictor,
    datasets: Sequence[Dataset],
    wanted: Mapping[int, Sequence[int]],
    truth: TruthReader,
    on_progress: Callable[[str, int], None] = lambda name, i: None,
    degrade: Degradation = keep,
) -> Measured:
    """Count over some frames.

    Args:
        predictor: see `evaluate`.
        datasets: see `evaluate`.
        wanted: number of a data set -> the frames that are scored, ascending.
        truth: see `evaluate`.
        on_progress: see `evaluate`.
        degrade: see `evaluate`.
    """
    grid, finer = scored_grid(predictor.grid, datasets[0]) if datasets else (predictor.grid, 1)
    is_occ3d = predictor.taxonomy.name == "occ3d_nuscenes"
    found = Measured((Occ3DScores if is_occ3d else KittiScores)(predictor.taxonomy, grid))
    require_classes(predictor, datasets)
    require_frames((datasets[number], i) for number, frames in wanted.items() for i in predictor.reads(datasets[number], frames))
    for number, frames in wanted.items():
        dataset = datasets[number]
        for i in frames:
            target = known_truth(dataset, i, grid, () if is_occ3d else ("camera",), truth)
            if target is None:
                continue
            on_progress(dataset.name, i)
            frame = dataset.frame(i)
            predictor.recall(dataset, i, degrade)
            labels = np.full(predictor.grid.shape, predictor.taxonomy.free, np.uint8)
            try:
                occupancy = predictor.predict(degrade(frame))
                labels = occupancy.labels
                found.timings.append(occupancy.timings)
                if occupancy.short_history:
                    found.short[occupancy.short_history] += 1
            except FrameError as error:
                found.unusable.append(f"{dataset.name} frame {dataset.numbers[i]}: {error}")
            points = frame.points[:, :3] @ frame.T_grid_lidar[:3, :3].T + frame.T_grid_lidar[:3, 3]
            coarse = coarsen(labels, finer, predictor.taxonomy)
            found.scores.update(ScoredFrame(coarse, target, grid.occupied(points), dataset, i, truth))
    return found


def require_classes(predictor: Predictor, datasets: Sequence[Dataset]) -> None:
    """Make sure that data sets are labelled with the classes that a bundle predicts.

    Raises:
        DatasetError: one is not.
    """
    for dataset in datasets:
        if dataset.taxonomy.name != predictor.taxonomy.name:
            raise DatasetError(
                f"{dataset.name} is labelled with {dataset.taxonomy.name}, the bundle predicts {predictor.taxonomy.name}"
            )


def scored_frames(dataset: Dataset, truth: TruthReader, every: int) -> list[int]:
    """Each n-th of the frames that have a truth; scans are accumulated around those that have a pose."""
    recorded = truth is voxel_truth
    return [i for i in range(len(dataset)) if (dataset.has_truth(i) if recorded else dataset.pose(i) is not None)][::every]
