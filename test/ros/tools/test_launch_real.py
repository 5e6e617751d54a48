"""The launch file under the real launch and launch_ros, where they are installed: on every machine with a ROS installation."""

from __future__ import annotations

import os
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
    executable = prefix / "lib/occle_ros/occupancy_node"
    executable.write_text(f"#!{sys.executable}\nimport sys\nfrom occle_ros.node.process import main\nsys.exit(main(sys.argv))\n")
    executable.chmod(0o755)
    prefixes = filter(None, [str(prefix), os.environ.get("AMENT_PREFIX_PATH")])
    monkeypatch.setenv("AMENT_PREFIX_PATH", os.pathsep.join(prefixes))
    monkeypatch.setenv("ROS_LOG_DIR", str(tmp_path / "log"))
    file = prefix / "share/occle_ros/launch/occupancy.launch.py"
    return lambda *words: start("-c", RUN, file, *words, seconds=100.0, grace=15.0)


def test_a_data_set_is_replayed_through_the_node(launch: Callable[..., Any], tmp_path: Path) -> None:
    bundle, data = lively_bundle(tmp_path / "07"), write_sequence(tmp_path / "data", 3)
    words = (f"dataset:={data}", f"bundle:={bundle}", "engine:=torch", "namespace:=robot", "rate:=0.5")
    process = launch(*words)
    process.wait_for("ready: bundle minkocc-tiny-kitti", 60)
    process.wait_for("played: 9 messages", 60)
    process.interrupt()
    assert process.result(20) == 0, process.output
    assert "      3  /lidar/points" in process.output
    assert "Traceback" not in process.output


def test_build_only_ends_by_itself(launch: Callable[..., Any], tmp_path: Path) -> None:
    data = write_sequence(tmp_path / "data", 1)
    bundle = lively_bundle(tmp_path / "bundle")
    process = launch("build_only:=true", f"bundle:={bundle}", "engine:=torch", f"calibration:={data}#08")
    assert process.result(60) == 0, process.output
    assert "engine built; exiting" in process.output


def test_wrong_arguments_end_with_their_explanation(launch: Callable[..., Any]) -> None:
    process = launch("kind:=kitti")
    assert process.result(60) != 0
    assert "add dataset:=FOLDER" in process.output
