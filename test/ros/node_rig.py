# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""A rig of one LiDAR and one small camera, and a bundle whose output is not empty, for the tests of node and offline run."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from lively import save_untrained
from rclpy.serialization import serialize_message

from occle_core.bags.new_bag import new_bag, offered_qos
from occle_core.bags.storage import TYPES
from occle_core.bundle import load_bundle, save_bundle
from occle_core.geometry.camera import Camera
from occle_ros.messages.camera_info import info_from_camera
from occle_ros.messages.clouds import cloud_from_points
from occle_ros.messages.images import message_from_image

SECOND = 1_000_000_000
T_CAMERA_LIDAR = np.array([[0.0, -1, 0, 0], [0, 0, -1, 0], [1, 0, 0, -0.2], [0, 0, 0, 1]])
CAMERA = Camera(np.array([[80.0, 0, 80], [0, 80, 30], [0, 0, 1]]), T_CAMERA_LIDAR, 160, 60)


def lively_bundle(folder: Path, cameras: int = 1) -> Path:
    """An untrained network whose heads are biased so that it calls much of the space occupied, by several classes."""
    save_untrained(folder, size="tiny", rig="kitti")
    spec, network, _ = load_bundle(folder)
    with torch.no_grad():
        for head in network.unet.occupancy:
            head.bias += 3
        network.head.weight *= 30
        network.head.bias[0] -= 30
    image = spec.network.image.model_copy(update={"num_cameras": cameras})
    spec = spec.model_copy(update={"network": spec.network.model_copy(update={"image": image})})
    save_bundle(folder, spec, network)
    return folder


def lively_occle(folder: Path, frames: int = 2) -> Path:
    """An untrained OccLE that looks at several frames and says something else from cell to cell."""
    save_untrained(folder, "tiny", "kitti", "occle")
    spec, _, _ = load_bundle(folder)
    spec = spec.model_copy(update={"network": spec.network.model_copy(update={"num_frames": frames})})
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        network = spec.build()
        network.fusion.head[-1].weight.mul_(20)
    save_bundle(folder, spec, network)
    return folder


def write_calibration(file: Path) -> Path:
    """calibration.yaml of the rig."""
    camera = {"T_camera_lidar": CAMERA.T_camera_lidar.tolist(), "K": CAMERA.K.tolist(), "width": 160, "height": 60}
    content = {"lidar_frame": "velodyne", "grid_frame": "velodyne", "T_grid_lidar": np.eye(4).tolist(), "cameras": {"cam2": camera}}
    file.write_text(yaml.safe_dump(content))
    return file


def sensors(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Points (N, 4) in front of the car and an image (60, 160, 3)."""
    rng = np.random.default_rng(seed)
    points = np.hstack([rng.uniform((5, -4, -1), (15, 4, 1), (3000, 3)), rng.uniform(0, 1, (3000, 1))]).astype(np.float32)
    return points, rng.integers(0, 255, (60, 160, 3)).astype(np.uint8)


def write_bag(
    out: Path, stamps: list[int], empty: tuple[int, ...] = (), spoil: Callable[[int, Any], None] = lambda number, message: None
) -> Path:
    """A bag of the rig; the scans with the numbers `empty` have no points. `spoil` may change a frame's messages."""
    kinds = {"/cam2/camera_info": "CameraInfo", "/cam2/image": "Image", "/lidar/points": "PointCloud2"}
    with new_bag(out) as writer:
        topics = {
            topic: writer.add_connection(topic, f"sensor_msgs/msg/{kind}", typestore=TYPES, offered_qos_profiles=[offered_qos()])
            for topic, kind in kinds.items()
        }
        for number, stamp in enumerate(stamps):
            points, image = sensors(number)
            messages = [
                info_from_camera(CAMERA, stamp, "cam2_optical"),
                message_from_image(image, stamp, "cam2_optical"),
                cloud_from_points(points[: 0 if number in empty else None], stamp, "velodyne"),
            ]
            for connection, message in zip(topics.values(), messages):
                spoil(number, message)
                writer.write(connection, stamp, serialize_message(message))
        write_calibration(writer.path / "calibration.yaml")
    return out


def node_arguments(bundle: Path, calibration: Path, /, **parameters: Any) -> list[str]:
    """Arguments of a Python that runs the node."""
    given = {"bundle": str(bundle), "calibration_file": str(calibration), "engine": "torch", "threads": 1} | parameters
    return ["-m", "occle_ros.cli", "node", "--ros-args", *[w for n, v in given.items() for w in ("-p", f"{n}:={json.dumps(v)}")]]
