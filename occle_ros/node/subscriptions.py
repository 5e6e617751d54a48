# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Subscriptions of the node: input callbacks, synchronizer and monitors."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from nav_msgs.msg import Odometry
from rclpy.clock import Clock
from rclpy.node import Node
from rclpy.qos import QoSPolicyKind, QoSProfile
from rclpy.qos_overriding_options import QoSOverridingOptions
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, PointCloud2

from occle_core.sensors.messages import ConversionError, stamp_of
from occle_ros.calibration.lidars import LidarPoses
from occle_ros.calibration.rig import Calibration
from occle_ros.config.node_config import NodeConfig
from occle_ros.node.input_monitor import ClockMonitor, InputMonitor, StampMonitor
from occle_ros.node.throttle import RateLimiter
from occle_ros.pipeline.statistics import Statistics
from occle_ros.sync.lidar_led import MILLISECOND, SyncedMessages
from occle_ros.sync.policy import make_synchronizer
from occle_ros.topics.inputs import InputTopic, Problem, input_topics
from occle_ros.topics.qos import input_qos, publisher_qos

CLOCK_WARNING_SECONDS = 30.0
ODOMETRY_DEPTH = 100


@dataclass(frozen=True)
class ReceivedScan:
    """Scan with its time of arrival (`time.perf_counter`) and the age of its stamp at that time."""

    message: PointCloud2
    arrived: float
    age_ms: float


def without_arrival(synced: SyncedMessages[ReceivedScan, Any]) -> SyncedMessages[Any, Any]:
    """The same messages with the scans alone, as the pipeline takes them."""
    main, *further = [None if scan is None else scan.message for scan in (synced.scan, *synced.lidars)]
    return SyncedMessages(synced.stamp, main, synced.images, synced.masked, tuple(further))


