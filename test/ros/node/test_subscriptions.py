# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Subscriptions that adapt to what publishers offer, through real publishers."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from node_rig import sensors, write_calibration
from rclpy.clock import Clock
from rclpy.clock_type import ClockType
from rclpy.executors import SingleThreadedExecutor
from rclpy.qos import ReliabilityPolicy
from ros_process import spin_until
from sensor_msgs.msg import PointCloud2

from occle_core.sensors.messages import stamp_of
from occle_ros.calibration.lidars import LidarPoses
from occle_ros.calibration.rig import Calibration
from occle_ros.config.node_config import NodeConfig
from occle_ros.messages.clouds import cloud_from_points
from occle_ros.node.subscriptions import ReceivedScan, Subscriptions
from occle_ros.pipeline.statistics import Statistics
from occle_ros.sync.lidar_led import SyncedMessages
from occle_ros.system.ros_process import ros_node
from occle_ros.topics.qos import qos_profile

pytestmark = [pytest.mark.ros, pytest.mark.timeout(60)]
TOPIC = "/lidar/points"


class Station:
    """Subscriptions with the node and executor that it lives in."""

    def __init__(self, node: Any, config: NodeConfig) -> None:
        self.node = node
        self.frames: list[SyncedMessages[ReceivedScan, Any]] = []
        self._executor = SingleThreadedExecutor(context=node.context)
        self._executor.add_node(node)
        clock = Clock(clock_type=ClockType.STEADY_TIME)
        calibration = Calibration(config)
        poses = LidarPoses(config, calibration)
        self.inputs = Subscriptions(node, config, calibration, poses, Statistics(), clock, self.frames.append)

    def spin_until(self, done: Callable[[], Any], seconds: float = 10.0) -> None:
        assert spin_until(self._executor, done, seconds), "not in time"

    def asked(self) -> ReliabilityPolicy:
        self.spin_until(lambda: len(self.node.get_subscriptions_info_by_topic(TOPIC)) == 1)
        return self.node.get_subscriptions_info_by_topic(TOPIC)[0].qos_profile.reliability


@pytest.fixture
def settings(ros_domain: int, tmp_path: Path) -> dict[str, Any]:
    return {"calibration_file": str(write_calibration(tmp_path / "calibration.yaml")), "sync": {"deadline_ms": 50.0}}


@pytest.mark.parametrize("first", ["the driver", "the node"])
def test_a_best_effort_driver_is_heard_without_a_setting(settings: dict[str, Any], first: str) -> None:
    with ros_node("ours") as ours, ros_node("driver") as theirs:
        offered = qos_profile("best_effort", 5)
        if first == "the driver":
            driver = theirs.create_publisher(PointCloud2, TOPIC, offered)
            end = time.monotonic() + 10
            while not ours.count_publishers(TOPIC) and time.monotonic() < end:
                time.sleep(0.02)
        station = Station(ours, NodeConfig.model_validate(settings))
        if first == "the node":
            assert station.asked() == ReliabilityPolicy.RELIABLE
            driver = theirs.create_publisher(PointCloud2, TOPIC, offered)
        warnings: list[str] = []
        station.spin_until(lambda: warnings.extend(station.inputs.check()) or driver.get_subscription_count())
        assert station.asked() == ReliabilityPolicy.BEST_EFFORT
        assert not [text for text in warnings if "best_effort" in text]
        driver.publish(cloud_from_points(sensors(0)[0], 7, "velodyne"))
        station.spin_until(lambda: station.frames)
        assert stamp_of(station.frames[0].scan.message) == 7
        station.inputs.close()


def test_who_insists_on_reliable_is_told_what_to_set(settings: dict[str, Any]) -> None:
    with ros_node("ours") as ours, ros_node("driver") as theirs:
        station = Station(ours, NodeConfig.model_validate({**settings, "qos": {"reliability": "reliable"}}))
        theirs.create_publisher(PointCloud2, TOPIC, qos_profile("best_effort", 5))
        warnings: list[str] = []
        station.spin_until(lambda: warnings.extend(station.inputs.check()) or warnings)
        assert (
            "offers best_effort, requested is reliable on /lidar/points; set parameter qos.reliability:=best_effort" in warnings[0]
        )
        assert station.asked() == ReliabilityPolicy.RELIABLE
        station.inputs.close()


def test_a_silence_limit_that_changes_holds_at_once(settings: dict[str, Any]) -> None:
    with ros_node("ours") as ours:
        station = Station(ours, NodeConfig.model_validate(settings))
        assert station.inputs.check() == []
        station.inputs.set_timeout(0.0)
        assert len(station.inputs.check()) == 3
        station.inputs.close()
