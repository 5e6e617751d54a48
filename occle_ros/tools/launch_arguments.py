# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Launch plan from the arguments of the launch file: parameter file, calibration, player, and RViz layout."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import yaml

from occle_core.datasets import list_scenes, open_dataset
from occle_core.paths import expand_home
from occle_ros.calibration.files import CALIBRATION_FILE
from occle_ros.config.loading import load_config
from occle_ros.config.names import DatasetKind
from occle_ros.config.parameter_group import ConfigError
from occle_ros.config.presets import PRESETS, preset_for
from occle_ros.config.rig_parameters import load_rig


@dataclass(frozen=True)
class LaunchPlan:
    """Parameters of the processes to launch.

    Args:
        config: parameter file of the node.
        rig: parameter rig; empty: that of the config.
        calibration: parameter calibration_file; empty: that of the config, or of the rig.
        player: arguments of `occle` that start the replay; empty: none.
        grid_frame: fixed frame for RViz; empty: that of the layout.
        camera: camera of the layout's overlay.
        layout: RViz layout in share/occle_ros/config.
        points: topic of the LiDAR, which the replay waits for.
    """

    config: Path
    rig: str
    calibration: str
    player: tuple[str, ...]
    grid_frame: str
    camera: str
    layout: str
    points: str = "lidar/points"


def plan_launch(value: Mapping[str, str], share: Path) -> LaunchPlan:
    """Plan of the processes from the launch arguments.

    Args:
        value: argument -> text.
        share: share/occle_ros, or a checkout.

    Raises:
        ConfigError: arguments that contradict each other or name nothing.
        DatasetError: the data set cannot be opened.
    """
    kinds = get_args(DatasetKind)
    _check_rate(value["rate"])
    if value["bag"] and value["dataset"]:
        raise ConfigError("launch arguments bag and dataset: give only one of them")
    if (value["kind"] or value["scene"]) and not value["dataset"]:
        raise ConfigError("launch arguments kind and scene are for a data set: add dataset:=FOLDER")
    if value["kind"] and value["kind"] not in kinds:
        raise ConfigError(f"launch argument kind: there is no kind {value['kind']!r}; known: {', '.join(kinds)}")
    if value["rig"]:
        if value["dataset"]:
            raise ConfigError("launch argument rig is for live sensors and bags; a data set brings its own")
        return _for_rig(value, share)
    if value["dataset"]:
        return _for_dataset(value, share)
    if value["bag"]:
        return _for_bag(value, share)
    return _plan(value, share, "kitti", value["calibration"], (), "")


def _for_dataset(value: Mapping[str, str], share: Path) -> LaunchPlan:
    path, kind = expand_home(value["dataset"]).resolve(), value["kind"] or None
    scene = value["scene"] or list_scenes(path, kind)[0]
    dataset = open_dataset(path, kind, scene)
    preset = preset_for(dataset.camera_names)
    calibration = value["calibration"] or f"{path}#{scene}"
    config = config_file(value["config"], share, preset)
    compressed = any(camera.compressed for camera in load_config(config).cameras.values())
    image_kind = "--compressed" if compressed else "--raw"
    given_kind = ("--kind", kind) if kind else ()
    player = ("play", str(path), *given_kind, "--scene", scene, image_kind)
    return _plan(value, share, preset, calibration, player, dataset.grid_frame)


def _for_bag(value: Mapping[str, str], share: Path) -> LaunchPlan:
    bag = expand_home(value["bag"])
    if not bag.exists():
        raise ConfigError(f"launch argument bag: there is no bag at {bag}")
    beside = (bag if bag.is_dir() else bag.parent) / CALIBRATION_FILE
    calibration = value["calibration"] or (str(beside) if beside.is_file() else "")
    preset, grid_frame = "kitti", ""
    if beside.is_file():
        content = yaml.safe_load(beside.read_text("utf-8"))
        grid_frame = str(content.get("grid_frame", ""))
        preset = preset_for(tuple(content.get("cameras", {}))) if value["config"] == "auto" else preset
    return _plan(value, share, preset, calibration, ("play", str(bag)), grid_frame)


def _for_rig(value: Mapping[str, str], share: Path) -> LaunchPlan:
    rig, file = load_rig(value["rig"])
    bag = expand_home(value["bag"]) if value["bag"] else None
    if bag is not None and not bag.exists():
        raise ConfigError(f"launch argument bag: there is no bag at {bag}")
    config = config_file("robot" if value["config"] == "auto" else value["config"], share, "robot")
    player = ("play", str(bag)) if bag else ()
    camera = next(iter(rig.cameras), "")
    return LaunchPlan(config, str(file), value["calibration"], player, rig.base_frame, camera, "occupancy.rviz", rig.lead.topic)


def _check_rate(rate: str) -> None:
    try:
        positive = float(rate) > 0
    except ValueError:
        positive = False
    if not positive:
        raise ConfigError(f"launch argument rate: must be a positive number, not {rate!r}")


def _plan(
    value: Mapping[str, str], share: Path, preset: str, calibration: str, player: tuple[str, ...], grid_frame: str
) -> LaunchPlan:
    config = config_file(value["config"], share, preset)
    camera = load_config(config).camera_names[:1]
    layout = "occupancy.rviz" if camera == PRESETS["kitti"].camera_names[:1] else "nuscenes.rviz"
    return LaunchPlan(config, "", calibration, player, grid_frame, camera[0] if camera else "", layout)


def config_file(name: str, share: Path, preset: str) -> Path:
    """Path of a parameter file: an existing path, or a file in share/occle_ros/config; "auto": that of the preset.

    Raises:
        ConfigError: no such file.
    """
    shipped = share / "config"
    candidates = [expand_home(name), shipped / name, shipped / f"{name}.yaml"]
    if name == "auto":
        candidates = [shipped / f"{preset}.yaml"]
    for candidate in candidates:
        if candidate.is_file():
            return candidate
    known = ", ".join(f"{name}.yaml" for name in PRESETS)
    raise ConfigError(f"launch argument config: there is no {name!r}; give a path or one of {known}")
