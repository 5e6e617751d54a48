"""The launch file. Where `launch` is not installed, its classes are replaced by ones that keep their arguments."""

from __future__ import annotations

import importlib.util
import json
import sys
import types
from pathlib import Path
from typing import Any

import pytest
import yaml
from small_kitti import write_sequence

from occle_core.datasets import DatasetError
from occle_ros.config.groups import ConfigError
from occle_ros.config.node_config import NodeConfig
from occle_ros.config.presets import PRESETS
from occle_ros.topics.outputs import published, subscribed

ROOT = Path(__file__).resolve().parents[2]
ARGUMENTS = {
    "config", "bundle", "engine", "calibration", "bag", "dataset", "kind", "scene", "rate", "loop", "rviz", "use_sim_time",
    "namespace", "build_only",
}  # fmt: skip


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

    names = ("DeclareLaunchArgument", "EmitEvent", "ExecuteProcess", "OpaqueFunction", "RegisterEventHandler")
    module("launch", LaunchContext=dict, LaunchDescription=list)
    module("launch.actions", **{name: type(name, (Kept,), {}) for name in names})
    module("launch.event_handlers", OnProcessExit=type("OnProcessExit", (Kept,), {}))
    module("launch.events", Shutdown=type("Shutdown", (Kept,), {}))
    module("launch.substitutions", LaunchConfiguration=Configuration)
    module("launch_ros")
    module("launch_ros.actions", Node=type("Node", (Kept,), {}))
    module("launch_ros.parameter_descriptions", ParameterValue=Kept)
    module("ament_index_python")
    module("ament_index_python.packages", get_package_share_directory=lambda name: str(ROOT))
    monkeypatch.setenv("FASTDDS_DEFAULT_PROFILES_FILE", "the user's")
    specification = importlib.util.spec_from_file_location("occupancy_launch", ROOT / "launch" / "occupancy.launch.py")
    assert specification and specification.loader
    loaded = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(loaded)
    return loaded


def processes(launch_file: Any, **given: str) -> list[Any]:
    """The node, and what is started with it."""
    context = {entry.args[0]: entry.kwargs["default_value"] for entry in declared(launch_file)} | given
    node, ending, *others = launch_file._processes(context)
    # When the node ends, everything does.
    assert type(ending).__name__ == "RegisterEventHandler"
    assert ending.args[0].kwargs["target_action"] is node
    return [node, *others]


def declared(launch_file: Any) -> list[Any]:
    return [entry for entry in launch_file.generate_launch_description() if type(entry).__name__ == "DeclareLaunchArgument"]


@pytest.fixture
def kitti(tmp_path: Path) -> Path:
    """The root of a SemanticKITTI with one sequence."""
    return write_sequence(tmp_path, 2)


def test_every_argument_is_described(launch_file: Any) -> None:
    entries = declared(launch_file)
    assert {entry.args[0] for entry in entries} == ARGUMENTS
    assert all(entry.kwargs["description"] and isinstance(entry.kwargs["default_value"], str) for entry in entries)


def test_the_node_alone(launch_file: Any) -> None:
    (node,) = processes(launch_file)
    assert node.kwargs["executable"] == "occupancy_node"
    file, parameters = node.kwargs["parameters"]
    assert file == str(ROOT / "config" / "kitti.yaml")
    assert parameters == {"use_sim_time": False, "build_only": False}


def test_with_a_bag_its_calibration_is_used_and_it_is_played(launch_file: Any, tmp_path: Path) -> None:
    bag = tmp_path / "08"
    bag.mkdir()
    (bag / "calibration.yaml").write_text("grid_frame: base_link\ncameras: {CAM_FRONT: {}, CAM_BACK: {}}\n")
    node, player, rviz = processes(launch_file, bag=str(bag), rate="0.5", loop="true", bundle="08", engine="torch", rviz="true")
    file, parameters = node.kwargs["parameters"]
    assert file == str(ROOT / "config" / "nuscenes.yaml")  # by the bag's cameras
    assert parameters["calibration_file"].args == (str(bag / "calibration.yaml"),)
    # As a string: launch would read the folder's name as a number.
    assert (parameters["bundle"].args, parameters["bundle"].kwargs) == (("08",), {"value_type": str})
    assert parameters["engine"].args == ("torch",)
    assert parameters["use_sim_time"] is True
    assert player.kwargs["cmd"][1:8] == ["-m", "occle_ros.cli", "play", str(bag), "--rate", "0.5", "--loop"]
    assert rviz.kwargs["arguments"] == ["-d", str(ROOT / "config" / "nuscenes.rviz"), "-f", "base_link"]
    assert not rviz.kwargs["remappings"]


