# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""CameraInfo of a rectified camera."""

from __future__ import annotations

import numpy as np
from sensor_msgs.msg import CameraInfo

from occle_core.geometry.camera import Camera
from occle_ros.messages.common import header


def info_from_camera(camera: Camera, stamp: int, frame_id: str) -> CameraInfo:
    """CameraInfo of a rectified image: P = [K | 0], R identity, no distortion. It has no place for the extrinsics."""
    P = np.hstack([camera.K, np.zeros((3, 1))])
    return CameraInfo(
        header=header(stamp, frame_id),
        width=camera.width,
        height=camera.height,
        distortion_model="plumb_bob",
        d=[],
        k=camera.K.reshape(-1),
        r=np.eye(3).reshape(-1),
        p=P.reshape(-1),
    )
