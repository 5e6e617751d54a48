# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""The launch file under the real launch and launch_ros, where they are installed: on every machine with a ROS installation."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from node_rig import lively_bundle
from ros_process import ROOT
from small_kitti import write_sequence

pytest.importorskip("launch.launch_service", reason="launch is not installed: it comes with a ROS installation, not as a wheel")
pytest.importorskip("launch_ros", reason="launch_ros is not installed: it comes with a ROS installation, not as a wheel")
pytestmark = [pytest.mark.ros, pytest.mark.timeout(120)]

RUN = """
import sys
from launch import LaunchDescription, LaunchService
from launch.actions import IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource
arguments = [word.split(":=", 1) for word in sys.argv[2:]]
service = LaunchService()
source = PythonLaunchDescriptionSource(sys.argv[1])
service.include_launch_description(LaunchDescription([IncludeLaunchDescription(source, launch_arguments=arguments)]))
sys.exit(service.run())
"""


@pytest.fixture
def launch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ros_domain: int, start: Callable[..., Any]) -> Callable[..., Any]:
    """launch("name:=value", ...) -> Process; the package as colcon would have installed it."""
    prefix = tmp_path / "prefix"
    for folder in ("share/ament_index/resource_index/packages", "share/occle_ros", "lib/occle_ros"):
        (prefix / folder).mkdir(parents=True)
    (prefix / "share/ament_index/resource_index/packages/occle_ros").touch()
    for name in ("config", "launch", "package.xml"):
        (prefix / "share/occle_ros" / name).symlink_to(ROOT / name)
    for name, entry in (("occupancy_node", "occupancy_node"), ("occle", "main")):
        executable = prefix / "lib/occle_ros" / name
        executable.write_text(f"#!{sys.executable}\nimport sys\nfrom occle_ros.cli import {entry}\nsys.exit({entry}())\n")
        executable.chmod(0o755)
    prefixes = filter(None, [str(prefix), os.environ.get("AMENT_PREFIX_PATH")])
    monkeypatch.setenv("AMENT_PREFIX_PATH", os.pathsep.join(prefixes))
    monkeypatch.setenv("ROS_LOG_DIR", str(tmp_path / "log"))
    folder = prefix / "share/occle_ros/launch"
    return lambda *words, name="occupancy": start("-c", RUN, folder / f"{name}.launch.py", *words, seconds=100.0, grace=15.0)


def test_a_data_set_is_replayed_through_the_node(launch: Callable[..., Any], tmp_path: Path) -> None:
    bundle, data = lively_bundle(tmp_path / "07"), write_sequence(tmp_path / "data", 3)
    words = (f"dataset:={data}", f"bundle:={bundle}", "engine:=torch", "namespace:=robot", "rate:=0.5")
    process = launch(*words)
    process.wait_for("ready: bundle minkocc-tiny-kitti", 60)
    process.wait_for("played: ", 60)  # 9 messages, and TF where tf2_msgs is installed
    process.interrupt()
    assert process.result(20) == 0, process.output
    assert "      3  /lidar/points" in process.output
    assert "waiting for /robot/lidar/points" in process.output
    assert "Traceback" not in process.output


def test_launch_testing_passes(launch: Callable[..., Any], tmp_path: Path, start: Callable[..., Any]) -> None:
    pytest.importorskip("launch_testing", reason="launch_testing is not installed: it comes with a ROS installation")
    words = f"bundle:={lively_bundle(tmp_path / 'bundle')}", f"dataset:={write_sequence(tmp_path / 'data', 3)}"
    file = Path(__file__).with_name("launched_occupancy.py")
    done = start("-m", "launch_testing.launch_test", file, *words, seconds=100.0)
    assert done.result(100) == 0 and "Ran 1 test" in done.output, done.output