class Subscriptions:
    """Subscriptions of one activation; `close` destroys them.

    Args:
        node: owner of the subscriptions and the timer.
        config: topics, QoS and synchronisation.
        calibration: receives the CameraInfos.
        poses: receives the odometry.
        statistics: counts the received messages.
        clock: a steady clock.
        on_frame: callback for every frame that is complete or at its deadline.
    """

    def __init__(
        self,
        node: Node,
        config: NodeConfig,
        calibration: Calibration,
        poses: LidarPoses,
        statistics: Statistics,
        clock: Clock,
        on_frame: Callable[[SyncedMessages[ReceivedScan, Any]], None],
    ) -> None:
        self._node, self._config, self._calibration = node, config, calibration
        self._poses = poses
        self._statistics, self._on_frame = statistics, on_frame
        self._synchronizer = make_synchronizer(config)
        now = time.monotonic()
        self.last_scan = now
        self.last_image = dict.fromkeys(config.camera_names, now)
        self.last_lidar = dict.fromkeys(config.lidar_names, now)
        self._timer = node.create_timer(0.01, self._on_deadline, clock=clock)
        self._timer.cancel()
        self._inputs = {wanted.topic: wanted for wanted in input_topics(config)}
        self._requested = {topic: self._suitable_qos(topic) for topic in self._inputs}
        self._monitor = InputMonitor(node, list(self._inputs.values()), self._requested, config.diagnostics.input_timeout_s)
        self._stamps = StampMonitor(list(self._inputs.values()), _offsets(config))
        self.clock_problem: Problem | None = None
        self._clock_monitor, self._clock_log_limit = ClockMonitor(node), RateLimiter()
        self._age_s: float | None = None
        self._subscriptions = {topic: self._subscribe(wanted) for topic, wanted in self._inputs.items()}

    def close(self) -> None:
        """Unsubscribe, and add the synchronizer's counts to the statistics."""
        self._node.destroy_timer(self._timer)
        for subscription in self._subscriptions.values():
            self._node.destroy_subscription(subscription)
        for reason, number in self._synchronizer.counts.items():
            self._statistics.count("synchronizer", reason, number)

    @property
    def synchronizer_counts(self) -> Mapping[str, int]:
        """Counts of the synchronizer, by reason."""
        return self._synchronizer.counts

    def problem_of(self, topic: str) -> str:
        """Problem and remedy of a silent topic; "" if there is none."""
        return str(self._monitor.problems.get(topic, ""))

    def set_timeout(self, seconds: float) -> None:
        """Set the time after which a topic without messages is silent."""
        self._monitor.silence = seconds

    def check(self) -> list[str]:
        """Warnings that are due: silent topics, incompatible publishers, stamps of other clocks, problems of the clock."""
        if self._config.qos.reliability == "auto":
            self._adapt_reliability()
        warnings = self._monitor.check() + self._stamps.check(self._config.lidar.topic)
        self.clock_problem = self._clock_monitor.check(self._age_s)
        if self.clock_problem and self._clock_log_limit.allows(1 / CLOCK_WARNING_SECONDS):
            warnings.append(f"clock: {self.clock_problem}")
        return warnings

    def _subscribe(self, wanted: InputTopic) -> Any:
        callback: Callable[[Any], None]
        if wanted.lidar:
            callback = partial(self._on_lidar, self._config.lidar_names.index(wanted.lidar), wanted.lidar)
        elif wanted.message is Odometry:
            callback = self._on_odometry
        elif not wanted.camera:
            callback = self._on_scan
        elif wanted.message is CameraInfo:
            callback = partial(self._on_info, wanted.camera)
        else:
            callback = partial(self._on_image, self._config.camera_names.index(wanted.camera), wanted.camera)
        on_message, events = partial(self._on_message, wanted.topic, callback), self._monitor.event_callbacks(wanted.topic)
        qos = self._requested[wanted.topic]
        # Reliability is not among them: parameter qos.reliability adapts it to the publishers.
        overriding = QoSOverridingOptions((QoSPolicyKind.HISTORY, QoSPolicyKind.DEPTH))
        return self._node.create_subscription(
            wanted.message, wanted.topic, on_message, qos, event_callbacks=events, qos_overriding_options=overriding
        )

    def _suitable_qos(self, topic: str) -> QoSProfile:
        qos = input_qos(self._config, publisher_qos(self._node, topic))
        if self._inputs[topic].message is Odometry:  # faster than scans, and each is needed
            qos.depth = max(qos.depth, ODOMETRY_DEPTH)
        return qos

    def _adapt_reliability(self) -> None:
        """Subscribe again with best effort where a best-effort publisher is incompatible with reliable."""
        for topic in sorted(self._monitor.incompatible):
            requested = self._suitable_qos(topic)
            if requested.reliability == self._requested[topic].reliability:
                continue  # incompatible for another reason, which the monitor reports
            self._node.get_logger().info(f"{topic} is published best effort: subscribed best effort (parameter qos.reliability)")
            self._requested[topic] = requested
            self._monitor.incompatible.discard(topic)
            self._node.destroy_subscription(self._subscriptions[topic])
            self._subscriptions[topic] = self._subscribe(self._inputs[topic])

    def _on_message(self, topic: str, callback: Callable[[Any], None], message: Any) -> None:
        self._monitor.on_message(topic)
        callback(message)

    def _on_info(self, name: str, message: CameraInfo) -> None:
        if self._calibration.add_camera_info(name, message):
            self._node.get_logger().warning(f"the CameraInfo of {name} has changed: the new one is used from this frame on")

    def _on_image(self, number: int, name: str, message: Image | CompressedImage) -> None:
        self._statistics.count("received", name)
        self.last_image[name] = time.monotonic()
        stamp = stamp_of(message)
        self._stamps.on_message(self._config.cameras[name].topic, stamp)
        self._deliver(self._synchronizer.add_image(number, stamp, message, time.monotonic_ns()))

    def _on_scan(self, message: PointCloud2) -> None:
        self._statistics.count("received", "scans")
        self.last_scan = time.monotonic()
        stamp = stamp_of(message)
        self._stamps.on_message(self._config.lidar.topic, stamp)
        self._deliver(self._synchronizer.add_scan(stamp, self._received(message, stamp), time.monotonic_ns()))

    def _on_lidar(self, number: int, name: str, message: PointCloud2) -> None:
        self._statistics.count("received", name)
        self.last_lidar[name] = time.monotonic()
        stamp = stamp_of(message)
        self._stamps.on_message(self._config.lidars[name].topic, stamp)
        self._deliver(self._synchronizer.add_lidar(number, stamp, self._received(message, stamp), time.monotonic_ns()))

    def _on_odometry(self, message: Odometry) -> None:
        try:
            self._poses.add_odometry(message)
        except ConversionError as error:
            self._statistics.count("odometry", "no_pose")
            self._statistics.error(f"odometry was ignored: {error}")

    def _received(self, message: PointCloud2, stamp: int) -> ReceivedScan:
        scan = ReceivedScan(message, time.perf_counter(), self._age_ms(stamp))
        self._age_s = None if math.isnan(scan.age_ms) else scan.age_ms / 1e3
        return scan

    def _on_deadline(self) -> None:
        self._deliver(self._synchronizer.poll(time.monotonic_ns()))

    def _deliver(self, frames: Sequence[SyncedMessages[ReceivedScan, Any]]) -> None:
        for frame in frames:
            self._on_frame(frame)
        waiting = self._synchronizer.next_deadline() is not None
        if waiting and self._timer.is_canceled():
            self._timer.reset()
        elif not waiting and not self._timer.is_canceled():
            self._timer.cancel()

    def _age_ms(self, stamp: int) -> float:
        """Age of a stamp by the node's clock; NaN if use_sim_time is true and /clock has not started."""
        now = self._node.get_clock().now().nanoseconds
        return (now - stamp) / 1e6 if now else math.nan


def _offsets(config: NodeConfig) -> dict[str, int]:
    """Topic -> nanoseconds that are added to its stamps."""
    found = {camera.topic: camera.time_offset_ms for camera in config.cameras.values()}
    found |= {lidar.topic: lidar.time_offset_ms for lidar in config.lidars.values()}
    return {topic: round(milliseconds * MILLISECOND) for topic, milliseconds in found.items()}
