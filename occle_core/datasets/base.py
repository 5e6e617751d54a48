# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""The protocol of data sets on disk, and their error."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from occle_core.errors import OccleError
from occle_core.frame import Frame, RayOrigins
from occle_core.geometry.grid import VoxelGrid
from occle_core.taxonomy import Taxonomy


class DatasetError(OccleError, ValueError):
    """Something on disk is missing, broken or not what was expected; the message names the file."""


class Dataset(Protocol):
    """One sequence (scene, drive) of frames in time order. Opening reads calibration and lists; a frame is read when asked for.

    Every method that takes `i` raises IndexError for a frame number beyond `len(dataset)`, and DatasetError where a file is
    missing or broken. What a data set may lack (labels, poses, truth) is None; a file that should be there is an error.
    """

    taxonomy: Taxonomy
    """The class list of `point_labels` and `truth`."""

    @property
    def kind(self) -> str:
        """The layout on disk: semantickitti, kitti360, kitti, nuscenes, occle (a sequence) or bag."""

    @property
    def name(self) -> str:
        """The sequence, drive or scene."""

    @property
    def camera_names(self) -> tuple[str, ...]:
        """The cameras in the order of every frame's images; empty where only a LiDAR was recorded."""

    @property
    def lidar_frame(self) -> str:
        """Name of the frame that the points are in."""

    @property
    def grid_frame(self) -> str:
        """Name of the frame that voxel grids are in."""

    @property
    def T_grid_lidar(self) -> NDArray[np.float64]:
        """(4, 4), maps LiDAR points into the grid frame."""

    @property
    def stamps(self) -> list[int]:
        """The scans' times, integer nanoseconds. They may repeat; `numbers` do not."""

    @property
    def numbers(self) -> list[int]:
        """The frames' numbers in the recording, ascending, each once; there are gaps where frames are not listed."""

    def __len__(self) -> int:
        """Number of frames."""

    def frame(self, i: int) -> Frame:
        """Scan, images and cameras of frame `i`."""

    def files(self, i: int) -> list[Path]:
        """The files that `frame` reads, the scan first; they may be missing."""

    def points(self, i: int) -> NDArray[np.float32]:
        """Frame `i`'s points (N, 4) alone, without reading its images. Rows without a return, at (0, 0, 0), are left out."""

    def pose(self, i: int) -> NDArray[np.float64] | None:
        """T_world_lidar (4, 4) of scan `i`, or None where none is recorded."""

    def point_labels(self, i: int) -> NDArray[np.uint8] | None:
        """(N,) class ids of the rows of `points`, 255 unlabelled, or None."""

    def moving(self, i: int) -> NDArray[np.bool_] | None:
        """(N,) bool, True for points of scan `i` on objects in motion, or None where that is not known."""

    def has_truth(self, i: int) -> bool:
        """True if `truth` of frame `i` is recorded; reads no file."""

    def truth(self, i: int, grid: VoxelGrid) -> NDArray[np.uint8] | None:
        """(X, Y, Z) class ids of the recorded voxel truth on `grid`, 255 unknown or invalid, or None where frame `i` has none.

        Raises:
            DatasetError: the files' cells do not line up with the grid's.
        """

    def masks(self, i: int) -> dict[str, NDArray[np.bool_]]:
        """Visibility masks on the truth's own grid by kind of sensor: Occ3D's "camera" and "lidar", where they are recorded."""

    def image_file(self, i: int, camera: str) -> Path | None:
        """The image file of frame `i`, or None where this data set has no such camera or the frame has no image of it."""

    def image_stamp(self, i: int, camera: str) -> int:
        """The shutter time of frame `i`'s image, integer nanoseconds."""


@runtime_checkable
class HasSweeps(Protocol):
    """A data set with scans between its frames."""

    def sweeps(self, i: int, count: int) -> list[Frame]:
        """At most `count` scans before frame `i`, newest first, without images; fewer at the recording's beginning."""

    def sweep_files(self, i: int, count: int) -> list[Path]:
        """The files of `sweeps(i, count)`; reads none of them."""


@runtime_checkable
class HasSeveralLidars(Protocol):
    """A data set whose scans may be of several LiDARs."""

    def origins(self, i: int) -> RayOrigins | None:
        """Where the rays of frame `i` begin, LiDAR frame, for the rows of `points`; None where there is one LiDAR."""


def ray_origins(dataset: Dataset, i: int) -> RayOrigins:
    """Where the rays of frame `i` begin, LiDAR frame, for the rows of `points`."""
    found = dataset.origins(i) if isinstance(dataset, HasSeveralLidars) else None
    return RayOrigins.one(len(dataset.points(i))) if found is None else found


class Unlabelled:
    """Base of data sets that record neither labels nor voxel truth."""

    def point_labels(self, i: int) -> NDArray[np.uint8] | None:
        """Not recorded."""
        return None

    def moving(self, i: int) -> NDArray[np.bool_] | None:
        """Not recorded."""
        return None

    def has_truth(self, i: int) -> bool:
        """Never."""
        return False

    def truth(self, i: int, grid: VoxelGrid) -> NDArray[np.uint8] | None:
        """Not recorded."""
        return None

    def masks(self, i: int) -> dict[str, NDArray[np.bool_]]:
        """Not recorded: an empty dict."""
        return {}