def test_a_data_set_is_played_as_it_is(launch_file: Any, kitti: Path) -> None:
    node, player, rviz = processes(launch_file, dataset=str(kitti), kind="semantickitti", rviz="true", namespace="robot")
    file, parameters = node.kwargs["parameters"]
    assert file == str(ROOT / "config" / "kitti.yaml")
    assert parameters["calibration_file"].args == (f"{kitti}#08",)
    assert node.kwargs["namespace"] == "robot"
    expected = ["--kind", "semantickitti", "--scene", "08", "--raw", "--rate", "1.0"]
    assert player.kwargs["cmd"][1:12] == ["-m", "occle_ros.cli", "play", str(kitti), *expected]
    assert ("/occupancy/overlay/cam2", "/robot/occupancy/overlay/cam2") in rviz.kwargs["remappings"]


def test_build_only_starts_the_node_alone(launch_file: Any, kitti: Path) -> None:
    (node,) = processes(launch_file, dataset=str(kitti), build_only="true")
    assert node.kwargs["parameters"][1]["build_only"] is True


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ({"config": "lyft"}, ConfigError, r"kitti\.yaml, nuscenes\.yaml"),
        ({"kind": "kitti"}, ConfigError, "add dataset:=FOLDER"),
        ({"scene": "08", "bag": "/bag"}, ConfigError, "add dataset:=FOLDER"),
        ({"dataset": "/data", "bag": "/bag"}, ConfigError, "give only one of them"),
        ({"dataset": "/data", "kind": "lyft"}, ConfigError, "no kind 'lyft'; known: semantickitti"),
        ({"dataset": "/nowhere/at/all", "kind": "kitti"}, DatasetError, "does not exist"),
    ],
)
def test_what_does_not_fit_is_explained(launch_file: Any, given: dict[str, str], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        processes(launch_file, **given)


def test_executables_and_files_are_installed() -> None:
    setup = (ROOT / "setup.py").read_text()
    assert "occupancy_node = occle_ros.cli:occupancy_node" in setup
    assert "occle = occle_ros.cli:main" in setup


@pytest.mark.parametrize(
    ("file", "preset", "frame"), [("occupancy.rviz", "kitti", "velodyne"), ("nuscenes.rviz", "nuscenes", "base_link")]
)
def test_rviz_shows_the_topics_of_the_node(file: str, preset: str, frame: str) -> None:
    manager = yaml.safe_load((ROOT / "config" / file).read_text())["Visualization Manager"]
    assert manager["Global Options"]["Fixed Frame"] == frame
    shown = {display["Topic"]["Value"]: display["Topic"] for display in manager["Displays"] if "Topic" in display}
    known = topics_of(PRESETS[preset])
    assert set(shown) <= set(known)
    assert {"/occupancy/markers", "/lidar/points", f"/occupancy/overlay/{PRESETS[preset].camera_names[0]}"} <= set(shown)
    for topic, display in shown.items():
        assert (display["Durability Policy"] == "Transient Local") == known[topic]


def test_foxglove_shows_the_topics_of_the_node() -> None:
    layout = json.loads((ROOT / "config" / "foxglove_layout.json").read_text())
    panels = layout["configById"]
    known = set(topics_of(PRESETS["kitti"]))
    assert set(panels["3D!occupancy"]["topics"]) <= known
    assert panels["3D!occupancy"]["followTf"] == "velodyne"
    assert panels["Image!overlay"]["imageMode"]["imageTopic"] in known
    assert {path["value"].removesuffix(".data") for path in panels["Plot!latency"]["paths"]} <= known
    assert set(leaves(layout["layout"])) == set(panels)


def leaves(layout: Any) -> list[str]:
    return [layout] if isinstance(layout, str) else leaves(layout["first"]) + leaves(layout["second"])


def topics_of(config: NodeConfig) -> dict[str, bool]:
    """Topic -> whether it is latched, of a node called /occupancy."""
    topics = [*subscribed(config), *published(config, ("wait", "publish"))]
    return {topic.name.replace("~", "/occupancy"): topic.latched for topic in topics}
