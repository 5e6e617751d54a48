# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Frame: a LiDAR scan with the images that belong to it, the input of a Predictor."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from occle_core.errors import OccleError
from occle_core.geometry.camera import Camera


class FrameError(OccleError, ValueError):
    """A frame that no prediction can be made from; the message says what is wrong with it."""


@dataclass(frozen=True, eq=False)
class RayOrigins:
    """Where the rays of a scan of several LiDARs begin. That a LiDAR moves while it measures is neglected.

    Args:
        positions: (L, 3) float64 the LiDARs in the frame of the points, metres.
        lidar: (N,) uint8 row of `positions` of every point's LiDAR.
    """

    positions: NDArray[np.float64]
    lidar: NDArray[np.uint8]

    @staticmethod
    def one(count: int) -> RayOrigins:
        """All `count` rays begin at (0, 0, 0): a scan of one LiDAR in its own frame."""
        return RayOrigins(np.zeros((1, 3)), np.zeros(count, np.uint8))

    def moved(self, T: NDArray[np.float64]) -> RayOrigins:
        """The same in another frame, into which T (4, 4) maps."""
        return replace(self, positions=self.positions @ T[:3, :3].T + T[:3, 3])

    def of(self, rows: Any) -> RayOrigins:
        """Those of some of the points, chosen by a slice, a mask or numbers."""
        return replace(self, lidar=self.lidar[rows])

    def rays(self, points: NDArray[Any]) -> Iterator[tuple[NDArray[np.float64], NDArray[Any]]]:
        """The position (3,) of every LiDAR that has points, and its points, out of points (N, ...)."""
        if len(self.positions) == 1:
            yield self.positions[0], points
            return
        for number, position in enumerate(self.positions):
            own = self.lidar == number
            if own.any():
                yield position, points[own]


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
        origins: where the rays to the points begin, where they are of several LiDARs, or of another than the frame's; None: at
            the LiDAR, (0, 0, 0).
    """

    stamp: int
    points: NDArray[np.float32]
    images: Sequence[NDArray[np.uint8] | None] = ()
    cameras: Sequence[Camera] = ()
    T_grid_lidar: NDArray[np.float64] = field(default_factory=lambda: np.eye(4))
    T_world_lidar: NDArray[np.float64] | None = None
    ages: NDArray[np.float32] | None = None
    origins: RayOrigins | None = None

    @property
    def ray_origins(self) -> RayOrigins:
        """Where the rays to the points begin, LiDAR frame."""
        return RayOrigins.one(len(self.points)) if self.origins is None else self.origins

    def check(self) -> None:
        """Validate the frame, so that no malformed input gives a silently wrong prediction.

        Raises:
            FrameError: no points, points that are not finite or not (N, 4) float32, images that do not fit their cameras, a pose
                that is no finite (4, 4).
        """
        if self.points.ndim != 2 or self.points.shape[1] != 4:
            raise FrameError(f"points must be (N, 4): x, y, z, intensity; got {self.points.shape}")
        if self.points.dtype != np.float32:
            raise FrameError(f"points must be float32, not {self.points.dtype}; convert them: points.astype(np.float32)")
        if not len(self.points):
            raise FrameError("the point cloud is empty")
        with np.errstate(all="ignore"):
            total = self.points.sum()  # finite only if all are: as good a look as any at the usual cloud, and faster
        if not np.isfinite(total) and not np.isfinite(self.points).all():
            bad = int((~np.isfinite(self.points).all(axis=1)).sum())
            raise FrameError(f"{bad} of {len(self.points)} points are NaN or infinite; drop them before prediction")
        if self.ages is not None and (self.ages.shape != self.points.shape[:1] or not np.isfinite(self.ages).all()):
            raise FrameError(f"ages must be as many finite numbers as there are points, {len(self.points)}; got {self.ages.shape}")
        if self.origins is not None and self.origins.lidar.shape != self.points.shape[:1]:
            raise FrameError(f"origins are of {len(self.origins.lidar)} points, and there are {len(self.points)}")
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
