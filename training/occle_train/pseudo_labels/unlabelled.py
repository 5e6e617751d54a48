# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""A data set as if nobody had labelled it: labels, truth and boxes are out of reach, and what moves is found by ray evidence."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from occle_core.datasets import Dataset
from occle_core.datasets.base import HasSeveralLidars, HasSweeps
from occle_core.frame import Frame, RayOrigins
from occle_core.geometry.grid import VoxelGrid
from occle_core.taxonomy import Taxonomy
from occle_train.data.ray_evidence import RayEvidence, RayEvidenceConfig


class UnlabelledDataset:
    """Scans, images and poses of a data set; see `occle_core.datasets.Dataset`. No file of labels is opened.

    Args:
        dataset: what is recorded.
        config: of the ray evidence.
    """

    def __init__(self, dataset: Dataset, config: RayEvidenceConfig | None = None) -> None:
        self._dataset = dataset
        self._evidence = RayEvidence(dataset, config)
        self._moving: dict[int, tuple[NDArray[np.uint8], int]] = {}
        self.taxonomy: Taxonomy = dataset.taxonomy
        self.kind, self.name, self.camera_names = dataset.kind, dataset.name, dataset.camera_names
        self.lidar_frame, self.grid_frame = dataset.lidar_frame, dataset.grid_frame
        self.T_grid_lidar, self.stamps, self.numbers = dataset.T_grid_lidar, dataset.stamps, dataset.numbers

    def __len__(self) -> int:
        return len(self._dataset)

    def frame(self, i: int) -> Frame:
        """As recorded."""
        return self._dataset.frame(i)

    def files(self, i: int) -> list[Path]:
        """As recorded."""
        return self._dataset.files(i)

    def points(self, i: int) -> NDArray[np.float32]:
        """As recorded."""
        return self._dataset.points(i)

    def origins(self, i: int) -> RayOrigins | None:
        """As recorded."""
        return self._dataset.origins(i) if isinstance(self._dataset, HasSeveralLidars) else None

    def pose(self, i: int) -> NDArray[np.float64] | None:
        """As recorded."""
        return self._dataset.pose(i)

    def image_file(self, i: int, camera: str) -> Path | None:
        """As recorded."""
        return self._dataset.image_file(i, camera)

    def image_stamp(self, i: int, camera: str) -> int:
        """As recorded."""
        return self._dataset.image_stamp(i, camera)

    def moving(self, i: int) -> NDArray[np.bool_]:
        """(N,) points in motion by ray evidence; kept, a bit each, as every scan is the neighbour of many."""
        if i not in self._moving:
            found = self._evidence.moving(i)
            self._moving[i] = np.packbits(found), len(found)
        bits, count = self._moving[i]
        return np.unpackbits(bits, count=count).astype(np.bool_)

    def point_labels(self, i: int) -> None:
        """None: nobody labelled the points."""

    def has_truth(self, i: int) -> bool:
        """False."""
        return False

    def truth(self, i: int, grid: VoxelGrid) -> None:
        """None: nobody labelled the cells."""

    def masks(self, i: int) -> dict[str, NDArray[np.bool_]]:
        """None are recorded."""
        return {}


class SweptUnlabelledDataset(UnlabelledDataset):
    """The same with the scans between frames, without their points in motion.

    Args:
        dataset: what is recorded.
        between: the same data set, as what lies between its frames.
        config: of the ray evidence.
    """

    def __init__(self, dataset: Dataset, between: HasSweeps, config: RayEvidenceConfig | None = None) -> None:
        super().__init__(dataset, config)
        self._between = between
        self._moving_in_sweep: dict[int, NDArray[np.bool_]] = {}

    def sweeps(self, i: int, count: int) -> list[Frame]:
        """As `HasSweeps`; what moves is found by the rays of the frames around `i`."""
        kept = []
        for frame in self._between.sweeps(i, count):
            moving = self._moving_in_sweep.get(frame.stamp)
            if moving is None:
                moving = self._moving_in_sweep[frame.stamp] = self._evidence.moving_among(frame.points, frame.T_world_lidar, i)
            kept.append(replace(frame, points=frame.points[~moving]))
        return kept

    def sweep_files(self, i: int, count: int) -> list[Path]:
        """As recorded."""
        return self._between.sweep_files(i, count)


def recording_of(dataset: Dataset) -> Dataset:
    """The data set behind an `UnlabelledDataset`, whose scans between frames a network reads; any other is its own."""
    return dataset._dataset if isinstance(dataset, UnlabelledDataset) else dataset
