"""Labelled frames of dataset folders, as a recipe's training and validation sets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from occle_core.config import NetworkConfig
from occle_core.datasets import Dataset, DatasetError, list_scenes, open_dataset
from occle_core.frame import Frame
from occle_core.grid import VoxelGrid

UNKNOWN = 255


class Samples:
    """Frames with voxel truth, held in memory at the network's image size once they were read.

    Args:
        datasets: sequences or scenes, in order.
        grid: the grid of the truth.
        network: what images and points are reduced to.
        keep: how many frames stay in memory; others are read from disk each time.

    Raises:
        DatasetError: no frame has voxel truth.
    """

    def __init__(self, datasets: Sequence[Dataset], grid: VoxelGrid, network: NetworkConfig, keep: int = 4000) -> None:
        self.datasets = list(datasets)
        self.grid = grid
        self.network = network
        self.keep = keep
        self.index = [(number, i) for number, data in enumerate(self.datasets) for i in range(len(data)) if data.has_truth(i)]
        self._held: dict[int, tuple[Frame, NDArray[np.uint8]]] = {}
        if not self.index:
            names = ", ".join(dataset.name for dataset in self.datasets) or "no dataset"
            raise DatasetError(f"no frame of {names} has voxel truth; simulate some with occle-train simulate")

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, item: int) -> tuple[Frame, NDArray[np.uint8]]:
        """The frame and its truth (X, Y, Z) uint8, 255 where unknown."""
        if item in self._held:
            return self._held[item]
        number, i = self.index[item]
        sample = (self._reduced(self.datasets[number].frame(i)), self.truth(item))
        if len(self._held) < self.keep:
            self._held[item] = sample
        return sample

    def truth(self, item: int) -> NDArray[np.uint8]:
        """The truth alone, (X, Y, Z) uint8; where the data set says which cells its sensors saw (Occ3D), the others are unknown."""
        if item in self._held:
            return self._held[item][1]
        number, i = self.index[item]
        dataset = self.datasets[number]
        truth = dataset.truth(i, self.grid)
        if truth is None:
            raise DatasetError(f"{dataset.name}: the voxel truth of frame {i} is gone since the sequence was opened")
        masks = list(dataset.masks(i).values())
        return np.where(np.logical_or.reduce(masks), truth, UNKNOWN).astype(np.uint8) if masks else truth

    def class_counts(self, num_classes: int) -> NDArray[np.int64]:
        """(num_classes,) known voxels per class over all frames."""
        counts = np.zeros(256, np.int64)
        for item in range(len(self)):
            counts += np.bincount(self.truth(item).ravel(), minlength=256)
        return counts[:num_classes]

    def _reduced(self, frame: Frame) -> Frame:
        """Images at the network's size, and only the points that fall into the grid: what `prepare` would do in every epoch."""
        size = (self.network.image.width, self.network.image.height)
        images = [None if image is None else _resized(image, size) for image in frame.images]
        cameras = [camera.resized(*size) for camera in frame.cameras]
        in_grid = frame.points[:, :3] @ frame.T_grid_lidar[:3, :3].T + frame.T_grid_lidar[:3, 3]
        inside = self.grid.index(in_grid)[1]
        return replace(frame, points=frame.points[inside], images=images, cameras=cameras)


def open_all(path: Path, names: Sequence[str] | None = None) -> list[Dataset]:
    """Every sequence or scene below `path`, or the named ones.

    Raises:
        DatasetError: nothing is there, or a name is unknown.
    """
    found = list_scenes(path)
    unknown = sorted(set(names or ()) - set(found))
    if unknown:
        raise DatasetError(f"{path} has no sequence {', '.join(unknown)}; it has {', '.join(found)}")
    return [open_dataset(path, scene=name) for name in (names or found)]


def _resized(image: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)
