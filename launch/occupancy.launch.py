# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Start the occupancy node; with `bag:=` or `dataset:=` also a replay, with `rviz:=true` also RViz.

ros2 launch occle_ros occupancy.launch.py bag:=/path/to/bag
ros2 launch occle_ros occupancy.launch.py dataset:=/path/to/sequences/08 rviz:=true

For sensors of your own: robot.launch.py.
"""

from __future__ import annotations

from typing import Any

from launch.actions import DeclareLaunchArgument, ExecuteProcess, OpaqueFunction
from launch.substitutions import LaunchConfiguration

from launch import LaunchContext, LaunchDescription
from occle_ros.tools import launch_support as support

WAIT_SECONDS = "120"  # for the node to load its network; an engine that has to be built takes longer: build_only:=true first
ARGUMENTS = {
    "config": ("auto", "parameter file, or its name in share/occle_ros/config; auto: what fits the bag's or data set's cameras"),
    "bundle": ("", "folder of the trained network; empty: the config's"),
    "engine": ("", "what runs the network, see docs/reference/engines.md; empty: the config's"),
    "rig": ("", "rig.yaml of sensors of your own, live or of the bag; empty: the config's"),
    "calibration": ("", "calibration file or folder; empty: the bag's, the data set's, or the config's"),
    "bag": ("", "bag that is replayed"),
    "dataset": ("", "folder of a data set to replay, without conversion"),
    "kind": ("", "layout of the data set: semantickitti, kitti, kitti360, nuscenes or streets; empty: detected"),
    "scene": ("", "sequence of the data set; empty: the first"),
    "rate": ("1.0", "speed of the replay"),
    "loop": ("false", "true: the replay begins again at its end"),
    "rviz": ("false", "true: show voxels, points and image in RViz"),
    "use_sim_time": ("auto", "true: follow /clock; auto: when something is replayed"),
    "namespace": ("", "namespace of node, replay, /tf and /clock"),
    "enclave": ("", "SROS 2 enclave of the node"),
    "build_only": ("false", "true: build the engine, run it once, and end"),
}


def generate_launch_description() -> LaunchDescription:
    """Arguments and processes; `ros2 launch ... --show-args` lists the arguments."""
    declared = [DeclareLaunchArgument(name, default_value=value, description=text) for name, (value, text) in ARGUMENTS.items()]
    return LaunchDescription([*declared, OpaqueFunction(function=_processes)])


def _processes(context: LaunchContext) -> list[Any]:
    """The processes; needs the arguments' values, so it runs when they are known."""
    value = {name: LaunchConfiguration(name).perform(context) for name in ARGUMENTS}
    build_only, loop, with_rviz = (support.flag(value, name) for name in ("build_only", "loop", "rviz"))
    plan = support.plan(value)
    value["rig"], value["calibration"] = plan["rig"], plan["calibration"]
    replays = bool(plan["player"])
    follow = replays if value["use_sim_time"] == "auto" else support.flag(value, "use_sim_time")
    node = support.node(value, [plan["config"], {"use_sim_time": follow, "build_only": build_only}], own_clock=follow and replays)
    others: list[Any] = []
    if replays and not build_only:
        # Not a launch_ros Node, which would append --ros-args. The replay waits until the node has loaded its network.
        command = [support.occle(), *plan["player"], "--rate", value["rate"], *(["--loop"] if loop else [])]
        if value["namespace"].strip("/"):
            command += ["--namespace", value["namespace"]]
        wait = ["--wait-for", plan["points"], "--wait-seconds", WAIT_SECONDS]
        others.append(ExecuteProcess(cmd=[*command, *wait], output="screen", **support.GRACE))
    if with_rviz and not build_only:
        others.append(support.rviz(value, plan["layout"], plan["camera"], plan["grid_frame"], plan["points"], follow and replays))
    return support.together(node, others)
