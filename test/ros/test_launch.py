"""The launch file. Where `launch` is not installed, its classes are replaced by ones that keep their arguments."""

from __future__ import annotations

import importlib.util
import sys
import types
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
ARGUMENTS = {"config", "bundle", "calibration", "bag", "rate", "rviz", "use_sim_time", "namespace"}


class Kept:
    """Keeps what it was made with."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.args, self.kwargs = args, kwargs


class Configuration(Kept):
    """LaunchConfiguration over a plain dict as context."""

    def perform(self, context: dict[str, str]) -> str:
        return context[self.args[0]]


@pytest.fixture
def launch_file(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The launch file as a module, with stand-ins for launch, launch_ros and the package index."""

    def module(name: str, **members: Any) -> None:
        fake = types.ModuleType(name)
        fake.__dict__.update(members)
        monkeypatch.setitem(sys.modules, name, fake)

    names = ("DeclareLaunchArgument", "ExecuteProcess", "OpaqueFunction", "SetEnvironmentVariable")
    actions = {name: type(name, (Kept,), {}) for name in names}
    module("launch", LaunchContext=dict, LaunchDescription=list)
    module("launch.actions", **actions)
    module("launch.conditions", IfCondition=Kept)
    module("launch.substitutions", LaunchConfiguration=Configuration)
    module("launch_ros")
    module("launch_ros.actions", Node=type("Node", (Kept,), {}))
    module("launch_ros.parameter_descriptions", ParameterValue=Kept)
    module("ament_index_python")
    module("ament_index_python.packages", get_package_share_directory=lambda name: str(ROOT))
    specification = importlib.util.spec_from_file_location("occupancy_launch", ROOT / "launch" / "occupancy.launch.py")
    assert specification and specification.loader
    loaded = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(loaded)
    return loaded


def processes(launch_file: Any, **given: str) -> list[Any]:
    context = {entry.args[0]: entry.kwargs["default_value"] for entry in declared(launch_file)} | given
    return launch_file._processes(context)


def declared(launch_file: Any) -> list[Any]:
    return [entry for entry in launch_file.generate_launch_description() if type(entry).__name__ == "DeclareLaunchArgument"]


def test_every_argument_is_described(launch_file: Any) -> None:
    entries = declared(launch_file)
    assert {entry.args[0] for entry in entries} == ARGUMENTS
    assert all(entry.kwargs["description"] and isinstance(entry.kwargs["default_value"], str) for entry in entries)


def test_the_node_alone(launch_file: Any) -> None:
    (node,) = processes(launch_file)
    assert node.kwargs["executable"] == "occupancy_node"
    file, parameters = node.kwargs["parameters"]
    assert file == str(ROOT / "config" / "kitti.yaml")
    assert parameters == {"use_sim_time": False}


def test_with_a_bag_its_calibration_is_used_and_it_is_played(launch_file: Any) -> None:
    node, player = processes(launch_file, bag="/data/08", rate="0.5", config="nuscenes", bundle="08")
    file, parameters = node.kwargs["parameters"]
    assert file == str(ROOT / "config" / "nuscenes.yaml")
    assert parameters["calibration_file"].args == ("/data/08/calibration.yaml",)
    # As a string: launch would read the folder's name as a number.
    assert (parameters["bundle"].args, parameters["bundle"].kwargs) == (("08",), {"value_type": str})
    assert parameters["use_sim_time"] is True
    assert player.kwargs["cmd"][1:7] == ["-m", "occle_ros.cli", "play", "/data/08", "--rate", "0.5"]


def test_a_config_that_is_nowhere(launch_file: Any) -> None:
    with pytest.raises(FileNotFoundError, match=r"kitti\.yaml, nuscenes\.yaml"):
        processes(launch_file, config="lyft")


def test_executables_and_files_are_installed() -> None:
    setup = (ROOT / "setup.py").read_text()
    assert "occupancy_node = occle_ros.node:main" in setup
    assert "occle = occle_ros.cli:main" in setup


def test_rviz_shows_the_topics_of_the_node() -> None:
    displays = yaml.safe_load((ROOT / "config" / "occupancy.rviz").read_text())["Visualization Manager"]["Displays"]
    shown = [display for display in displays if "Topic" in display and display["Enabled"]]
    topics = {display["Class"].split("/")[1]: display["Topic"]["Value"] for display in shown}
    assert topics == {"MarkerArray": "/occupancy/markers", "PointCloud2": "/lidar/points", "Image": "/cam2/image"}
    assert "TF" in {display["Class"].split("/")[1] for display in displays}