def test_two_robots_do_not_hear_each_other(launch: Callable[..., Any], tmp_path: Path) -> None:
    """Two replays in namespaces of their own: each node sees the three scans of its own, and one clock."""
    data = write_sequence(tmp_path / "data", 3)
    robots = {}
    for name in ("red", "blue"):
        bundle = lively_bundle(tmp_path / name / "bundle")
        words = (f"dataset:={data}", f"bundle:={bundle}", "engine:=torch", f"namespace:={name}", "rate:=0.5")
        report = tmp_path / f"{name}.json"
        config = tmp_path / f"{name}.yaml"
        config.write_text((ROOT / "config/kitti.yaml").read_text().replace('report_file: ""', f'report_file: "{report}"'))
        robots[name] = launch(*words, f"config:={config}"), report
    for process, _ in robots.values():
        process.wait_for("played: ", 80)
    for process, report in robots.values():
        process.interrupt()
        assert process.result(20) == 0, process.output
        counts = json.loads(report.read_text())["counts"]
        assert counts["received"]["scans"] == 3, counts
        assert "Traceback" not in process.output


def test_ones_own_robot_brings_out_voxels(launch: Callable[..., Any], tmp_path: Path) -> None:
    """robot.launch.py on topics of other names, calibrated by a file, fed by the player."""
    data = write_sequence(tmp_path / "data", 3)
    bundle = lively_bundle(tmp_path / "bundle")
    report = tmp_path / "report.json"
    params = tmp_path / "robot.yaml"
    text = (ROOT / "config/robot.yaml").read_text().replace('report_file: ""', f'report_file: "{report}"')
    params.write_text(text.replace("camera_names: ['']", "camera_names: [cam2]"))
    words = (f"bundle:={bundle}", "engine:=torch", f"calibration:={data}#08", f"params:={params}", "base_frame:=velodyne")
    process = launch(*words, "points:=/lidar/points", "use_sim_time:=false", name="robot")
    process.wait_for(", waiting for /lidar/points", 60)
    player = subprocess.run(
        [sys.executable, "-m", "occle_ros.cli", "play", data, "--scene", "08", "--clock", "0", "--wait-for", "/lidar/points"],
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert player.returncode == 0, player.stderr
    process.interrupt()
    assert process.result(20) == 0, process.output
    content = json.loads(report.read_text())
    assert len(content["latency_ms"]) == 3 and content["counts"]["received"]["scans"] == 3, content


def test_a_replay_that_fails_leaves_nothing_running(launch: Callable[..., Any], tmp_path: Path) -> None:
    """The player dies of a damaged bag; the node is ended, and the launch too."""
    bag = tmp_path / "bag"
    bag.mkdir()
    (bag / "bag.mcap").write_bytes(b"not a bag")
    data = write_sequence(tmp_path / "data", 1)
    process = launch(f"bag:={bag}", f"bundle:={lively_bundle(tmp_path / 'bundle')}", "engine:=torch", f"calibration:={data}#08")
    process.result(80)
    assert re.search(r"\[occle-\d\]: process has died .*exit code 1", process.output), process.output
    assert re.search(r"\[occupancy_node-\d\]: process has finished cleanly", process.output), process.output


def test_build_only_ends_by_itself(launch: Callable[..., Any], tmp_path: Path) -> None:
    data = write_sequence(tmp_path / "data", 1)
    bundle = lively_bundle(tmp_path / "bundle")
    process = launch("build_only:=true", f"bundle:={bundle}", "engine:=torch", f"calibration:={data}#08")
    assert process.result(60) == 0, process.output
    assert "engine built; exiting" in process.output


def test_the_engine_of_a_robot_is_built_without_calibration_and_tf(launch: Callable[..., Any], tmp_path: Path) -> None:
    """The last step of the installation, on a machine without sensors."""
    bundle = lively_bundle(tmp_path / "bundle")
    process = launch("build_only:=true", f"bundle:={bundle}", "engine:=torch", name="robot")
    assert process.result(60) == 0, process.output
    assert "engine built; exiting" in process.output


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("kind:=kitti", "add dataset:=FOLDER"),
        ("bag:=/nowhere", "there is no bag at /nowhere"),
        ("rate:=fast", "rate: must be a positive number"),
        ("use_sim_time:=perhaps", "use_sim_time: must be true or false"),
        ("rviz:=true", "rviz:=true needs the package rviz2"),
    ],
)
def test_wrong_arguments_end_with_their_explanation(launch: Callable[..., Any], word: str, message: str) -> None:
    process = launch(word)
    assert process.result(60) != 0
    assert message in process.output and "process started" not in process.output
