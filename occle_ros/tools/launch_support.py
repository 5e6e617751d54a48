# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Actions of the launch files. Standard library and `launch` alone: `ros2 launch` may run in a Python without the node's packages.

What needs those packages (data sets, parameter files, bags) is asked of the `occle` executable, which starts with the node's own
Python: `occle launch-plan`.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from ament_index_python.packages import PackageNotFoundError, get_package_prefix, get_package_share_directory
from launch.actions import EmitEvent, ExecuteProcess, RegisterEventHandler
from launch.event_handlers import OnProcessExit
from launch.events import Shutdown
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue

T = TypeVar("T")
PACKAGE = "occle_ros"
GRACE = {"sigterm_timeout": "5", "sigkill_timeout": "5"}
"""Seconds that a process has to leave after SIGINT, then after SIGTERM."""


class LaunchError(ValueError):
    """A launch argument that cannot be used; the message names it and says what would be right."""


def share() -> Path:
    """share/occle_ros."""
    return Path(get_package_share_directory(PACKAGE))


def occle() -> str:
    """Path of the `occle` executable of this installation.

    Raises:
        LaunchError: it is not installed.
    """
    file = Path(get_package_prefix(PACKAGE)) / "lib" / PACKAGE / "occle"
    if not file.is_file():
        raise LaunchError(f"{file} is missing: build the workspace again (colcon build --packages-select {PACKAGE})")
    return str(file)


def flag(value: Mapping[str, str], name: str) -> bool:
    """A launch argument that is true or false.

    Raises:
        LaunchError: it is neither.
    """
    return choice(value, name, {"true": True, "false": False})


def choice(value: Mapping[str, str], name: str, meanings: Mapping[str, T]) -> T:
    """What a launch argument stands for.

    Raises:
        LaunchError: it is none of `meanings`.
    """
    text = value[name].strip().lower()
    if text not in meanings:
        raise LaunchError(f"launch argument {name}: must be {' or '.join(meanings)}, not {value[name]!r}")
    return meanings[text]


def names(text: str) -> list[str]:
    """Topics of a launch argument, separated by commas or spaces."""
    return text.replace(",", " ").split()


def read_rig(path: str) -> dict[str, str]:
    """points, camera, base_frame and odom_frame of a rig file, for RViz and nav2; the node checks the file itself.

    Raises:
        LaunchError: no such file, or it has no LiDAR.
    """
    file = next((file for file in (Path(path).expanduser(), share() / path) if file.is_file()), None)
    if file is None:
        raise LaunchError(f"launch argument rig: there is no file {path!r}; `occle rig BAG -o rig.yaml` drafts one")
    try:
        rig = yaml.safe_load(file.read_text("utf-8"))
        points = next(iter(rig["lidars"].values()))["topic"]
        odometry = (rig.get("odometry") or {}).get("frame", "odom")
        camera = next(iter(rig.get("cameras") or {}), "")
        return {"points": points, "camera": camera, "base_frame": rig.get("base_frame", "base_link"), "odom_frame": odometry}
    except (OSError, yaml.YAMLError, AttributeError, KeyError, TypeError, StopIteration) as error:
        raise LaunchError(f"launch argument rig: {file} is no rig file with a LiDAR; see docs/reference/rig.md") from error


def calibration_frame(path: str) -> str:
    """Frame that a calibration.yaml, or that of a folder, puts the voxels in: base_link where it names none; "" for other files."""
    places = [Path(path).expanduser(), share() / path]
    file = next((file for place in places for file in (place, place / "calibration.yaml") if file.is_file()), None)
    if file is None or file.suffix not in (".yaml", ".yml"):
        return ""
    try:
        content = yaml.safe_load(file.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError):  # the node says why
        return ""
    return str(content.get("grid_frame") or "base_link") if isinstance(content, dict) else ""


def plan(value: Mapping[str, str]) -> dict[str, Any]:
    """The parameter file, calibration and replay that the arguments ask for, see `occle_ros.tools.launch_arguments`.

    Raises:
        LaunchError: arguments that do not fit together, or name nothing.
    """
    done = subprocess.run(
        [occle(), "launch-plan", json.dumps(dict(value))], capture_output=True, text=True, check=False, env=_environment()
    )
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"`occle launch-plan` ended with exit code {done.returncode}"]
        raise LaunchError(lines[-1].removeprefix("error: "))
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def node(
    value: Mapping[str, str],
    parameters: Sequence[Any],
    remappings: Sequence[tuple[str, str]] = (),
    own_clock: bool = False,
) -> Node:
    """The occupancy node in its namespace.

    Args:
        value: launch arguments; namespace, bundle, engine, rig, calibration and enclave are read.
        parameters: parameter files and dictionaries, later ones win.
        remappings: of topics.
        own_clock: the namespace has a /clock of its own: that of its replay.
    """
    given = {name: value[name] for name in ("bundle", "engine", "rig")} | {"calibration_file": value["calibration"]}
    # As ParameterValue with its type: launch would read a folder called "08" as the number 8.
    texts = {name: ParameterValue(text, value_type=str) for name, text in given.items() if text}
    enclave = ["--ros-args", "--enclave", value["enclave"]] if value.get("enclave") else []
    return Node(
        package=PACKAGE,
        executable="occupancy_node",
        name="occupancy",
        namespace=value["namespace"],
        parameters=[*parameters, texts],
        remappings=[*remappings, *namespaced_tf(value["namespace"]), *(clock(value["namespace"]) if own_clock else [])],
        arguments=enclave,
        output="screen",
        **GRACE,
    )


