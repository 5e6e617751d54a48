# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Poses from the scans alone: KISS-ICP (Vizzo et al., "KISS-ICP: In Defense of Point-to-Point ICP", RA-L 2023), an extra."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from occle_core.geometry.trajectory import PoseGapError, Trajectory

KEPT_POSES = 64
RESTART = 1_000_000_000
"""Nanoseconds between two scans, or any step back, after which the registration begins anew: another recording."""


class LidarOdometry:
    """Registration of each scan to a local map of those before it. The first scan's frame is the world.

    Args:
        max_range: metres; farther points are not used.
        min_range: metres; nearer points are not used.
        threads: of the registration.

    Raises:
        ImportError: kiss-icp is not installed; the message says how to install it.
    """

    def __init__(self, max_range: float = 100.0, min_range: float = 1.0, threads: int = 1) -> None:
        try:
            from kiss_icp.config.parser import load_config
            from kiss_icp.kiss_icp import KissICP
        except ImportError as error:
            raise ImportError(
                f"poses from the scans need the package kiss-icp ({error}): `pip install 'occle_ros[odometry]'`"
            ) from error
        self._settings = load_config(None)
        self._settings.data.max_range, self._settings.data.min_range = max_range, min_range
        self._settings.mapping.voxel_size = max_range / 100  # its own default
        self._settings.registration.max_num_threads = threads
        self._make = KissICP
        self._restart()

    def add(self, points: NDArray[np.floating[Any]], stamp: int, offsets: NDArray[np.float32] | None = None) -> NDArray[np.float64]:
        """Register a scan.

        Args:
            points: (N, 3 or more) x, y, z in the sensor's frame, metres.
            stamp: of the scan, nanoseconds.
            offsets: (N,) seconds of the points after the stamp; None: the scan is compensated already.

        Returns:
            T_world_sensor (4, 4) at the time of the last point, or of the stamp without offsets.
        """
        time = stamp if offsets is None else stamp + round(float(offsets.max()) * 1e9)
        if self._stamps and not 0 < time - self._stamps[-1] <= RESTART:
            self._restart()
        self._registration.config.data.deskew = offsets is not None
        self._registration.preprocessor = _preprocessor(self._registration)
        times = np.zeros(0) if offsets is None else offsets.astype(np.float64)
        self._registration.register_frame(np.asarray(points[:, :3], np.float64), times)
        pose: NDArray[np.float64] = np.array(self._registration.last_pose, np.float64)
        self._stamps.append(time)
        self._poses.append(pose)
        del self._stamps[:-KEPT_POSES], self._poses[:-KEPT_POSES]
        return pose

    def trajectory(self) -> Trajectory:
        """The poses since the last restart, the latest 64.

        Raises:
            PoseGapError: no scan was registered.
        """
        if not self._stamps:
            raise PoseGapError("no scan was registered yet")
        return Trajectory(self._stamps, np.stack(self._poses))

    def _restart(self) -> None:
        self._registration = self._make(self._settings)
        self._stamps: list[int] = []
        self._poses: list[NDArray[np.float64]] = []


def _preprocessor(registration: Any) -> Any:
    from kiss_icp.preprocess import get_preprocessor

    return get_preprocessor(registration.config)
