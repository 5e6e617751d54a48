"""Start the occupancy node; with `bag:=` or `dataset:=` and `path:=` also a replay, with `rviz:=true` also RViz.

ros2 launch occle_ros occupancy.launch.py bag:=/path/to/bag
ros2 launch occle_ros occupancy.launch.py dataset:=semantickitti path:=/path/to/sequences/08 rviz:=true
"""

from __future__ import annotations

import sys
from pathlib import Path

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
from occle_ros.system.ros_process import use_shared_memory_profile
from occle_ros.tools.launch_arguments import Choices, choose

SHARE = Path(get_package_share_directory("occle_ros"))
WAIT_SECONDS = "120"  # for the node to load its network; an engine that has to be built takes longer: build_only:=true first
ARGUMENTS = {
    "config": ("auto", "parameter file, or its name in share/occle_ros/config; auto: what fits the bag's or data set's cameras"),
    "bundle": ("", "folder of the trained network; empty: the config's"),
    "engine": ("", "auto, native, torch, torch_graph, openvino, onnxruntime, tensorrt or tensorrt_rtx; empty: the config's"),
    "calibration": ("", "calibration file or folder; empty: the bag's, the data set's, or the config's"),
    "bag": ("", "bag that is replayed"),
    "dataset": ("", "kind of the data set at path: kitti, semantickitti, nuscenes or streets"),
    "path": ("", "folder of a data set that is replayed as it is, without conversion"),
    "scene": ("", "sequence of the data set; empty: the first"),
    "rate": ("1.0", "speed of the replay"),
    "loop": ("false", "true: the replay begins again at its end"),
    "rviz": ("false", "true: show voxels, points and image in RViz"),
    "use_sim_time": ("auto", "true: follow /clock; auto: when something is replayed"),
    "namespace": ("", "namespace of the node"),
    "build_only": ("false", "true: build the engine, run it once, and end"),
}


def generate_launch_description() -> LaunchDescription:
    """What `ros2 launch` runs; `--show-args` lists the arguments."""
    declared = [DeclareLaunchArgument(name, default_value=value, description=text) for name, (value, text) in ARGUMENTS.items()]
    return LaunchDescription([*declared, OpaqueFunction(function=_processes)])


def _processes(context: LaunchContext) -> list[Node | ExecuteProcess | RegisterEventHandler]:
    """The processes; needs the arguments' values, so it runs when they are known."""
    use_shared_memory_profile()  # RViz inherits it from this process; ours would set it themselves
    value = {name: LaunchConfiguration(name).perform(context) for name in ARGUMENTS}
    chosen = choose(value, SHARE)
    node = _node(value, chosen)
    # A replay without the node is of no use.
    actions = [node, RegisterEventHandler(OnProcessExit(target_action=node, on_exit=[EmitEvent(event=Shutdown())]))]
    if _true(value["build_only"]):
        return actions
    if chosen.player:
        # No launch_ros Node: it would append --ros-args. The replay waits until the node has loaded its network.
        player = [sys.executable, "-m", *chosen.player, "--rate", value["rate"], *(["--loop"] if _true(value["loop"]) else [])]
        actions.append(
            ExecuteProcess(cmd=[*player, "--wait-for", "/lidar/points", "--wait-seconds", WAIT_SECONDS], output="screen")
        )
    if _true(value["rviz"]):
        actions.append(_rviz(value["namespace"], chosen))
    return actions


def _node(value: dict[str, str], chosen: Choices) -> Node:
    given = {"bundle": value["bundle"], "engine": value["engine"], "calibration_file": chosen.calibration}
    # As ParameterValue with its type: launch would read a folder called "08" as the number 8.
    texts = {name: ParameterValue(text, value_type=str) for name, text in given.items() if text}
    follow = bool(chosen.player) if value["use_sim_time"] == "auto" else _true(value["use_sim_time"])
    return Node(
        package="occle_ros",
        executable="occupancy_node",
        name="occupancy",
        namespace=value["namespace"],
        parameters=[str(chosen.config), {**texts, "use_sim_time": follow, "build_only": _true(value["build_only"])}],
        output="screen",
    )


def _rviz(namespace: str, chosen: Choices) -> Node:
    frame = ["-f", chosen.grid_frame] if chosen.grid_frame else []
    prefix = f"/{namespace.strip('/')}" if namespace.strip("/") else ""
    topics = ("voxels", "markers", "occupancy_grid", f"overlay/{chosen.camera}")
    return Node(
        package="rviz2",
        executable="rviz2",
        arguments=["-d", str(SHARE / "config" / chosen.layout), *frame],
        remappings=[(f"/occupancy/{topic}", f"{prefix}/occupancy/{topic}") for topic in topics] if prefix else [],
    )


def _true(text: str) -> bool:
    return text.lower() in ("true", "1", "yes")
