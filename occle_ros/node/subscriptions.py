"""The node's subscriptions: messages come in, frames with their images go to the worker."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from rclpy.clock import Clock
from rclpy.node import Node
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, PointCloud2

from occle_core.sensors.messages import stamp_of
from occle_ros.calibration.rig import Calibration
from occle_ros.config.node_config import NodeConfig
from occle_ros.node.input_monitor import ClockMonitor, InputMonitor
from occle_ros.node.throttle import RateLimiter
from occle_ros.pipeline.statistics import Statistics
from occle_ros.sync.lidar_led import SyncedMessages
from occle_ros.sync.policy import synchronizer_for
from occle_ros.topics.inputs import Input, Problem, inputs_of
from occle_ros.topics.qos import input_qos, offers_on

CLOCK_SECONDS = 30.0  # until a clock that is still wrong is mentioned again


@dataclass(frozen=True)
class ReceivedScan:
    """A scan on its way to the worker, with the steady time and the age of its stamp when it arrived."""

    message: PointCloud2
    arrived: float
    age_ms: float


class Subscriptions:
    """The subscriptions of one activation; `close` removes them.

    Args:
        node: owns the subscriptions and the timer.
        config: topics, QoS and matching.
        calibration: gets the CameraInfos.
        statistics: counts what came.
        clock: a steady clock.
        deliver: called with every frame that is complete or has waited long enough.
    """

    def __init__(
        self,
        node: Node,
        config: NodeConfig,
        calibration: Calibration,
        statistics: Statistics,
        clock: Clock,
        deliver: Callable[[SyncedMessages[ReceivedScan]], None],
    ) -> None:
        self._node, self._config, self._calibration = node, config, calibration
        self._statistics, self._deliver = statistics, deliver
        self.synchronizer = synchronizer_for(config)
        now = time.monotonic()
        self.last_scan = now
        self.last_image = dict.fromkeys(config.camera_names, now)
        self._timer = node.create_timer(0.01, self._on_deadline, clock=clock)
        self._timer.cancel()
        self._inputs = {wanted.topic: wanted for wanted in inputs_of(config)}
        self._asked = {topic: input_qos(config, offers_on(node, topic)) for topic in self._inputs}
        self.watch = InputMonitor(node, list(self._inputs.values()), self._asked, config.latency.input_timeout_s)
        self.clock_problem: Problem | None = None
        self._clock_watch, self._clock_told = ClockMonitor(node), RateLimiter()
        self._age_s: float | None = None
        self._subscriptions = {topic: self._subscribe(wanted) for topic, wanted in self._inputs.items()}

    def close(self) -> None:
        """Unsubscribe, and add what the synchronizer counted to the statistics."""
        self._node.destroy_timer(self._timer)
        for subscription in self._subscriptions.values():
            self._node.destroy_subscription(subscription)
        for reason, number in self.synchronizer.counts.items():
            self._statistics.count("synchronizer", reason, number)

    def check(self) -> list[str]:
        """Warnings that are due: topics on which nothing comes or can come, and a clock that does not run."""
        if self._config.qos.reliability == "auto":
            self._take_what_is_offered()
        warnings = self.watch.check()
        self.clock_problem = self._clock_watch.check(self._age_s)
        if self.clock_problem and self._clock_told.allows(1 / CLOCK_SECONDS):
            warnings.append(f"clock: {self.clock_problem}")
        return warnings

    def _subscribe(self, wanted: Input) -> Any:
        if not wanted.camera:
            callback: Callable[[Any], None] = self._on_scan
        elif wanted.message is CameraInfo:
            callback = partial(self._on_info, wanted.camera)
        else:
            callback = partial(self._on_image, self._config.camera_names.index(wanted.camera), wanted.camera)
        heard, events = partial(self._heard, wanted.topic, callback), self.watch.callbacks(wanted.topic)
        qos = self._asked[wanted.topic]
        return self._node.create_subscription(wanted.message, wanted.topic, heard, qos, event_callbacks=events)

    def _take_what_is_offered(self) -> None:
        """Subscribe again, best effort, where a publisher of best effort was refused."""
        for topic in sorted(self.watch.refused):
            asked = input_qos(self._config, offers_on(self._node, topic))
            if asked.reliability == self._asked[topic].reliability:
                continue  # something else was refused; the watch tells it
            self._node.get_logger().info(f"{topic} is sent best effort; it is taken so from now on (parameter qos.reliability)")
            self._asked[topic] = asked
            self.watch.refused.discard(topic)
            self._node.destroy_subscription(self._subscriptions[topic])
            self._subscriptions[topic] = self._subscribe(self._inputs[topic])

    def _heard(self, topic: str, callback: Callable[[Any], None], message: Any) -> None:
        self.watch.arrived(topic)
        callback(message)

    def _on_info(self, name: str, message: CameraInfo) -> None:
        if self._calibration.take_info(name, message):
            self._node.get_logger().warning(f"the CameraInfo of {name} has changed; the new one is used from now on")

    def _on_image(self, number: int, name: str, message: Image | CompressedImage) -> None:
        self._statistics.count("received", name)
        self.last_image[name] = time.monotonic()
        self._hand_over(self.synchronizer.add_image(number, stamp_of(message), message, time.monotonic_ns()))

    def _on_scan(self, message: PointCloud2) -> None:
        self._statistics.count("received", "scans")
        self.last_scan = time.monotonic()
        stamp = stamp_of(message)
        scan = ReceivedScan(message, time.perf_counter(), self._age_ms(stamp))
        self._age_s = None if math.isnan(scan.age_ms) else scan.age_ms / 1e3
        self._hand_over(self.synchronizer.add_scan(stamp, scan, time.monotonic_ns()))

    def _on_deadline(self) -> None:
        self._hand_over(self.synchronizer.poll(time.monotonic_ns()))

    def _hand_over(self, frames: Sequence[SyncedMessages[ReceivedScan]]) -> None:
        for frame in frames:
            self._deliver(frame)
        waiting = self.synchronizer.next_deadline() is not None
        if waiting and self._timer.is_canceled():
            self._timer.reset()
        elif not waiting and not self._timer.is_canceled():
            self._timer.cancel()

    def _age_ms(self, stamp: int) -> float:
        """By the node's clock; NaN while use_sim_time has no /clock yet."""
        now = self._node.get_clock().now().nanoseconds
        return (now - stamp) / 1e6 if now else math.nan
