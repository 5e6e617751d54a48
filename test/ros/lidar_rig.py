# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Two LiDARs on a car that drives a curve through a room, as ROS messages: points with times, poses as TF and as odometry."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
from geometry_msgs.msg import Quaternion
from moving_room import pose, room_scan
from nav_msgs.msg import Odometry
from sensor_msgs.msg import PointCloud2, PointField
from tf_messages import tf_message

from occle_core.geometry.trajectory import exp_se3
from occle_core.sensors.transforms import TransformBuffer
from occle_ros.messages.common import header
from occle_ros.messages.transforms import transform_from_matrix

START = 1_000_000_000
"""Time at which the car is at the origin, nanoseconds."""
T_LIDAR_REAR = exp_se3(np.array([[-1.0, 0.4, -0.3, 0.05, 0.1, 2.5]]))[0]
T_BASE_LIDAR = exp_se3(np.array([[0.9, 0.0, 1.7, 0.0, 0.05, 0.1]]))[0]
"""Odometry is of the base: its poses are the LiDAR's, seen from there."""


def cloud(points: np.ndarray, seconds: np.ndarray | None, stamp: int, frame: str = "velodyne") -> PointCloud2:
    """PointCloud2 of points (N, 4); with seconds (N,) after the stamp it has a field `time`."""
    columns = points if seconds is None else np.hstack([points, seconds[:, None]])
    names = ("x", "y", "z", "intensity", "time")[: columns.shape[1]]
    fields = [PointField(name=name, offset=4 * i, datatype=PointField.FLOAT32, count=1) for i, name in enumerate(names)]
    step = 4 * len(names)
    return PointCloud2(
        header=header(stamp, frame), height=1, width=len(columns), fields=fields, is_bigendian=False, point_step=step,
        row_step=step * len(columns), data=np.ascontiguousarray(columns, "<f4").tobytes(), is_dense=True,
    )  # fmt: skip


def main_scan(start: float = 0.0, stamp_at: float = 0.0, times: bool = True, columns: int = 120) -> tuple[PointCloud2, np.ndarray]:
    """A turn that begins `start` seconds after START, stamped `stamp_at` seconds into it, and its points in the world."""
    points, seconds, world = room_scan(columns, start=start)
    return cloud(points, seconds - np.float32(stamp_at) if times else None, START + round((start + stamp_at) * 1e9)), world


def rear_scan(start: float = 0.0, times: bool = True, columns: int = 80) -> tuple[PointCloud2, np.ndarray]:
    """The same of the LiDAR behind, whose frame is rear_lidar."""
    points, seconds, world = room_scan(columns, start=start)
    T = np.linalg.inv(T_LIDAR_REAR)
    points[:, :3] = points[:, :3] @ T[:3, :3].T + T[:3, 3]
    return cloud(points, seconds if times else None, START + round(start * 1e9), "rear_lidar"), world


def in_the_frame(world: np.ndarray, seconds: float) -> np.ndarray:
    """Points of the world (N, 3) as the main LiDAR sees them `seconds` after START."""
    T = np.linalg.inv(pose(seconds))
    return world @ T[:3, :3].T + T[:3, 3]


def driven(first: float = -0.2, last: float = 0.5, step: float = 0.01) -> list[float]:
    """Seconds after START at which poses are sent."""
    return [first + step * k for k in range(round((last - first) / step) + 1)]


def transforms(rear: bool = True, **times: float) -> TransformBuffer:
    """TF: odom -> velodyne along the way, and where the rear LiDAR is."""
    buffer = TransformBuffer()
    for second in driven(**times):
        buffer.add(tf_message("odom", "velodyne", pose(second), START + round(second * 1e9)))
    if rear:
        buffer.add(tf_message("velodyne", "rear_lidar", T_LIDAR_REAR), fixed=True)
    return buffer


def odometry(second: float, child: str = "base_link") -> Odometry:
    """The pose of the car's base, or of its main LiDAR (velodyne), as nav_msgs/Odometry."""
    T_lidar_child = np.eye(4) if child == "velodyne" else np.linalg.inv(T_BASE_LIDAR)
    T = transform_from_matrix(pose(second) @ T_lidar_child)
    message = Odometry(header=header(START + round(second * 1e9), "odom"), child_frame_id=child)
    t, q = T.translation, T.rotation
    message.pose.pose.position.x, message.pose.pose.position.y, message.pose.pose.position.z = t.x, t.y, t.z
    message.pose.pose.orientation = Quaternion(x=q.x, y=q.y, z=q.z, w=q.w)
    return message


def no_tf(message: Any = None) -> SimpleNamespace:
    """TF that knows nothing."""
    return SimpleNamespace(lookup=_unknown, notes=set())


def _unknown(*arguments: Any, **more: Any) -> None:
    raise LookupError("no chain of transforms")
