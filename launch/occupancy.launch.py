"""Start the occupancy node; with `bag:=` also its replay, with `rviz:=true` also RViz.

ros2 launch occle_ros occupancy.launch.py config:=kitti.yaml bundle:=/path/to/bundle bag:=/path/to/bag
"""

from __future__ import annotations

import sys
from pathlib import Path

from ament_index_python.packages import get_package_share_directory
from launch.actions import DeclareLaunchArgument, ExecuteProcess, OpaqueFunction, SetEnvironmentVariable
from launch.conditions import IfCondition
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue

from launch import LaunchContext, LaunchDescription

SHARE = Path(get_package_share_directory("occle_ros"))


def generate_launch_description() -> LaunchDescription:
    """What `ros2 launch` runs; `--show-args` lists the arguments."""
    profile = str(SHARE / "config" / "fastdds_shm.xml")
    return LaunchDescription(
        [
            DeclareLaunchArgument("config", default_value="kitti.yaml", description="parameter file, or its name in share"),
            DeclareLaunchArgument("bundle", default_value="", description="folder of the trained network; empty: the config's"),
            DeclareLaunchArgument("calibration", default_value="", description="calibration.yaml; empty: the bag's or config's"),
            DeclareLaunchArgument("bag", default_value="", description="bag that `occle bag` wrote, replayed when given"),
            DeclareLaunchArgument("rate", default_value="1.0", description="speed of the replay"),
            DeclareLaunchArgument("rviz", default_value="false", description="true: show voxels, points and image in RViz"),
            DeclareLaunchArgument("use_sim_time", default_value="auto", description="follow /clock; auto: with a bag"),
            DeclareLaunchArgument("namespace", default_value="", description="namespace of the node"),
            # Large images and clouds are lost or late on Fast DDS' default transport.
            SetEnvironmentVariable("FASTDDS_DEFAULT_PROFILES_FILE", profile),
            SetEnvironmentVariable("FASTRTPS_DEFAULT_PROFILES_FILE", profile),
            OpaqueFunction(function=_processes),
            Node(
                package="rviz2",
                executable="rviz2",
                arguments=["-d", str(SHARE / "config" / "occupancy.rviz")],
                condition=IfCondition(LaunchConfiguration("rviz")),
            ),
        ]
    )


def _processes(context: LaunchContext) -> list[Node | ExecuteProcess]:
    """The node, and the replay where a bag is given; needs the arguments' values, so it runs when they are known."""
    names = ("config", "bundle", "calibration", "bag", "rate", "namespace", "use_sim_time")
    value = {name: LaunchConfiguration(name).perform(context) for name in names}
    if not value["calibration"] and value["bag"]:
        value["calibration"] = str(Path(value["bag"]) / "calibration.yaml")
    # As ParameterValue with its type: launch would read a folder called "08" as the number 8.
    given = {"bundle": value["bundle"], "calibration_file": value["calibration"]}
    texts = {name: ParameterValue(text, value_type=str) for name, text in given.items() if text}
    simulated = bool(value["bag"]) if value["use_sim_time"] == "auto" else value["use_sim_time"].lower() == "true"
    parameters = {**texts, "use_sim_time": simulated}
    node = Node(
        package="occle_ros",
        executable="occupancy_node",
        name="occupancy",
        namespace=value["namespace"],
        parameters=[str(_config(value["config"])), parameters],
        output="screen",
    )
    if not value["bag"]:
        return [node]
    # No launch_ros Node: it would append --ros-args. The replay waits until the node has loaded its network.
    player = [sys.executable, "-m", "occle_ros.cli", "play", value["bag"], "--rate", value["rate"]]
    return [node, ExecuteProcess(cmd=[*player, "--wait-for", "/lidar/points", "--wait-seconds", "60"], output="screen")]


def _config(name: str) -> Path:
    """A parameter file: a path that exists, or a file of share/occle_ros/config."""
    for candidate in (Path(name), SHARE / "config" / name, SHARE / "config" / f"{name}.yaml"):
        if candidate.is_file():
            return candidate
    known = ", ".join(sorted(file.name for file in (SHARE / "config").glob("*.yaml")))
    raise FileNotFoundError(f"launch argument config: there is no {name!r}; give a path or one of {known}")
