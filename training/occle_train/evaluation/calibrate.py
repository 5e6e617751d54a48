# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Measuring and fitting calibrated probabilities on held-out frames."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from occle_core.calibration import Calibration
from occle_core.datasets import Dataset
from occle_core.frame import FrameError
from occle_core.occupancy import Occupancy
from occle_core.predictor import Predictor
from occle_train.data.truth import TruthReader, known_truth, scored_grid
from occle_train.evaluation.evaluate import require_classes, scored_frames
from occle_train.metrics.isotonic import isotonic

BINS = 1000
"""Intervals of the confidence in which cells are counted."""
KNOTS = 21
"""Of a fitted curve."""
ECE_BINS = 15
"""Intervals of the expected calibration error, as usual (Guo et al., 2017)."""
IGNORE = 255


@dataclass
class CalibrationCounts:
    """Cells per interval of the confidence; small, however many frames are added.

    Attributes:
        named, occupied, correct: (BINS,) cells that the network calls occupied, that are, and whose class is right.
        confidence: (BINS,) sum of their confidences.
        free, free_occupied: cells that the network calls free, and those of them that are occupied.
    """

    named: NDArray[np.float64] = field(default_factory=lambda: np.zeros(BINS))
    occupied: NDArray[np.float64] = field(default_factory=lambda: np.zeros(BINS))
    correct: NDArray[np.float64] = field(default_factory=lambda: np.zeros(BINS))
    confidence: NDArray[np.float64] = field(default_factory=lambda: np.zeros(BINS))
    free: int = 0
    free_occupied: int = 0

    def add(self, occupancy: Occupancy, truth: NDArray[np.uint8]) -> None:
        """Count one frame whose confidence is the network's own.

        Args:
            occupancy: of a predictor without calibration.
            truth: (X, Y, Z) class ids, 255 unknown.
        """
        known, empty = truth != IGNORE, occupancy.taxonomy.free
        cells = occupancy.occupied & known
        value = occupancy.confidence[cells].astype(np.float64)
        bins = np.minimum((value * BINS).astype(int), BINS - 1)
        self.named += np.bincount(bins, minlength=BINS)
        self.confidence += np.bincount(bins, value, BINS)
        self.occupied += np.bincount(bins, truth[cells] != empty, BINS)
        self.correct += np.bincount(bins, truth[cells] == occupancy.labels[cells], BINS)
        free = (occupancy.labels == empty) & known
        self.free += int(free.sum())
        self.free_occupied += int((truth[free] != empty).sum())

    def require_cells(self, purpose: str) -> None:
        """Make sure that something was counted.

        Raises:
            ValueError: no known cell was called occupied, or none free; `purpose` says what they are for.
        """
        if not self.named.sum() or not self.free:
            raise ValueError(f"no cells {purpose}; give frames whose truth is known")

    def fit(self) -> Calibration:
        """Isotonic curves (pool adjacent violators), read at evenly filled knots.

        Raises:
            ValueError: no cell was called occupied, or none free.
        """
        self.require_cells("to calibrate on")
        filled = np.flatnonzero(self.named)
        weights = self.named[filled]
        mean = self.confidence[filled] / weights
        # Knots at evenly filled places, and at both ends so that the curves are constant beyond what was seen.
        share = np.cumsum(weights) / weights.sum()
        places = np.unique(np.append(np.searchsorted(share, np.linspace(0, 1, KNOTS)).clip(0, len(filled) - 1), 0))
        occupied, correct = (isotonic(counts[filled] / weights, weights)[places] for counts in (self.occupied, self.correct))
        knots = np.round(mean[places], 4)
        if len(places) == 1:  # one confidence for all cells
            knots, occupied, correct = np.array([0.0, 1.0]), occupied.repeat(2), correct.repeat(2)
        return Calibration(
            confidence=tuple(knots.tolist()),
            occupied=tuple(np.round(occupied, 4).tolist()),
            correct=tuple(np.round(correct, 4).tolist()),
            free=round(self.free_occupied / self.free, 5),
        )

    def errors(self, calibration: Calibration | None) -> dict[str, float]:
        """Expected calibration errors, 0..1.

        Args:
            calibration: what is applied to the confidence; None takes it for both probabilities, and 0 where free.

        Returns:
            "class": of the class's probability over cells called occupied; "occupied": of occupancy over the same cells;
            "occupied_all": of occupancy over all known cells.
        """
        value = self.confidence / np.maximum(self.named, 1)
        full = right = value
        free = 0.0
        if calibration is not None:
            full = np.interp(value, calibration.confidence, calibration.occupied)
            right = np.interp(value, calibration.confidence, calibration.correct)
            free = calibration.free
        both = np.append(full, free), np.append(self.named, self.free), np.append(self.occupied, self.free_occupied)
        return {
            "class": expected_calibration_error(right, self.named, self.correct),
            "occupied": expected_calibration_error(full, self.named, self.occupied),
            "occupied_all": expected_calibration_error(*both),
        }


def count_cells(
    predictor: Predictor,
    datasets: Sequence[Dataset],
    truth: TruthReader,
    every: int = 1,
    progress: Callable[[str, int], None] = lambda name, i: None,
) -> CalibrationCounts:
    """Counts over all frames that have a truth.

    Frames that cannot be predicted, such as those without a point in the grid, are left out. Cells that no sensor saw do not count.

    Args:
        predictor: of a bundle without calibration.
        datasets: sequences with the bundle's classes.
        truth: where the truth comes from.
        every: count each n-th of a sequence's frames with a truth only.
        progress: called before each counted frame.

    Raises:
        DatasetError: the classes are others.
    """
    require_classes(predictor, datasets)
    counts = CalibrationCounts()
    for dataset in datasets:
        grid, finer = scored_grid(predictor.grid, dataset)
        if finer > 1:
            raise ValueError(f"{dataset.name}: its truth is coarser than the network's cells of {predictor.grid.resolution} m")
        for i in scored_frames(dataset, truth, every):
            target = known_truth(dataset, i, grid, ("camera", "lidar"), truth)
            if target is None:
                continue
            progress(dataset.name, i)
            with suppress(FrameError):
                counts.add(predictor.predict_recorded(dataset, i), target)
    return counts


def expected_calibration_error(probability: NDArray[np.float64], cells: NDArray[np.float64], events: NDArray[np.float64]) -> float:
    """Mean gap between what is said and what is, over `ECE_BINS` equal intervals of the probability, weighted by cells.

    Args:
        probability: (N,) said of the cells of each group.
        cells: (N,) how many they are.
        events: (N,) how often it came true.
    """
    bins = np.minimum((probability * ECE_BINS).astype(int), ECE_BINS - 1)
    said = np.bincount(bins, probability * cells, ECE_BINS)
    true = np.bincount(bins, events, ECE_BINS)
    return float(np.abs(said - true).sum() / cells.sum())
