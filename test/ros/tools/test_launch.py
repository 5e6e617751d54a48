# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""The launch file. Where `launch` is not installed, its classes are replaced by ones that keep their arguments."""

from __future__ import annotations

import ast
import sys
import types
from pathlib import Path
from typing import Any

import pytest
from fake_launch import load_launch_files
from small_kitti import write_sequence

from occle_ros.config.loading import config_from_parameters
from occle_ros.config.parameter_files import read_parameters

ROOT = Path(__file__).resolve().parents[3]
ARGUMENTS = {
    "occupancy": {
        "config", "bundle", "engine", "rig", "calibration", "bag", "dataset", "kind", "scene", "rate", "loop", "rviz",
        "use_sim_time", "namespace", "enclave", "build_only",
    },
    "robot": {
        "rig", "points", "image", "camera_info", "base_frame", "odom_frame", "params", "bundle", "engine", "calibration",
        "namespace", "nav2", "rviz", "use_sim_time", "enclave", "build_only",
    },
}  # fmt: skip


@pytest.fixture
def launch_files(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, Any]:
    """The launch files as modules, over stand-ins."""
    return load_launch_files(tuple(ARGUMENTS), monkeypatch, tmp_path / "prefix")


@pytest.fixture
def launch_file(launch_files: dict[str, Any]) -> Any:
    """occupancy.launch.py."""
    return launch_files["occupancy"]


def processes(launch_file: Any, **given: str) -> list[Any]:
    """The node, and what is started with it; each has its handler that ends the others."""
    context = {entry.args[0]: entry.kwargs["default_value"] for entry in declared(launch_file)} | given
    actions = launch_file._processes(context)
    started, handlers = actions[::2], actions[1::2]
    assert [handler.args[0].kwargs["target_action"] for handler in handlers] == started
    assert all("sigkill_timeout" in process.kwargs for process in started)
    return started


def declared(launch_file: Any) -> list[Any]:
    return [entry for entry in launch_file.generate_launch_description() if type(entry).__name__ == "DeclareLaunchArgument"]


@pytest.fixture
def kitti(tmp_path: Path) -> Path:
    """The root of a SemanticKITTI with one sequence."""
    return write_sequence(tmp_path, 2)


def test_every_argument_is_described(launch_files: dict[str, Any]) -> None:
    for name, wanted in ARGUMENTS.items():
        entries = declared(launch_files[name])
        assert {entry.args[0] for entry in entries} == wanted
        assert all(entry.kwargs["description"] and isinstance(entry.kwargs["default_value"], str) for entry in entries)


