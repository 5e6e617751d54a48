# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Publisher of /diagnostics, once a second: status of the pipeline, of the map, of each camera and of each further LiDAR."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rclpy.clock import Clock
from rclpy.node import Node

from occle_ros.config.node_config import NodeConfig
from occle_ros.mapping.runner import MapRunner
from occle_ros.node.inference import InferenceRunner
from occle_ros.node.subscriptions import Subscriptions
from occle_ros.pipeline.statistics import Statistics

Counts = Mapping[str, Mapping[str, int]]


class NodeState(Protocol):
    """State of the node; `inference` is None while it is not configured, `inputs` and `map` while it is not active."""

    config: NodeConfig
    statistics: Statistics
    inference: InferenceRunner | None
    inputs: Subscriptions | None
    map: MapRunner | None


class Diagnostics:
    """Publisher of the diagnostic statuses: rate, latency, losses by reason, engine, bundle, and remedies.

    Args:
        node: owner of the publisher and the timer.
        state: to report.
        clock: a steady clock, so that diagnostics continue while simulated time is stopped.
    """

    def __init__(self, node: Node, state: NodeState, clock: Clock) -> None:
        self._node, self._state = node, state
        self._publisher = node.create_publisher(DiagnosticArray, "/diagnostics", 10)
        self._last_time = time.monotonic()
        self._before: dict[str, Counter[str]] = {}
        node.create_timer(1.0, self._publish, clock=clock)

    def _publish(self) -> None:
        counts, last_error = self._state.statistics.counts()
        lately = {group: Counter(members) - self._before.get(group, Counter()) for group, members in counts.items()}
        self._before = {group: Counter(members) for group, members in counts.items()}
        array = DiagnosticArray(
            status=[self._pipeline(counts, lately, last_error), *self._map(counts), *self._sensors(counts, lately)]
        )
        array.header.stamp = self._node.get_clock().now().to_msg()
        self._publisher.publish(array)

    def _pipeline(self, counts: Counts, lately: Mapping[str, Counter[str]], last_error: str) -> DiagnosticStatus:
        now = time.monotonic()
        latencies = self._state.statistics.take_recent()
        rate = len(latencies) / max(now - self._last_time, 1e-3)
        self._last_time = now
        level, message = self._judge(latencies, counts, lately)
        values = {"rate_hz": f"{rate:.2f}"}
        if self._state.inference:
            inference = self._state.inference
            values |= {"bundle": inference.bundle_id, "engine": inference.engine, "degraded": inference.degraded}
        if latencies:
            values |= {"latency_median_ms": f"{np.median(latencies):.1f}", "latency_max_ms": f"{max(latencies):.1f}"}
        synchronizer = self._state.inputs.synchronizer_counts if self._state.inputs else {}
        groups = {**counts, "synchronizer": Counter(counts.get("synchronizer", {})) + Counter(synchronizer)}
        values |= {
            f"{group}.{reason}": str(n) for group, members in groups.items() if group != "map" for reason, n in members.items()
        }
        values["last_error"] = last_error
        return self._status("pipeline", level, message, values)

    def _judge(self, latencies: list[float], counts: Counts, lately: Mapping[str, Counter[str]]) -> tuple[Any, str]:
        limits, inference, subscriptions = self._state.config.diagnostics, self._state.inference, self._state.inputs
        if inference is None or subscriptions is None:
            missing = "configured" if inference is None else "activated"
            return DiagnosticStatus.WARN, f"the node is not {missing} (`ros2 lifecycle set`, or parameter autostart)"
        silent = time.monotonic() - subscriptions.last_scan
        topic = self._state.config.lidar.topic
        no_scan = f"no scan on {topic} for {silent:.0f} s: {subscriptions.problem_of(topic)}"
        others = [name for name, last in subscriptions.last_lidar.items() if time.monotonic() - last <= limits.input_timeout_s]
        has_received = any(counts.get("received", {}).get(name) for name in others)
        if silent > limits.input_timeout_s and not has_received:
            return DiagnosticStatus.ERROR, no_scan
        if subscriptions.clock_problem:
            return DiagnosticStatus.ERROR, str(subscriptions.clock_problem)
        median = float(np.median(latencies)) if latencies else 0.0
        without_main = f"running on {', '.join(others)}: {no_scan}" if silent > limits.input_timeout_s else ""
        if median > limits.latency_error_ms:
            latency = f"latency {median:.0f} ms is over {limits.latency_error_ms:.0f} ms"
            return DiagnosticStatus.ERROR, f"{latency}; {without_main}" if without_main else latency
        if without_main:
            return DiagnosticStatus.WARN, without_main
        if inference.degraded:
            return DiagnosticStatus.WARN, inference.degraded
        for group, text in (
            ("dropped", "frames lost"),
            ("deskew", "frames not compensated for motion, see parameter lidar.deskew"),
            ("overflow", "cells exceeded the network's capacity"),
            ("history", "frames without history, see parameter tf.world_frame"),
        ):
            if lost := lately.get(group):
                reasons = ", ".join(f"{reason} {number}" for reason, number in lost.items())
                return DiagnosticStatus.WARN, f"{lost.total()} {text} in the last second: {reasons}"
        if median > limits.latency_warn_ms:
            return DiagnosticStatus.WARN, f"latency {median:.0f} ms is over {limits.latency_warn_ms:.0f} ms"
        return DiagnosticStatus.OK, "running"

    def _map(self, counts: Counts) -> list[DiagnosticStatus]:
        if self._state.map is None:
            return []
        is_fine, message, values = self._state.map.state()
        values |= {reason: str(number) for reason, number in counts.get("map", {}).items()}
        return [self._status("map", DiagnosticStatus.OK if is_fine else DiagnosticStatus.WARN, message, values)]

    def _sensors(self, counts: Counts, lately: Mapping[str, Counter[str]]) -> list[DiagnosticStatus]:
        """Status of each camera and, where there are several, each further LiDAR."""
        config, subscriptions = self._state.config, self._state.inputs
        if subscriptions is None:
            return []
        statuses = []
        sensors = [("camera", "image", name, config.cameras[name].topic, subscriptions.last_image) for name in config.camera_names]
        sensors += [("lidar", "scan", name, config.lidars[name].topic, subscriptions.last_lidar) for name in config.lidar_names]
        for kind, unit, name, topic, last in sensors:
            age, received = time.monotonic() - last[name], counts.get("received", {}).get(name, 0)
            masked = _of_sensor(lately.get("masked", {}), name)
            level, message = DiagnosticStatus.OK, "in use"
            if not received or age > config.diagnostics.input_timeout_s:
                level, message = (
                    DiagnosticStatus.WARN,
                    f"no {unit} on {topic} for {age:.0f} s: {subscriptions.problem_of(topic)}",
                )
            elif masked:
                reasons = ", ".join(f"{reason} {number}" for reason, number in masked.items())
                level, message = DiagnosticStatus.WARN, f"masked in the last second: {reasons}"
            values = {"topic": topic, "age_s": f"{age:.2f}" if received else "", "received": str(received)}
            values |= {f"masked.{reason}": str(n) for reason, n in _of_sensor(counts.get("masked", {}), name).items()}
            statuses.append(self._status(f"{kind} {name}", level, message, values))
        return statuses

    def _status(self, part: str, level: Any, message: str, values: Mapping[str, str]) -> DiagnosticStatus:
        # With the namespace: the nodes of several robots may share one /diagnostics.
        name = f"{self._node.get_fully_qualified_name().lstrip('/')}: {part}"
        status = DiagnosticStatus(level=level, name=name, message=message, hardware_id="occle")
        status.values = [KeyValue(key=key, value=value) for key, value in values.items()]
        return status


def _of_sensor(counts: Mapping[str, int], name: str) -> dict[str, int]:
    """Reason -> number, of the counters named "sensor:reason"."""
    return {key.removeprefix(f"{name}:"): number for key, number in counts.items() if key.startswith(f"{name}:")}
