# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Poses of a bag's frames from an odometry topic, whatever body it is of."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import yaml

from occle_core.bags.new_bag import new_bag
from occle_core.bags.storage import TYPES
from occle_core.datasets import open_dataset
from occle_core.rig.pose import pose_matrix

SECOND, STEP = 1_000_000_000, 100_000_000
TURN = 40.0
"""Degrees that the odometry's body has turned to the left, all the time."""
T_BASE_LIDAR = pose_matrix(1, 0, 2, 0, 0, 90)


def make(kind: str, *values):
    return TYPES.types[kind](*values)


def header(stamp: int, frame: str):
    return make("std_msgs/msg/Header", make("builtin_interfaces/msg/Time", *divmod(stamp, SECOND)), frame)


def quaternion(yaw: float):
    half = np.radians(yaw) / 2
    return make("geometry_msgs/msg/Quaternion", 0.0, 0.0, float(np.sin(half)), float(np.cos(half)))


def odometry(stamp: int, child: str, x: float):
    pose = make("geometry_msgs/msg/Pose", make("geometry_msgs/msg/Point", x, 0.0, 0.0), quaternion(TURN))
    zero = make("geometry_msgs/msg/Vector3", 0.0, 0.0, 0.0)
    twist = make("geometry_msgs/msg/Twist", zero, zero)
    return make(
        "nav_msgs/msg/Odometry", header(stamp, "odom"), child,
        make("geometry_msgs/msg/PoseWithCovariance", pose, np.zeros(36)),
        make("geometry_msgs/msg/TwistWithCovariance", twist, np.zeros(36)),
    )  # fmt: skip


def fixed(parent: str, child: str, x: float, yaw: float):
    transform = make("geometry_msgs/msg/Transform", make("geometry_msgs/msg/Vector3", x, 0.0, 0.0), quaternion(yaw))
    return make("tf2_msgs/msg/TFMessage", [make("geometry_msgs/msg/TransformStamped", header(0, parent), child, transform)])


def scan(stamp: int):
    fields = [make("sensor_msgs/msg/PointField", name, 4 * i, 7, 1) for i, name in enumerate("xyz")]
    return make("sensor_msgs/msg/PointCloud2", header(stamp, "velodyne"), 1, 3, fields, False, 12, 36,
                np.ones(9, np.float32).view(np.uint8), True)  # fmt: skip


def recording(folder: Path, child: str, static_at: int | None) -> Path:
    """Ten scans with odometry of `child`; imu_link -> base_link is recorded at `static_at`, if at all."""
    messages = [(SECOND + k * STEP, odometry(SECOND + k * STEP, child, float(k))) for k in range(10)]
    messages += [(SECOND + k * STEP, scan(SECOND + k * STEP)) for k in range(10)]
    if static_at is not None:
        messages.append((static_at, fixed("imu_link", "base_link", -5.0, 90.0)))
    topics = {"nav_msgs/msg/Odometry": "/odom", "sensor_msgs/msg/PointCloud2": "/points", "tf2_msgs/msg/TFMessage": "/tf_static"}
    with new_bag(folder / "bag") as writer:
        connections = {kind: writer.add_connection(topic, kind, typestore=TYPES) for kind, topic in topics.items()}
        for stamp, message in sorted(messages, key=lambda each: each[0]):
            kind = message.__msgtype__
            writer.write(connections[kind], stamp, bytes(TYPES.serialize_cdr(message, kind)))
    rig = {"lidars": {"top": {"topic": "/points", "pose": T_BASE_LIDAR.tolist()}}, "odometry": {"topic": "/odom"}}
    (folder / "rig.yaml").write_text(yaml.safe_dump(rig))
    return folder / "bag"


@pytest.mark.parametrize(
    ("child", "static_at", "T_child_lidar", "note"),
    [
        ("base_link", None, T_BASE_LIDAR, ""),
        ("", None, T_BASE_LIDAR, ""),
        ("imu_link", SECOND // 2, pose_matrix(-5, 0, 0, 0, 0, 90) @ T_BASE_LIDAR, ""),  # as a recorder gets what is latched
        ("imu_link", 9 * SECOND, pose_matrix(-5, 0, 0, 0, 0, 90) @ T_BASE_LIDAR, ""),
        ("velodyne", None, np.eye(4), ""),  # LiDAR odometry
        ("imu_link", None, T_BASE_LIDAR, "/odom is odometry of 'imu_link', and no fixed transform leads from there to base_frame"),
    ],
)
def test_poses_are_the_lidars_whatever_the_odometry_is_of(tmp_path, child, static_at, T_child_lidar, note):
    bag = recording(tmp_path, child, static_at)
    dataset = open_dataset(bag, rig=tmp_path / "rig.yaml")
    assert [text[: len(note)] for text in dataset.notes] == ([note] if note else [])
    np.testing.assert_allclose(dataset.pose(3), pose_matrix(3, 0, 0, 0, 0, TURN) @ T_child_lidar, atol=1e-9)
