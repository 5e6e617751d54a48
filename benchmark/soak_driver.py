"""Sensors and viewers around the live node, for long runs: sends a data set's frames, and measures how late their voxels come."""

from __future__ import annotations

import struct
import time
from statistics import median
from typing import Any

from nav_msgs.msg import OccupancyGrid
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from sensor_msgs.msg import PointCloud2
from visualization_msgs.msg import MarkerArray

from occle_ros.bags.dataset_messages import POINTS_TOPIC, DatasetMessages
from occle_ros.messages.common import message_class

PACE_FRAMES = 16
"""Frames that are timed for the pace."""
APART = 0.1
"""Seconds between the frames that the node gets to work on at the same time."""


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
        self._images = [topic for topic in self._publishers if "/image" in topic]
        self._latencies: list[float] = []
        self._views: list[Any] = []
        self._sent = 0
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
        frame = self._frames[self._sent % len(self._frames)]
        self._sent += 1
        stamp = divmod(time.time_ns(), 1_000_000_000)
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

    def view(self, wanted: bool) -> None:
        """Let viewers of markers and map come or go."""
        if wanted and not self._views:
            kinds = {"/occupancy/markers": MarkerArray, "/occupancy/occupancy_grid": OccupancyGrid}
            self._views = [self._node.create_subscription(kind, t, lambda raw: None, 5, raw=True) for t, kind in kinds.items()]
        elif not wanted:
            for view in self._views:
                self._node.destroy_subscription(view)
            self._views = []

    def _take(self, raw: bytes) -> None:
        seconds, nanoseconds = struct.unpack_from("<iI", raw, 4)
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
