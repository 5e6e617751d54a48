"""What the node says about itself on /diagnostics, once a second."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rclpy.clock import Clock
from rclpy.node import Node

from occle_ros.config import NodeConfig
from occle_ros.statistics import Statistics


class Diagnostics:
    """Publishes one status: rate, latency, what was lost and why, the bundle; and what to do when something is wrong.

    Args:
        node: publishes and owns the timer.
        config: thresholds and topics.
        bundle_id: of the network that runs.
        statistics: where the node counts.
        clock: a steady clock; diagnostics go on when simulated time stands still.
    """

    def __init__(self, node: Node, config: NodeConfig, bundle_id: str, statistics: Statistics, clock: Clock) -> None:
        self._node, self._config, self._bundle_id, self._statistics = node, config, bundle_id, statistics
        self._publisher = node.create_publisher(DiagnosticArray, "/diagnostics", 10)
        self._last_scan = self._last_time = time.monotonic()
        self._dropped = 0
        node.create_timer(1.0, self._publish, clock=clock)

    def scan_arrived(self) -> None:
        """Tell that a scan was received."""
        self._last_scan = time.monotonic()

    def _publish(self) -> None:
        now = time.monotonic()
        latencies = self._statistics.take_recent()
        rate = len(latencies) / max(now - self._last_time, 1e-3)
        self._last_time = now
        counts, last_error = self._statistics.counts()
        level, message = self._judge(now - self._last_scan, latencies, sum(counts.get("dropped", {}).values()))
        values = {"bundle": self._bundle_id, "rate_hz": f"{rate:.2f}"}
        if latencies:
            values |= {"latency_median_ms": f"{np.median(latencies):.1f}", "latency_max_ms": f"{max(latencies):.1f}"}
        values |= {f"{group}.{reason}": str(n) for group, members in counts.items() for reason, n in members.items()}
        values["last_error"] = last_error
        status = DiagnosticStatus(level=level, name=f"{self._node.get_name()}: pipeline", message=message, hardware_id="occle")
        status.values = [KeyValue(key=key, value=value) for key, value in values.items()]
        array = DiagnosticArray(status=[status])
        array.header.stamp = self._node.get_clock().now().to_msg()
        self._publisher.publish(array)

    def _judge(self, silent: float, latencies: list[float], dropped: int) -> tuple[Any, str]:
        lost, self._dropped = dropped - self._dropped, dropped
        limits = self._config.latency
        if silent > limits.input_timeout_s:
            return DiagnosticStatus.ERROR, self._why_silent(silent)
        if not self._node.get_clock().now().nanoseconds:
            return DiagnosticStatus.ERROR, "use_sim_time is true, but nobody publishes /clock (`occle play` does)"
        median = float(np.median(latencies)) if latencies else 0.0
        if median > limits.error_ms:
            return DiagnosticStatus.ERROR, f"latency {median:.0f} ms is over {limits.error_ms:.0f} ms"
        if lost:
            return DiagnosticStatus.WARN, f"{lost} frames lost in the last second"
        if median > limits.warn_ms:
            return DiagnosticStatus.WARN, f"latency {median:.0f} ms is over {limits.warn_ms:.0f} ms"
        return DiagnosticStatus.OK, "running"

    def _why_silent(self, silent: float) -> str:
        topic = self._node.resolve_topic_name(self._config.lidar.topic)
        publishers = self._node.count_publishers(topic)
        text = f"no scan on {topic} for {silent:.0f} s: "
        if not publishers:
            return text + "nobody publishes it (`ros2 topic list` shows what there is; parameter lidar.topic names ours)"
        return text + f"{publishers} publishers; compare their QoS with parameter qos.reliability (`ros2 topic info -v {topic}`)"
