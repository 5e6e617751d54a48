# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Poses of scans from TF, for the map."""

from __future__ import annotations

import time

import numpy as np
from numpy.typing import NDArray

from occle_core.sensors.transforms import frame_name
from occle_ros.calibration.calibrated_rig import TransformLookup

RETRY_SECONDS = 0.02


def scan_pose(
    transforms: TransformLookup, world_frame: str, frame: str, stamp: int, timeout: float
) -> tuple[NDArray[np.float64] | None, str]:
    """T_world_frame (4, 4) at exactly a scan's stamp, or None and the problem. Odometry often arrives after the scan.

    Args:
        transforms: TF.
        world_frame: that stands still.
        frame: of the LiDAR, or of what it is mounted on.
        stamp: nanoseconds.
        timeout: seconds to wait for it.
    """
    world_frame, frame = frame_name(world_frame), frame_name(frame)
    if world_frame == frame:
        return np.eye(4), ""
    end = time.monotonic() + timeout
    while True:
        try:
            return transforms.lookup(world_frame, frame, stamp), ""
        except LookupError as error:
            if time.monotonic() >= end:
                return None, str(error)
        time.sleep(RETRY_SECONDS)
