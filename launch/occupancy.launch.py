"""Launch file of the occupancy node, with a replay (`bag:=` or `dataset:=`) and RViz (`rviz:=true`) if requested.

ros2 launch occle_ros occupancy.launch.py bag:=/path/to/bag
ros2 launch occle_ros occupancy.launch.py dataset:=/path/to/sequences/08 rviz:=true
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import get_args

from ament_index_python.packages import get_package_share_directory
from launch.actions import (
    DeclareLaunchArgument,
    EmitEvent,
    ExecuteProcess,
    OpaqueFunction,
    RegisterEventHandler,
)
from launch.event_handlers import OnProcessExit
from launch.events import Shutdown
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue

from launch import LaunchContext, LaunchDescription
from occle_ros.config.names import DatasetKind, EngineName
from occle_ros.system.ros_process import use_shared_memory_profile
from occle_ros.tools.launch_arguments import LaunchPlan, plan_launch

SHARE = Path(get_package_share_directory("occle_ros"))
WAIT_SECONDS = "120"  # for the node to load its network; build the engine first with build_only:=true if that takes longer
ARGUMENTS = {
    "config": (
        "auto",
        "parameter file, or its name in share/occle_ros/config; auto: the preset for the cameras of the bag or data set",
    ),
    "bundle": ("", "folder of the trained network; empty: that of config"),
    "engine": ("", f"inference engine: {', '.join(get_args(EngineName))}; empty: that of config"),
    "calibration": ("", "calibration file or folder; empty: that of the bag, the data set, or config"),
    "bag": ("", "bag to replay"),
    "dataset": ("", "folder of a data set to replay, without conversion"),
    "kind": ("", f"layout of the data set: {', '.join(get_args(DatasetKind))}; empty: detected"),
    "scene": ("", "sequence of the data set; empty: the first"),
    "rate": ("1.0", "speed of the replay"),
    "loop": ("false", "true: start the replay again at its end"),
    "rviz": ("false", "true: show voxels, points and image in RViz"),
    "use_sim_time": ("auto", "true: use /clock; auto: true for a replay"),
    "namespace": ("", "namespace of the node"),
    "build_only": ("false", "true: build the engine, run it once and exit"),
}


def generate_launch_description() -> LaunchDescription:
    """Launch description; `ros2 launch --show-args` lists the arguments."""
    declared = [DeclareLaunchArgument(name, default_value=value, description=text) for name, (value, text) in ARGUMENTS.items()]
    return LaunchDescription([*declared, OpaqueFunction(function=_processes)])


def _processes(context: LaunchContext) -> list[Node | ExecuteProcess | RegisterEventHandler]:
    """Processes of the launch plan."""
    use_shared_memory_profile()  # inherited by RViz; our own processes set it themselves
    value = {name: LaunchConfiguration(name).perform(context) for name in ARGUMENTS}
    plan = plan_launch(value, SHARE)
    node = _node(value, plan)
    # Without the node the replay ends as well.
    actions = [node, RegisterEventHandler(OnProcessExit(target_action=node, on_exit=[EmitEvent(event=Shutdown())]))]
    if _true(value["build_only"]):
        return actions
    if plan.player:
        # No launch_ros Node: it would append --ros-args. The replay waits until the node has loaded its network.
        player = [sys.executable, "-m", *plan.player, "--rate", value["rate"], *(["--loop"] if _true(value["loop"]) else [])]
        actions.append(
            ExecuteProcess(cmd=[*player, "--wait-for", "/lidar/points", "--wait-seconds", WAIT_SECONDS], output="screen")
        )
    if _true(value["rviz"]):
        actions.append(_rviz(value["namespace"], plan))
    return actions


def _node(value: dict[str, str], plan: LaunchPlan) -> Node:
    given = {"bundle": value["bundle"], "engine": value["engine"], "calibration_file": plan.calibration}
    # As ParameterValue with its type: launch would read a folder called "08" as the number 8.
    texts = {name: ParameterValue(text, value_type=str) for name, text in given.items() if text}
    follow = bool(plan.player) if value["use_sim_time"] == "auto" else _true(value["use_sim_time"])
    return Node(
        package="occle_ros",
        executable="occupancy_node",
        name="occupancy",
        namespace=value["namespace"],
        parameters=[str(plan.config), {**texts, "use_sim_time": follow, "build_only": _true(value["build_only"])}],
        output="screen",
    )


def _rviz(namespace: str, plan: LaunchPlan) -> Node:
    frame = ["-f", plan.grid_frame] if plan.grid_frame else []
    prefix = f"/{namespace.strip('/')}" if namespace.strip("/") else ""
    topics = ("voxels", "markers", "occupancy_grid", f"overlay/{plan.camera}")
    return Node(
        package="rviz2",
        executable="rviz2",
        arguments=["-d", str(SHARE / "config" / plan.layout), *frame],
        remappings=[(f"/occupancy/{topic}", f"{prefix}/occupancy/{topic}") for topic in topics] if prefix else [],
    )


def _true(text: str) -> bool:
    return text.lower() in ("true", "1", "yes")
