"""CameraInfo -> what it takes to use a camera's images: its intrinsics, and the maps that rectify the images.

Distortion models as sensor_msgs/distortion_models.hpp names them, with OpenCV's formulas.
"""

from __future__ import annotations

import numpy as np
from sensor_msgs.msg import CameraInfo

from occle_core.geometry.camera import Camera
from occle_ros.messages.common import header


def info_from_camera(camera: Camera, stamp: int, frame_id: str) -> CameraInfo:
    """Camera -> CameraInfo of a rectified image: P = [K | 0], R identity, no distortion. The extrinsics do not fit in it."""
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
