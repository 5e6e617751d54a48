# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Sensors and viewers around the live node, for long runs: sends a data set's frames, and measures how late their voxels come.

With poses for the map (`benchmark.node.posed_node`): a drive straight on, whatever the frames show.
"""

from __future__ import annotations

import struct
import time
from collections import Counter
from collections.abc import Mapping
from functools import partial
from statistics import median
from typing import Any

import numpy as np
from geometry_msgs.msg import TransformStamped
from nav_msgs.msg import OccupancyGrid
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from sensor_msgs.msg import PointCloud2
from visualization_msgs.msg import MarkerArray

from benchmark.node.posed_node import TOPIC
from occle_ros.bags.dataset_messages import POINTS_TOPIC, DatasetMessages
from occle_ros.messages.common import message_class, time_from
from occle_ros.messages.transforms import transform_from_matrix

PACE_FRAMES = 16
"""Frames that are timed for the pace."""
APART = 0.1
"""Seconds between the frames that the node gets to work on at the same time."""
SPEED = 8.0
"""Of the poses, metres a second."""
VIEWS: dict[str, type[Any]] = {"/occupancy/markers": MarkerArray, "/occupancy/occupancy_grid": OccupancyGrid}
MAP_VIEWS: dict[str, type[Any]] = {
    "/occupancy/map/voxels": PointCloud2,
    "/occupancy/map/voxels_updates": PointCloud2,
    "/occupancy/map/occupancy_grid": OccupancyGrid,
    "/occupancy/map/distance": PointCloud2,
}
"""The map, its costmap and its distances."""


class Driver:
    """Sends the data set's messages with new stamps, and measures how late their voxels come."""

    def __init__(self, node: Node, source: DatasetMessages) -> None:
        self._node = node
        self._executor = SingleThreadedExecutor(context=node.context)
        self._executor.add_node(node)
        self._frames = _frames(source)
        self._publishers: dict[str, Any] = {}
        for topic in self._frames[0]:
            kind = message_class(source.topics[topic])
            assert kind is not None
            self._publishers[topic] = node.create_publisher(kind, topic, 5)
        self._poses = node.create_publisher(TransformStamped, TOPIC, 5)
        self._lidar_frame, self._began = source.dataset.lidar_frame, time.time_ns()
        self._images = [topic for topic in self._publishers if "/image" in topic]
        self._latencies: list[float] = []
        self.came = 0  # frames whose voxels came
        self._views: dict[str, Any] = {}
        self.seen: Counter[str] = Counter()  # messages that viewers got, by topic
        self.sent = 0  # frames
        node.create_subscription(PointCloud2, "/occupancy/voxels", self._take, 5, raw=True)

    def connect(self) -> None:
        """Wait for the node's subscriptions."""
        end = time.monotonic() + 30
        while not all(publisher.get_subscription_count() for publisher in self._publishers.values()):
            if time.monotonic() > end:
                raise TimeoutError("the node did not subscribe within 30 s")
            self._executor.spin_once(timeout_sec=0.05)
        self._spin(0.5)

    def send(self, without: str = "") -> None:
        """One frame, stamped now."""
        frame = self._frames[self.sent % len(self._frames)]
        self.sent += 1
        now = time.time_ns()
        T = np.eye(4)
        T[0, 3] = SPEED * (now - self._began) / 1e9
        pose = TransformStamped(child_frame_id=self._lidar_frame, transform=transform_from_matrix(T))
        pose.header.frame_id, pose.header.stamp = "odom", time_from(now)
        self._poses.publish(pose)
        stamp = divmod(now, 1_000_000_000)
        for topic, data in frame.items():
            if topic != without:
                struct.pack_into("<iI", data, 4, *stamp)  # every one of them begins with its header
                self._publishers[topic].publish(bytes(data))

    def pace(self, max_concurrent: int) -> tuple[float, float]:
        """Seconds that a frame takes, and frames a second that come out, with always `max_concurrent` of them on their way."""
        for _ in range(max_concurrent):
            self.send()
            self._spin(APART)  # sent together, the second would take the first one's place
        came, arrivals = 0, []
        while came < PACE_FRAMES:
            end = time.monotonic() + 30
            while len(self._latencies) == came and time.monotonic() < end:
                self._executor.spin_once(timeout_sec=0.05)
            came += 1
            arrivals.append(time.monotonic())
            self.send()
        self._spin(2 * max(self._latencies))
        return median(self._latencies[max_concurrent:came]), (came - max_concurrent) / (arrivals[-1] - arrivals[max_concurrent - 1])

    def drive(self, seconds: float, hz: float, silent_camera: bool) -> list[float]:
        """Send frames at a rate; returns the latencies of those that came out, seconds."""
        self._latencies.clear()
        began = time.monotonic()
        number = 0
        while (now := time.monotonic() - began) < seconds:
            if now >= number / hz:
                self.send(self._images[0] if silent_camera else "")
                number += 1
            self._executor.spin_once(timeout_sec=max(0.0, min(number / hz, seconds) - (time.monotonic() - began)))
        return list(self._latencies)

    def wait(self, seconds: float) -> list[float]:
        """Send nothing; returns the latencies of the frames that come out meanwhile, seconds."""
        self._latencies.clear()
        self._spin(seconds)
        return list(self._latencies)

    def view(self, topics: Mapping[str, type[Any]]) -> None:
        """Let viewers of these topics come, and all others go."""
        for topic in self._views.keys() - topics.keys():
            self._node.destroy_subscription(self._views.pop(topic))
        for topic in topics.keys() - self._views.keys():
            self._views[topic] = self._node.create_subscription(topics[topic], topic, partial(self._seen, topic), 5, raw=True)

    def _seen(self, topic: str, raw: bytes) -> None:
        self.seen[topic] += 1

    def _take(self, raw: bytes) -> None:
        seconds, nanoseconds = struct.unpack_from("<iI", raw, 4)
        self.came += 1
        self._latencies.append((time.time_ns() - seconds * 1_000_000_000 - nanoseconds) / 1e9)

    def _spin(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self._executor.spin_once(timeout_sec=0.05)


def _frames(source: DatasetMessages) -> list[dict[str, bytearray]]:
    """Topic -> CDR bytes of each frame: CameraInfo and image of every camera, and the scan last."""
    frames: list[dict[str, bytearray]] = []
    frame: dict[str, bytearray] = {}
    for _, topic, data in source.messages([topic for topic in source.topics if not topic.startswith("/tf")]):
        frame[topic] = bytearray(data)
        if len(frame) == len(source.topics) - 2:
            frames.append({**{t: d for t, d in frame.items() if t != POINTS_TOPIC}, POINTS_TOPIC: frame[POINTS_TOPIC]})
            frame = {}
    return frames