def test_the_launch_files_import_the_standard_library_and_launch_alone() -> None:
    """They run in the Python of the `ros2` command, which may lack everything that the node needs."""
    allowed = {"__future__", "launch", "launch_ros", "ament_index_python", "occle_ros", "yaml", *sys.stdlib_module_names}
    for file in (*(ROOT / "launch").glob("*.py"), ROOT / "occle_ros/tools/launch_support.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            for name in names:
                assert name.split(".")[0] in allowed, f"{file.name} imports {name}"
                assert not name.startswith("occle_ros") or name == "occle_ros.tools", f"{file.name} imports {name}"
    for package in ("occle_ros", "occle_ros/tools"):
        assert not [n for n in ast.walk(ast.parse((ROOT / package / "__init__.py").read_text())) if isinstance(n, ast.ImportFrom)]


def test_the_node_alone(launch_file: Any) -> None:
    (node,) = processes(launch_file)
    assert node.kwargs["executable"] == "occupancy_node"
    file, parameters, texts = node.kwargs["parameters"]
    assert file == str(ROOT / "config" / "kitti.yaml")
    assert (parameters, texts) == ({"use_sim_time": False, "build_only": False}, {})
    assert not node.kwargs["remappings"]


def test_with_a_bag_its_calibration_is_used_and_it_is_played(launch_file: Any, tmp_path: Path) -> None:
    bag = tmp_path / "08"
    bag.mkdir()
    (bag / "calibration.yaml").write_text("grid_frame: base_link\ncameras: {CAM_FRONT: {}, CAM_BACK: {}}\n")
    node, player, rviz = processes(launch_file, bag=str(bag), rate="0.5", loop="true", bundle="08", engine="torch", rviz="true")
    file, parameters, texts = node.kwargs["parameters"]
    assert file == str(ROOT / "config" / "nuscenes.yaml")  # by the bag's cameras
    assert texts["calibration_file"].args == (str(bag / "calibration.yaml"),)
    # As a string: launch would read the folder's name as a number.
    assert (texts["bundle"].args, texts["bundle"].kwargs) == (("08",), {"value_type": str})
    assert texts["engine"].args == ("torch",)
    assert parameters["use_sim_time"] is True
    assert player.kwargs["cmd"][1:6] == ["play", str(bag), "--rate", "0.5", "--loop"]
    assert rviz.kwargs["arguments"] == ["-d", str(ROOT / "config" / "nuscenes.rviz"), "-f", "base_link"]
    assert not rviz.kwargs["remappings"]


def test_a_data_set_is_played_as_it_is(launch_file: Any, kitti: Path) -> None:
    node, player, rviz = processes(launch_file, dataset=str(kitti), kind="semantickitti", rviz="true", namespace="robot")
    file, _, texts = node.kwargs["parameters"]
    assert file == str(ROOT / "config" / "kitti.yaml")
    assert texts["calibration_file"].args == (f"{kitti}#08",)
    assert node.kwargs["namespace"] == "robot"
    expected = ["--kind", "semantickitti", "--scene", "08", "--raw", "--rate", "1.0", "--namespace", "robot"]
    assert player.kwargs["cmd"][1:12] == ["play", str(kitti), *expected]
    # Topics, TF and clock of this replay are the namespace's own.
    assert {("/tf", "tf"), ("/tf_static", "tf_static"), ("/clock", "/robot/clock")} == set(node.kwargs["remappings"])
    shown = rviz.kwargs["remappings"]
    assert ("/occupancy/overlay/cam2", "/robot/occupancy/overlay/cam2") in shown
    assert ("/lidar/points", "/robot/lidar/points") in shown and ("/clock", "/robot/clock") in shown
    # All that the layout shows, its map too.
    assert {("/occupancy/map/voxels", "/robot/occupancy/map/voxels"), ("/occupancy/markers", "/robot/occupancy/markers")} <= set(
        shown
    )
    assert ("/occupancy/map/occupancy_grid_updates", "/robot/occupancy/map/occupancy_grid_updates") in shown


def test_build_only_starts_the_node_alone(launch_file: Any, kitti: Path) -> None:
    (node,) = processes(launch_file, dataset=str(kitti), build_only="true")
    assert node.kwargs["parameters"][1]["build_only"] is True


@pytest.mark.parametrize(
    ("file", "given", "message"),
    [
        ("occupancy", {"config": "lyft"}, r"kitti\.yaml, nuscenes\.yaml"),
        ("occupancy", {"kind": "kitti"}, "add dataset:=FOLDER"),
        ("occupancy", {"scene": "08", "bag": "/bag"}, "add dataset:=FOLDER"),
        ("occupancy", {"dataset": "/data", "bag": "/bag"}, "give only one of them"),
        ("occupancy", {"dataset": "/data", "kind": "lyft"}, "no kind 'lyft'; known: semantickitti"),
        ("occupancy", {"dataset": "/nowhere/at/all", "kind": "kitti"}, "does not exist"),
        ("occupancy", {"bag": "/nowhere"}, "launch argument bag: there is no bag at /nowhere"),
        ("occupancy", {"rate": "fast"}, "launch argument rate: must be a positive number, not 'fast'"),
        ("occupancy", {"rate": "0"}, "must be a positive number"),
        ("occupancy", {"use_sim_time": "perhaps"}, "use_sim_time: must be true or false, not 'perhaps'"),
        ("occupancy", {"loop": "2"}, "loop: must be true or false"),
        ("robot", {"nav2": "yes"}, "nav2: must be false or true or map"),
        ("robot", {"nav2": "true"}, r"nav2:=true needs the package nav2_costmap_2d: sudo apt install ros-.*-nav2-costmap-2d"),
        ("robot", {"nav2": "map"}, r"nav2:=map needs the package nav2_costmap_2d"),
        ("robot", {"image": "/a/image,/b/image", "camera_info": "/a/info"}, "camera_info: 1 topics for 2 image topics"),
    ],
)
def test_wrong_arguments_are_refused_before_anything_starts(
    launch_files: dict[str, Any], file: str, given: dict[str, str], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        processes(launch_files[file], **given)


def test_without_rviz_installed_nothing_starts(launch_file: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def nowhere(name: str) -> str:
        raise launch_file.support.PackageNotFoundError(name)

    monkeypatch.setattr(launch_file.support, "get_package_prefix", lambda name: nowhere(name) if name == "rviz2" else str(ROOT))
    plan = dict.fromkeys(("calibration", "rig", "points", "grid_frame"), "") | {
        "config": "c.yaml", "player": [], "camera": "cam2", "layout": "occupancy.rviz"
    }  # fmt: skip
    monkeypatch.setattr(launch_file.support, "plan", lambda value: plan)
    with pytest.raises(ValueError, match=r"rviz:=true needs the package rviz2: sudo apt install ros-.*-rviz2"):
        processes(launch_file, rviz="true")


def test_a_process_that_fails_ends_the_others(launch_file: Any) -> None:
    """A replay that has come to its end leaves the node running."""
    ended = types.SimpleNamespace(process_name="player", returncode=0)
    assert not launch_file.support._on_exit(ended, None)
    (event,) = launch_file.support._on_exit(types.SimpleNamespace(process_name="player", returncode=2), None)
    assert "player ended with exit code 2" in event.kwargs["event"].kwargs["reason"]


def test_a_robot_of_ones_own(launch_files: dict[str, Any]) -> None:
    images = "/front/image_raw, /rear/image/compressed"
    (node,) = processes(
        launch_files["robot"], points="/ouster/points", image=images, namespace="r1", base_frame="base", odom_frame="o"
    )
    file, parameters, texts = node.kwargs["parameters"]
    assert file == str(ROOT / "config" / "robot.yaml") and not texts
    assert parameters["camera_names"] == ["camera_0", "camera_1"]
    assert (parameters["tf.grid_frame"], parameters["tf.world_frame"]) == ("base", "o")
    assert [parameters[f"cameras.camera_{number}.compressed"] for number in (0, 1)] == [False, True]
    assert node.kwargs["remappings"] == [
        ("points", "/ouster/points"),
        ("camera_0/image", "/front/image_raw"),
        ("camera_0/camera_info", "/front/camera_info"),
        ("camera_1/image", "/rear/image/compressed"),
        ("camera_1/camera_info", "/rear/camera_info"),
        ("/tf", "tf"),
        ("/tf_static", "tf_static"),
    ]
    given = {name: value for name, value in parameters.items() if name not in ("use_sim_time", "build_only")}
    config = config_from_parameters(read_parameters(Path(file)) | given)
    assert config.lidar.topic == "points" and config.cameras["camera_1"].info_topic == "camera_1/camera_info"


def test_a_robot_with_a_lidar_alone(launch_files: dict[str, Any]) -> None:
    (node,) = processes(launch_files["robot"])
    file, parameters, _ = node.kwargs["parameters"]
    given = {name: value for name, value in parameters.items() if name not in ("use_sim_time", "build_only")}
    assert config_from_parameters(read_parameters(Path(file)) | given).camera_names == ()


@pytest.mark.parametrize(
    ("content", "given", "frame"),
    [
        ("grid_frame: velodyne", {}, "velodyne"),
        ("lidar_frame: velodyne", {}, "base_link"),
        ("grid_frame: velodyne", {"base_frame": "base"}, "base"),
    ],
)
def test_voxels_lie_in_the_calibration_files_frame(
    launch_files: dict[str, Any], tmp_path: Path, content: str, given: dict[str, str], frame: str
) -> None:
    """`occle bag` writes grid_frame: velodyne for KITTI; its T_grid_lidar does not lead to base_link."""
    (tmp_path / "calibration.yaml").write_text(content)
    for path in (tmp_path, tmp_path / "calibration.yaml"):
        (node,) = processes(launch_files["robot"], calibration=str(path), **given)
        assert node.kwargs["parameters"][1]["tf.grid_frame"] == frame


def test_a_parameter_files_topics_and_frames_hold_where_no_argument_replaces_them(
    launch_files: dict[str, Any], tmp_path: Path
) -> None:
    file = tmp_path / "my.yaml"
    file.write_text("/**:\n  ros__parameters: {lidar.topic: /top, tf.grid_frame: body, tf.world_frame: map, camera_names: ['']}\n")
    for given, expected in (({}, ("/top", "body", "map")), ({"points": "/other", "odom_frame": "o"}, ("points", "body", "o"))):
        (node,) = processes(launch_files["robot"], params=str(file), **given)
        own, parameters, _ = node.kwargs["parameters"]
        parameters = {name: value for name, value in parameters.items() if name not in ("use_sim_time", "build_only")}
        config = config_from_parameters(read_parameters(Path(own)) | parameters)
        assert (config.lidar.topic, config.tf.grid_frame, config.tf.world_frame) == expected


RIG = """
base_frame: body
odometry: {frame: world}
lidars: {top: {topic: /top/points, pose: [0, 0, 1, 0, 0, 0]}}
cameras: {front: {topic: /front/image, info_topic: /front/info, pose: [0, 0, 1, -90, 0, -90]}}
"""


def test_a_rig_file_gives_the_sensors(launch_files: dict[str, Any], tmp_path: Path) -> None:
    file = tmp_path / "rig.yaml"
    file.write_text(RIG)
    (tmp_path / "bag").mkdir()
    started = {
        "robot": processes(launch_files["robot"], rig=str(file), rviz="true"),
        "occupancy": processes(launch_files["occupancy"], rig=str(file), bag=str(tmp_path / "bag"), rviz="true"),
    }
    for name, (node, *_, rviz) in started.items():
        parameters, own, texts = node.kwargs["parameters"]
        assert not node.kwargs["remappings"] and texts["rig"].args == (str(file),)
        given = {key: value for key, value in own.items() if key not in ("use_sim_time", "build_only")}
        config = config_from_parameters(read_parameters(Path(parameters)) | given | {"rig": str(file)})
        assert (config.lidar.topic, config.camera_names) == ("/top/points", ("front",)), name
        assert (config.tf.grid_frame, config.tf.world_frame) == ("body", "world")
        (layout,) = (Path(argument).stem for argument in rviz.kwargs["arguments"] if argument.endswith(".rviz"))
        overlay = {"occupancy": "/occupancy/overlay/cam2", "nuscenes": "/occupancy/overlay/CAM_FRONT"}[layout]
        assert rviz.kwargs["remappings"] == [("/lidar/points", "/top/points"), (overlay, "/occupancy/overlay/front")]
        assert rviz.kwargs["arguments"][-2:] == ["-f", "body"]
    command = started["occupancy"][1].kwargs["cmd"]
    assert command[command.index("--wait-for") + 1] == "/top/points"
    with pytest.raises(launch_files["robot"].support.LaunchError, match=r"there is no file 'nowhere\.yaml'"):
        processes(launch_files["robot"], rig="nowhere.yaml")


def test_executables_and_files_are_installed() -> None:
    setup = (ROOT / "setup.py").read_text()
    assert "occupancy_node = occle_ros.cli:occupancy_node" in setup
    assert "occle = occle_ros.cli:main" in setup
