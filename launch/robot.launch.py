# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Occupancy from the sensors of your own robot.

ros2 launch occle_ros robot.launch.py points:=/ouster/points image:=/camera/image_raw base_frame:=base_link
ros2 launch occle_ros robot.launch.py points:=/points image:=/front/image/compressed,/rear/image/compressed
ros2 launch occle_ros robot.launch.py rig:=rig.yaml

Poses of LiDAR and cameras come from TF unless `rig:=`, `calibration:=` or `params:=` gives them. `occle doctor` checks the inputs.
"""

from __future__ import annotations

from typing import Any

from launch.actions import DeclareLaunchArgument, OpaqueFunction
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

from launch import LaunchContext, LaunchDescription
from occle_ros.tools import launch_support as support

ARGUMENTS = {
    "rig": ("", "rig.yaml with sensors and frames, in place of points, image, camera_info, base_frame and odom_frame"),
    "points": ("", "PointCloud2 topic of the LiDAR; empty: that of params (points)"),
    "image": (
        "",
        "Image or CompressedImage topics (those end in compressed), separated by commas; empty: those of params, or LiDAR alone",
    ),
    "camera_info": ("", "CameraInfo topics in the images' order; empty: camera_info beside each image topic"),
    "base_frame": (
        "",
        "frame that the voxels are published in, fixed to the robot; empty: the calibration file's, or that of params (base_link)",
    ),
    "odom_frame": (
        "",
        "continuous frame of the robot's motion (REP 105), for the map and networks that look back; empty: that of params (odom)",
    ),
    "params": ("", "parameter file of the node; empty: config/robot.yaml"),
    "bundle": ("", "folder of the trained network; empty: the parameter file's"),
    "engine": ("", "what runs the network, see docs/reference/engines.md; empty: the parameter file's"),
    "calibration": ("", "calibration file with the sensors' poses; empty: TF"),
    "namespace": ("", "namespace of the node; relative topics and /tf lie in it"),
    "nav2": ("false", "true: also a nav2 costmap of single frames; map: of the rolling map (config/nav2)"),
    "rviz": ("false", "true: show voxels, points and image in RViz"),
    "use_sim_time": ("false", "true: follow /clock"),
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
    build_only, with_rviz, follow = (support.flag(value, name) for name in ("build_only", "rviz", "use_sim_time"))
    costmap = support.choice(value, "nav2", {"false": "", "true": "frame_costmap.yaml", "map": "map_costmap.yaml"})
    rig = support.read_rig(value["rig"]) if value["rig"] else None
    cameras = {} if rig else _cameras(value)
    parameters: dict[str, Any] = {"use_sim_time": follow, "build_only": build_only}
    grid_frame = value["base_frame"] or (support.calibration_frame(value["calibration"]) if value["calibration"] else "")
    if not rig:
        given = {"lidar.topic": value["points"] and "points", "tf.grid_frame": grid_frame, "tf.world_frame": value["odom_frame"]}
        parameters |= {name: text for name, text in given.items() if text}
    if cameras:
        parameters["camera_names"] = list(cameras)
    remappings = [("points", value["points"])] if not rig and value["points"] not in ("", "points") else []
    defaults = {"points": "points", "base_frame": "base_link", "odom_frame": "odom"}
    value |= rig or {name: value[name] or text for name, text in defaults.items()}
    grid_frame = value["base_frame"] if rig else grid_frame or value["base_frame"]
    for name, (image, info) in cameras.items():
        parameters |= {
            f"cameras.{name}.topic": f"{name}/image",
            f"cameras.{name}.info_topic": f"{name}/camera_info",
            f"cameras.{name}.compressed": image.endswith("compressed"),
        }
        remappings += [(f"{name}/image", image), (f"{name}/camera_info", info)]
    file = value["params"] or str(support.share() / "config" / "robot.yaml")
    node = support.node(value, [file, parameters], remappings)
    others: list[Any] = []
    if costmap and not build_only:
        others += _costmap(value, follow, costmap)
    if with_rviz and not build_only:
        others.append(
            support.rviz(value, "occupancy.rviz", rig["camera"] if rig else next(iter(cameras), ""), grid_frame, value["points"])
        )
    return support.together(node, others)


def _cameras(value: dict[str, str]) -> dict[str, tuple[str, str]]:
    """Camera -> (image topic, CameraInfo topic)."""
    images, infos = support.names(value["image"]), support.names(value["camera_info"])
    if infos and len(infos) != len(images):
        raise support.LaunchError(f"launch argument camera_info: {len(infos)} topics for {len(images)} image topics")
    # As image_transport and image_pipeline have it: .../image_raw/compressed belongs to .../camera_info.
    beside = [image.removesuffix("/compressed").rpartition("/")[0] + "/camera_info" for image in images]
    return {f"camera_{number}": pair for number, pair in enumerate(zip(images, infos or beside))}


def _costmap(value: dict[str, str], follow: bool, file: str) -> list[Any]:
    """A rolling costmap of nav2 with a parameter file of config/nav2, and the manager that brings it up."""
    for package in ("nav2_costmap_2d", "nav2_lifecycle_manager"):
        support.require(package, f"nav2:={value['nav2']}")
    common: dict[str, Any] = {"namespace": value["namespace"], "output": "screen", **support.GRACE}
    tf = support.namespaced_tf(value["namespace"])
    frames = {"use_sim_time": follow, "global_frame": value["odom_frame"], "robot_base_frame": value["base_frame"]}
    manager = {"use_sim_time": follow, "autostart": True, "node_names": ["costmap"], "bond_timeout": 0.0}
    return [
        Node(
            package="nav2_costmap_2d",
            executable="nav2_costmap_2d",
            parameters=[str(support.share() / "config" / "nav2" / file), frames],
            remappings=[("points", value["points"]), *tf],
            **common,
        ),
        Node(
            package="nav2_lifecycle_manager",
            executable="lifecycle_manager",
            name="lifecycle_manager_costmap",
            parameters=[manager],
            **common,
        ),
    ]
