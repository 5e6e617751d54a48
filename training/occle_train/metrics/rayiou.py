# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""RayIoU (SparseOcc, Liu et al. 2024): class and distance of the first surface along LiDAR-like rays."""

from __future__ import annotations

import math
from typing import TypedDict

import numpy as np
from numpy.typing import ArrayLike, NDArray

from occle_core.geometry.grid import VoxelGrid
from occle_core.geometry.raycast import cast
from occle_core.native.library import Library
from occle_core.native.rays import end_rays

THRESHOLDS = (1.0, 2.0, 4.0)  # metres
MAX_ORIGINS = 8
MAX_OFFSET = 39.0  # metres, along x and y


class RayIoUResult(TypedDict):
    """Scores in 0..1; NaN where nothing was there to be scored.

    rayiou_1, _2, _4: mean over the classes at that depth tolerance in metres; rayiou: mean over classes and tolerances;
    per_class: (num_classes - 1,), all classes but free in order of their ids, mean over the tolerances, NaN where neither
    the targets nor the predictions have a ray of that class.
    """

    rayiou: float
    rayiou_1: float
    rayiou_2: float
    rayiou_4: float
    per_class: NDArray[np.float64]


class RayIoU:
    """RayIoU over all rays of all updates.

    Args:
        grid: where the cells lie.
        num_classes: all classes including free.
        free: id of the free class.
        ignore: target label of unknown cells; rays pass through them as if they were free.
        library: compiled kernels, which give the same numbers several times as fast; None takes NumPy.
    """

    def __init__(
        self, grid: VoxelGrid, num_classes: int = 18, free: int = 17, ignore: int = 255, library: Library | None = None
    ) -> None:
        self.library = library
        self.grid = grid
        self.num_classes = num_classes
        self.free = free
        self.ignore = ignore
        self.rays = lidar_rays()
        self.target_counts = np.zeros(num_classes, np.int64)
        self.pred_counts = np.zeros(num_classes, np.int64)
        self.correct = np.zeros((len(THRESHOLDS), num_classes), np.int64)

    def update(self, pred: ArrayLike, target: ArrayLike, origins: ArrayLike) -> None:
        """Add one frame.

        Args:
            pred: (X, Y, Z) predicted class ids.
            target: (X, Y, Z) true class ids.
            origins: (O, 3) where the rays start, grid frame, metres (see `scene_origins`).

        Raises:
            ValueError: shapes do not fit the grid, or an id is not one of the classes.
        """
        predicted, true = self._checked("prediction", pred), self._checked("target", target)
        starts = np.asarray(origins, np.float64)
        if starts.ndim != 2 or starts.shape[1] != 3:
            raise ValueError(f"origins must be (O, 3), not {starts.shape}")
        occupied = [labels != self.free for labels in (true, predicted)]
        for origin in starts:
            true_class, true_depth = self._render(true, occupied[0], origin)
            pred_class, pred_depth = self._render(predicted, occupied[1], origin)
            counts = true_class != self.free
            self.target_counts += np.bincount(true_class[counts], minlength=self.num_classes)
            self.pred_counts += np.bincount(pred_class[counts], minlength=self.num_classes)
            agree = counts & (true_class == pred_class)
            error = np.abs(true_depth - pred_depth)
            for row, threshold in enumerate(THRESHOLDS):
                self.correct[row] += np.bincount(true_class[agree & (error < threshold)], minlength=self.num_classes)

    def merge(self, other: RayIoU) -> None:
        """Add what another one has counted."""
        self.target_counts += other.target_counts
        self.pred_counts += other.pred_counts
        self.correct += other.correct

    def result(self) -> RayIoUResult:
        """Scores over everything given so far."""
        solid = np.arange(self.num_classes) != self.free
        union = (self.target_counts + self.pred_counts - self.correct)[:, solid]
        iou = np.where(union > 0, self.correct[:, solid] / np.maximum(union, 1), np.nan)
        # A class is absent at every tolerance or at none, so that these means are the benchmark's nanmeans.
        scored = union[0] > 0
        one, two, four = iou[:, scored].mean(axis=1).tolist() if scored.any() else [float("nan")] * 3
        return {
            "rayiou": (one + two + four) / 3,
            "rayiou_1": one,
            "rayiou_2": two,
            "rayiou_4": four,
            "per_class": iou.mean(axis=0),
        }

    def _checked(self, name: str, labels: ArrayLike) -> NDArray[np.int64]:
        """Class ids with unknown cells made free."""
        ids = np.asarray(labels).astype(np.int64)
        if ids.shape != self.grid.shape:
            raise ValueError(f"the {name}'s shape {ids.shape} is not the grid's {self.grid.shape}")
        ids[ids == self.ignore] = self.free
        if ids.min() < 0 or ids.max() >= self.num_classes:
            strange = int(ids.max() if ids.max() >= self.num_classes else ids.min())
            raise ValueError(f"the {name} holds class id {strange}, but the ids of this taxonomy are 0..{self.num_classes - 1}")
        return ids

    def _render(
        self, labels: NDArray[np.int64], occupied: NDArray[np.bool_], origin: NDArray[np.float64]
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Class (R,) of the cell in which each ray ends and depth (R,) to that cell's far face; free and -1 outside the grid."""
        classes = np.full(len(self.rays), self.free, np.int64)
        if self.library is not None:
            cell, hit, leaves = end_rays(self.library, self.grid, occupied, origin, self.rays)
            classes[hit] = labels.reshape(-1)[cell[hit]]
            return classes, leaves
        ends = cast(self.grid, occupied, origin, self.rays)
        classes[ends.hit] = labels[tuple(ends.cell[ends.hit].T)]
        return classes, ends.exit


def lidar_rays() -> NDArray[np.float64]:
    """(14040, 3) unit directions: 39 pitches, each at every degree of azimuth from +x towards +y.

    The ten lowest pitches reach the ground at 1, 2, ... 10 times the sensor's height; from there they rise in the last of
    these steps (0.63 degrees) until 0.21 rad is reached.
    """
    pitches = [-(math.pi / 2 - math.atan(k)) for k in range(1, 11)]
    while pitches[-1] < 0.21:
        pitches.append(pitches[-1] + (pitches[-1] - pitches[-2]))
    pitch, azimuth = np.meshgrid(pitches, np.deg2rad(np.arange(360.0)), indexing="ij")
    rays = [np.cos(pitch) * np.cos(azimuth), np.cos(pitch) * np.sin(azimuth), np.sin(pitch)]
    return np.stack(rays, axis=-1).reshape(-1, 3)


def scene_origins(poses: ArrayLike, reference: int, T_grid_lidar: ArrayLike) -> NDArray[np.float64]:
    """Origins of a scene's rays: its LiDAR positions in the grid frame of one of its frames.

    Args:
        poses: (F, 4, 4) T_world_lidar of every frame of the scene, in order.
        reference: the frame that is scored.
        T_grid_lidar: (4, 4).

    Returns:
        (O, 3) metres: positions with |x| and |y| below 39 m; of more than eight, eight evenly spread over the scene.
    """
    T_world_lidar = np.asarray(poses, np.float64)
    if T_world_lidar.ndim != 3 or T_world_lidar.shape[1:] != (4, 4):
        raise ValueError(f"poses must be (F, 4, 4), not {T_world_lidar.shape}")
    T_grid_world = np.asarray(T_grid_lidar, np.float64) @ np.linalg.inv(T_world_lidar[reference])
    origins: NDArray[np.float64] = (T_grid_world @ T_world_lidar)[:, :3, 3]
    origins = origins[(np.abs(origins[:, :2]) < MAX_OFFSET).all(axis=1)]
    if len(origins) > MAX_ORIGINS:
        origins = origins[np.round(np.linspace(0, len(origins) - 1, MAX_ORIGINS)).astype(np.int64)]
    return origins
