# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Frame: a LiDAR scan with the images that belong to it, the input of a Predictor."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from occle_core.geometry.camera import Camera


class FrameError(ValueError):
    """A frame that no prediction can be made from; the message says what is wrong with it."""


@dataclass(frozen=True, eq=False)
class Frame:
    """One LiDAR scan and the images that belong to it.

    Args:
        stamp: the scan's time, integer nanoseconds.
        points: (N, 4) float32 x, y, z in the LiDAR frame (metres) and intensity in 0..1.
        images: a (H, W, 3) uint8 RGB image per camera; None where a camera delivered nothing (it is masked).
        cameras: the rig, in the order of `images`.
        T_grid_lidar: (4, 4) float64, maps LiDAR points into the grid frame.
        T_world_lidar: (4, 4) float64, maps LiDAR points into a world that stands still; None where that is not known. Networks
            that look at several frames need it.
        ages: (N,) float32 seconds that each point is older than the stamp, where `points` are of several scans; None: of one.
    """

    stamp: int
    points: NDArray[np.float32]
    images: Sequence[NDArray[np.uint8] | None] = ()
    cameras: Sequence[Camera] = ()
    T_grid_lidar: NDArray[np.float64] = field(default_factory=lambda: np.eye(4))
    T_world_lidar: NDArray[np.float64] | None = None
    ages: NDArray[np.float32] | None = None

    def check(self) -> None:
        """Validate the frame, so that no malformed input gives a silently wrong prediction.

        Raises:
            FrameError: no points, points that are not finite or not (N, 4), images that do not fit their cameras, a pose that is
                no finite (4, 4).
        """
        if self.points.ndim != 2 or self.points.shape[1] != 4:
            raise FrameError(f"points must be (N, 4): x, y, z, intensity; got {self.points.shape}")
        if not len(self.points):
            raise FrameError("the point cloud is empty")
        if not np.isfinite(self.points).all():
            bad = int((~np.isfinite(self.points).all(axis=1)).sum())
            raise FrameError(f"{bad} of {len(self.points)} points are NaN or infinite; drop them before prediction")
        if self.ages is not None and (self.ages.shape != self.points.shape[:1] or not np.isfinite(self.ages).all()):
            raise FrameError(f"ages must be as many finite numbers as there are points, {len(self.points)}; got {self.ages.shape}")
        pose = self.T_world_lidar
        if pose is not None and (pose.shape != (4, 4) or not np.isfinite(pose).all()):
            raise FrameError(f"T_world_lidar must be a finite (4, 4) matrix or None; got {pose.shape}: {pose.tolist()}")
        if len(self.images) != len(self.cameras):
            raise FrameError(f"{len(self.images)} images for {len(self.cameras)} cameras; a missing image is None, not left out")
        for number, (image, camera) in enumerate(zip(self.images, self.cameras)):
            if image is None:
                continue
            if image.dtype != np.uint8 or image.shape != (camera.height, camera.width, 3):
                raise FrameError(
                    f"image {number} is {image.dtype} {image.shape}, but its calibration is for uint8 "
                    f"({camera.height}, {camera.width}, 3); give the calibration of this image size"
                )
