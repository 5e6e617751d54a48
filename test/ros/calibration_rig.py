# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""A camera, its CameraInfo, and calibrations by TF, for the tests of the calibration."""

from __future__ import annotations

import numpy as np
from sensor_msgs.msg import CameraInfo
from tf_messages import tf_message

from occle_core.geometry.camera import Camera
from occle_core.sensors.transforms import TransformBuffer
from occle_ros.calibration.rig import Calibration
from occle_ros.config.node_config import NodeConfig
from occle_ros.messages.camera_info import info_from_camera

T_CAMERA_LIDAR = np.array([[0.0, -1, 0, 0], [0, 0, -1, 0], [1, 0, 0, -0.2], [0, 0, 0, 1]])
CAMERA = Camera(np.array([[80.0, 0, 80], [0, 80, 30], [0, 0, 1]]), T_CAMERA_LIDAR, 160, 60)
IMAGE = np.random.default_rng(0).integers(0, 255, (60, 160, 3)).astype(np.uint8)


def config(**given) -> NodeConfig:
    return NodeConfig.model_validate({"T_grid_lidar": np.eye(4).reshape(-1).tolist(), **given})


def with_extrinsics(**given) -> NodeConfig:
    return config(cameras={"cam2": {"T_camera_lidar": T_CAMERA_LIDAR.reshape(-1).tolist(), **given}})


def info(camera: Camera = CAMERA, **changes) -> CameraInfo:
    message = info_from_camera(camera, 0, "cam2_optical")
    for name, value in changes.items():
        setattr(message, name, value)
    return message


def moved(x: float, yaw: float = 0.0) -> np.ndarray:
    T = np.eye(4)
    T[:2, :2] = [[np.cos(yaw), -np.sin(yaw)], [np.sin(yaw), np.cos(yaw)]]
    T[0, 3] = x
    return T


def by_tf(*links: tuple[str, str, np.ndarray], **given) -> tuple[Calibration, TransformBuffer]:
    """A calibration that has everything from TF, and that TF."""
    transforms = TransformBuffer()
    for parent, child, T in links:
        transforms.add(tf_message(parent, child, T), fixed=True)
    return Calibration(NodeConfig.model_validate({"tf": {"grid_frame": "base_link"}, **given}), transforms), transforms
