# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""launch_testing's view of occupancy.launch.py: `launch_test test/ros/tools/launched_occupancy.py bundle:=... dataset:=...`."""

from __future__ import annotations

import unittest
from pathlib import Path
from typing import Any

import launch_testing.actions
import launch_testing.asserts
from launch.actions import DeclareLaunchArgument, IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration

from launch import LaunchDescription

LAUNCH = Path(__file__).resolve().parents[3] / "launch/occupancy.launch.py"


def generate_test_description() -> LaunchDescription:
    names = ("bundle", "dataset")
    given = [(name, LaunchConfiguration(name)) for name in names]
    occupancy = IncludeLaunchDescription(
        PythonLaunchDescriptionSource(str(LAUNCH)), launch_arguments=[*given, ("engine", "torch"), ("rate", "0.5")]
    )
    return LaunchDescription([*(DeclareLaunchArgument(name) for name in names), occupancy, launch_testing.actions.ReadyToTest()])


class WhileItRuns(unittest.TestCase):
    """Voxels of the replayed drive arrive."""

    def test_voxels(self, proc_output: Any) -> None:
        import rclpy
        from rclpy.qos import qos_profile_sensor_data
        from sensor_msgs.msg import PointCloud2

        proc_output.assertWaitFor("ready: bundle", timeout=60)
        rclpy.init()
        node = rclpy.create_node("listener")
        heard: list[PointCloud2] = []
        node.create_subscription(PointCloud2, "/occupancy/voxels", heard.append, qos_profile_sensor_data)
        end = node.get_clock().now().nanoseconds + 60 * 10**9
        while not heard and node.get_clock().now().nanoseconds < end:
            rclpy.spin_once(node, timeout_sec=0.2)
        node.destroy_node()
        rclpy.shutdown()
        self.assertTrue(heard and heard[0].width > 0)


@launch_testing.post_shutdown_test()
class AfterIt(unittest.TestCase):
    """Everything ended by itself or by SIGINT, without an error."""

    def test_exit_codes(self, proc_info: Any) -> None:
        launch_testing.asserts.assertExitCodes(proc_info, allowable_exit_codes=[0, -2])