def namespaced_tf(namespace: str) -> list[tuple[str, str]]:
    """A robot with a namespace has its own /tf and /tf_static there, as nav2 and others have it."""
    return [("/tf", "tf"), ("/tf_static", "tf_static")] if namespace.strip("/") else []


def clock(namespace: str) -> list[tuple[str, str]]:
    """A replay in a namespace has its own clock."""
    return [("/clock", f"/{namespace.strip('/')}/clock")] if namespace.strip("/") else []


def rviz(value: Mapping[str, str], layout: str, camera: str, fixed_frame: str, points: str, own_clock: bool = False) -> Node:
    """RViz with a layout of ours.

    Args:
        value: launch arguments; namespace is read.
        layout: file in share/occle_ros/config.
        camera: whose overlay is shown.
        fixed_frame: empty: that of the layout.
        points: topic of the LiDAR; relative: in the namespace.
        own_clock: as for `node`.

    Raises:
        LaunchError: RViz is not installed.
    """
    require("rviz2", "rviz:=true")
    prefix = f"/{value['namespace'].strip('/')}" if value["namespace"].strip("/") else ""
    file = share() / "config" / layout
    topics = {
        shown: topic if topic.startswith("/") else f"{prefix}/{topic}"
        for shown, topic in _robot_topics(file, camera, points).items()
    }
    remappings = [(shown, topic) for shown, topic in topics.items() if topic != shown]
    return Node(
        package="rviz2",
        executable="rviz2",
        arguments=["-d", str(file), *(["-f", fixed_frame] if fixed_frame else [])],
        remappings=[*remappings, *namespaced_tf(value["namespace"]), *(clock(value["namespace"]) if own_clock else [])],
        **GRACE,
    )


def _robot_topics(layout: Path, camera: str, points: str) -> dict[str, str]:
    """Topic of each display of a layout -> the robot's own; relative: in its namespace."""
    displays = yaml.safe_load(layout.read_text())["Visualization Manager"]["Displays"]
    shown = [display[name]["Value"] for display in displays for name in ("Topic", "Update Topic") if name in display]
    overlays = [topic for topic in shown if camera and topic.startswith("/occupancy/overlay/")]
    return (
        {topic: topic.lstrip("/") for topic in shown}
        | {topic: f"occupancy/overlay/{camera}" for topic in overlays}
        | {"/lidar/points": points}
    )


def require(package: str, asked_by: str) -> None:
    """Refuse an argument whose package is not installed, before anything starts.

    Raises:
        LaunchError: it is not installed.
    """
    try:
        get_package_prefix(package)
    except PackageNotFoundError as error:
        apt = f"ros-{os.environ.get('ROS_DISTRO', '$ROS_DISTRO')}-{package.replace('_', '-')}"
        raise LaunchError(f"launch argument {asked_by} needs the package {package}: sudo apt install {apt}") from error


def together(main: Node, others: Sequence[ExecuteProcess]) -> list[Any]:
    """The processes, of which none outlives the main one or another's failure."""
    actions: list[Any] = [main, RegisterEventHandler(OnProcessExit(target_action=main, on_exit=[EmitEvent(event=Shutdown())]))]
    for process in others:
        actions += [process, RegisterEventHandler(OnProcessExit(target_action=process, on_exit=_on_exit))]
    return actions


def _on_exit(event: Any, context: Any) -> list[Any]:
    """A replay that has come to its end leaves the node running; a process that failed ends everything."""
    if not event.returncode:
        return []
    return [EmitEvent(event=Shutdown(reason=f"{event.process_name} ended with exit code {event.returncode}"))]


def _environment() -> dict[str, str]:
    """Without PYTHONHOME and the like of the `ros2` command: `occle` starts with its own interpreter."""
    return {name: text for name, text in os.environ.items() if name not in ("PYTHONHOME", "PYTHONEXECUTABLE")}
