# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""A robot with poses, and what a viewer sees of the node's map."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from geometry_msgs.msg import TransformStamped
from nav_msgs.msg import OccupancyGrid
from node_rig import SECOND, sensors
from rclpy.executors import SingleThreadedExecutor
from ros_process import spin_until
from sensor_msgs.msg import PointCloud2
from std_srvs.srv import SetBool, Trigger
from visualization_msgs.msg import MarkerArray

from benchmark.node.posed_node import TOPIC
from occle_core.sensors.messages import stamp_of
from occle_ros.messages.clouds import VOXEL_DTYPE, cloud_from_points
from occle_ros.messages.common import time_from
from occle_ros.messages.transforms import transform_from_matrix
from occle_ros.topics.qos import qos_profile

STEP = SECOND // 10
LATCHED = qos_profile("reliable", 1, "transient_local")
KINDS = {
    "voxels": PointCloud2, "voxels_updates": PointCloud2, "markers": MarkerArray, "occupancy_grid": OccupancyGrid,
    "distance": PointCloud2, "objects": MarkerArray,
}  # fmt: skip
SMALL = {"map.size": [40.0, 40.0, 6.0], "map.pose_timeout_ms": 200.0, "camera_names": [""]}
"""Parameters of a node with a small map and no camera."""


class Robot:
    """Drives along x at a metre a frame, and keeps the newest message of every topic of the map."""

    def __init__(self, node: Any) -> None:
        self.node = node
        self.voxels: list[PointCloud2] = []
        self.map: dict[str, list[Any]] = {name: [] for name in KINDS}
        self.status: list[DiagnosticStatus] = []
        self.stamp, self.x = time.time_ns(), 0.0
        self._executor = SingleThreadedExecutor(context=node.context)
        self._executor.add_node(node)
        self.scans = node.create_publisher(PointCloud2, "/lidar/points", 10)
        self.poses = node.create_publisher(TransformStamped, TOPIC, 10)
        self._views: dict[str, Any] = {}
        node.create_subscription(PointCloud2, "/occupancy/voxels", self.voxels.append, 10)
        node.create_subscription(DiagnosticArray, "/diagnostics", lambda m: self.status.extend(m.status), 10)

    def view(self, *names: str) -> None:
        """Subscribe to topics of the map; those that are latched transient local."""
        for name in set(names) - self._views.keys():
            qos = LATCHED if name in ("voxels", "occupancy_grid") else qos_profile("reliable", 10)
            self._views[name] = self.node.create_subscription(KINDS[name], f"/occupancy/map/{name}", self.map[name].append, qos)

    def unview(self, *names: str) -> None:
        for name in names:
            self.node.destroy_subscription(self._views.pop(name))
            self.map[name].clear()

    def connect(self) -> None:
        """Until scans reach the node and it listens to the poses."""
        assert self.until(lambda: self.scans.get_subscription_count() and self.poses.get_subscription_count())

    def until(self, done: Callable[[], Any], seconds: float = 15.0) -> bool:
        return spin_until(self._executor, done, seconds)

    def frame(self, posed: bool = True, dx: float = 1.0, dt: int = STEP, number: int = 0) -> np.ndarray:
        """Send one scan and its pose, and wait for its voxels; returns its points."""
        self.stamp += dt
        self.x += dx
        points, _ = sensors(number)
        if posed:
            T = np.eye(4)
            T[0, 3] = self.x
            pose = TransformStamped(child_frame_id="velodyne", transform=transform_from_matrix(T))
            pose.header.frame_id, pose.header.stamp = "odom", time_from(self.stamp)
            self.poses.publish(pose)
            time.sleep(0.02)  # topics have no order
        self.scans.publish(cloud_from_points(points, self.stamp, "velodyne"))
        assert self.until(lambda: any(stamp_of(message) == self.stamp for message in self.voxels[-3:]))
        return points

    def newest(self, name: str, stamp: int | None = None) -> Any:
        """Newest message of a topic, of the last scan or of `stamp`."""
        stamp = self.stamp if stamp is None else stamp
        assert self.until(lambda: self.map[name] and _stamp(self.map[name][-1]) == stamp), f"no {name}"
        return self.map[name][-1]

    def values(self) -> tuple[bytes, str, dict[str, str]]:
        """Level, message and numbers of the newest diagnostic status of the map."""
        self.status.clear()
        assert self.until(lambda: any(status.name == "occupancy: map" for status in self.status))
        status = next(status for status in self.status if status.name == "occupancy: map")
        return status.level, status.message, {value.key: value.value for value in status.values}

    def call(self, name: str, data: bool | None = None) -> tuple[bool, str]:
        """Call a service of the map."""
        kind = Trigger if data is None else SetBool
        client = self.node.create_client(kind, f"/occupancy/{name}")
        assert client.wait_for_service(10.0)
        request = kind.Request() if data is None else kind.Request(data=data)
        done = client.call_async(request)
        assert self.until(done.done)
        self.node.destroy_client(client)
        return done.result().success, done.result().message


def _stamp(message: Any) -> int:
    return stamp_of(message.markers[0] if isinstance(message, MarkerArray) else message)


def cells_of(message: PointCloud2, resolution: float) -> dict[tuple[int, int, int], int]:
    """Cell number -> label of a cloud of voxels."""
    rows = np.frombuffer(message.data, VOXEL_DTYPE)
    numbers = np.floor(np.stack([rows["x"], rows["y"], rows["z"]], axis=1) / resolution).astype(int)
    return dict(zip(map(tuple, numbers.tolist()), rows["label"].tolist()))
