"""What the launch file has to find out from its arguments: parameter file, calibration, replay, and layout for RViz."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml

from occle_core.datasets import open_dataset
from occle_core.paths import expand_home
from occle_ros.bags.dataset_player import KINDS, first_scene
from occle_ros.bags.reader import CALIBRATION_FILE
from occle_ros.config.groups import ConfigError
from occle_ros.config.loading import load_config
from occle_ros.config.presets import PRESETS, preset_for


@dataclass(frozen=True)
class Choices:
    """What is started.

    Args:
        config: parameter file of the node.
        calibration: parameter calibration_file; empty: the config's.
        player: Python module and arguments of the replay; empty: none.
        grid_frame: fixed frame for RViz; empty: the layout's.
        camera: the camera that the layout shows.
        layout: RViz layout in share/occle_ros/config.
    """

    config: Path
    calibration: str
    player: tuple[str, ...]
    grid_frame: str
    camera: str
    layout: str


def choose(value: Mapping[str, str], share: Path) -> Choices:
    """From the launch file's arguments.

    Args:
        value: argument -> text.
        share: share/occle_ros, or a checkout.

    Raises:
        ConfigError: arguments that do not fit together or name nothing; the message says what would be right.
        DatasetError: the data set cannot be opened.
    """
    if value["bag"] and value["path"]:
        raise ConfigError("launch arguments bag and path: give one of them, what is to be replayed")
    if bool(value["dataset"]) != bool(value["path"]):
        raise ConfigError(f"launch arguments dataset and path belong together: dataset:={'|'.join(KINDS)} path:=FOLDER")
    if value["dataset"] and value["dataset"] not in KINDS:
        raise ConfigError(f"launch argument dataset: there is no kind {value['dataset']!r}, but {', '.join(KINDS)}")
    if value["path"]:
        return _for_dataset(value, share)
    if value["bag"]:
        return _for_bag(value, share)
    return _made(value, share, "kitti", value["calibration"], (), "")


def _for_dataset(value: Mapping[str, str], share: Path) -> Choices:
    path, kind = expand_home(value["path"]).resolve(), value["dataset"]
    scene = value["scene"] or first_scene(path, kind)
    dataset = open_dataset(path, kind, scene)
    preset = preset_for(dataset.camera_names)
    calibration = value["calibration"] or f"{path}#{scene}"
    config = config_file(value["config"], share, preset)
    compressed = any(camera.compressed for camera in load_config(config).cameras.values())
    image_kind = "--compressed" if compressed else "--raw"
    player = ("occle_ros.bags.dataset_player", str(path), "--kind", kind, "--scene", scene, image_kind)
    return _made(value, share, preset, calibration, player, dataset.grid_frame)


def _for_bag(value: Mapping[str, str], share: Path) -> Choices:
    bag = expand_home(value["bag"])
    beside = (bag if bag.is_dir() else bag.parent) / CALIBRATION_FILE
    calibration = value["calibration"] or (str(beside) if beside.is_file() else "")
    preset, grid_frame = "kitti", ""
    if beside.is_file():
        content = yaml.safe_load(beside.read_text("utf-8"))
        grid_frame = str(content.get("grid_frame", ""))
        preset = preset_for(tuple(content.get("cameras", {}))) if value["config"] == "auto" else preset
    return _made(value, share, preset, calibration, ("occle_ros.cli", "play", str(bag)), grid_frame)


def _made(
    value: Mapping[str, str], share: Path, preset: str, calibration: str, player: tuple[str, ...], grid_frame: str
) -> Choices:
    config = config_file(value["config"], share, preset)
    camera = load_config(config).camera_names[:1]
    layout = "occupancy.rviz" if camera == PRESETS["kitti"].camera_names[:1] else "nuscenes.rviz"
    return Choices(config, calibration, player, grid_frame, camera[0] if camera else "", layout)


def config_file(name: str, share: Path, preset: str) -> Path:
    """A parameter file: a path that exists, or a file of share/occle_ros/config; "auto" is the preset's.

    Raises:
        ConfigError: there is none of that name.
    """
    shipped = share / "config"
    candidates = [expand_home(name), shipped / name, shipped / f"{name}.yaml"]
    if name == "auto":
        candidates = [shipped / f"{preset}.yaml"]
    for candidate in candidates:
        if candidate.is_file():
            return candidate
    known = ", ".join(sorted(file.name for file in shipped.glob("*.yaml")))
    raise ConfigError(f"launch argument config: there is no {name!r}; give a path or one of {known}")
