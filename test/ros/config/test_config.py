# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path
from typing import get_args

import pytest

from occle_core.datasets import DatasetError, open_dataset
from occle_core.engines.loading import ENGINE_NAMES, PRECISIONS
from occle_ros.config.flat_parameters import declared_parameters
from occle_ros.config.loading import config_from_parameters, load_config
from occle_ros.config.names import DatasetKind, EngineName, Precision
from occle_ros.config.node_config import NodeConfig, absolute_topic, resolve_topics
from occle_ros.config.parameter_group import ConfigError
from occle_ros.config.presets import PRESETS, to_yaml

CONFIG = Path(__file__).resolve().parents[3] / "config"


@pytest.mark.parametrize("name", PRESETS)
def test_the_shipped_files_are_what_the_model_generates(name: str) -> None:
    """Mend with: python -m occle_ros.config.presets NAME > config/NAME.yaml"""
    assert load_config(CONFIG / f"{name}.yaml") == PRESETS[name]
    assert (CONFIG / f"{name}.yaml").read_text().split("\n", 1)[1] == to_yaml(PRESETS[name])


def test_every_parameter_is_described() -> None:
    for parameter in declared_parameters(("cam2", "cam3")):
        assert parameter.description, parameter.name
    names = [parameter.name for parameter in declared_parameters(("cam2", "cam3"))]
    assert "cameras.cam3.time_offset_ms" in names
    assert len(set(names)) == len(names)


def test_cameras_get_the_topics_that_occle_bag_writes() -> None:
    config = config_from_parameters({"camera_names": ["left"], "cameras.left.compressed": True})
    assert config.cameras["left"].topic == "left/image/compressed"
    assert config.cameras["left"].info_topic == "left/camera_info"


@pytest.mark.parametrize(
    ("flat", "message"),
    [
        ({"lidar.topik": "/x"}, "unknown parameter lidar.topik; did you mean lidar.topic?"),
        ({"threads": -1}, "threads: "),
        ({"qos.reliability": "sometimes"}, "qos.reliability"),
        ({"cameras.cam9.topic": "/x"}, "cam9 are configured but not in camera_names"),
        ({"T_grid_lidar": [1.0, 2.0]}, "T_grid_lidar needs 16 numbers"),
        ({"camera_names": ["a", "a"]}, "different identifiers"),
        (
            {"camera_names": ["a", "b"], "cameras.a.info_topic": "/info", "cameras.b.info_topic": "/info"},
            "cameras.a.info_topic and cameras.b.info_topic are the same topic /info",
        ),
        ({"lidar_names": ["rear"], "lidars.rear.topic": "lidar/points"}, "lidar.topic and lidars.rear.topic are the same topic"),
        ({"lidar.exclude_box": [0.0, 0.0, 0.0, 1.0, 1.0]}, "lidar.exclude_box: .*needs 6 numbers"),
        ({"lidar.exclude_box": [0.0, 0.0, 0.0, 1.0, 1.0, 0.0]}, "lidar.exclude_box: .*lowest corner"),
        ({"lidar.exclude_box": [0.0, 0.0, float("nan"), 1.0, 1.0, 1.0]}, "lidar.exclude_box"),
        ({"lidar": "x", "lidar.topic": "/x"}, "below a parameter that has a value"),
    ],
)
def test_wrong_parameters_are_named(flat: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message.replace("?", r"\?")):
        config_from_parameters(flat)


def test_the_maps_cells_are_the_networks_or_smaller() -> None:
    """The centre of a larger one lies in one of the network's eight: walls and ground would be seen by chance."""
    assert NodeConfig().map.constants(0.2).resolution == 0.2
    assert config_from_parameters({"map.resolution": 0.1}).map.constants(0.2).resolution == 0.1
    with pytest.raises(ConfigError, match=r"map.resolution: cells of 0.4 m are larger than the network's of 0.2 m.*; 0 takes the"):
        config_from_parameters({"map.resolution": 0.4}).map.constants(0.2)


def test_the_maps_size_keeps_its_cost() -> None:
    """100 m of cells of 0.1 m would be 64 times the cells of the shipped networks' map."""
    assert NodeConfig().map.constants(0.4).size == (100, 100, 8)
    assert NodeConfig().map.constants(0.1).shape == (250, 250, 20)
    assert config_from_parameters({"map.size": [40.0, 40.0, 4.0]}).map.constants(0.1).shape == (400, 400, 40)
    with pytest.raises(ConfigError, match=r"map.size: \[0.0, 40.0, 4.0\] is smaller than a cell of 0.4 m"):
        config_from_parameters({"map.size": [0.0, 40.0, 4.0]}).map.constants(0.4)


@pytest.mark.parametrize(
    "text", ["", "- 1", "a: {b: 1}", "/**: {ros__parameters: 3}", "{", "/a: {ros__parameters: {}}\n/b: {ros__parameters: {}}"]
)
def test_a_file_that_is_no_parameter_file(tmp_path: Path, text: str) -> None:
    (tmp_path / "x.yaml").write_text(text)
    with pytest.raises(ConfigError, match=r"x\.yaml"):
        load_config(tmp_path / "x.yaml")


def test_a_bundle_that_is_nowhere(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="parameter bundle: there is no"):
        NodeConfig(bundle="nowhere/at/all").bundle_dir()
    assert NodeConfig(bundle=str(tmp_path)).bundle_dir() == tmp_path


def test_engines_precisions_and_kinds_are_those_of_the_core(tmp_path: Path) -> None:
    assert get_args(EngineName) == ENGINE_NAMES
    assert get_args(Precision) == PRECISIONS
    with pytest.raises(DatasetError) as caught:
        open_dataset(tmp_path, "none")
    assert str(caught.value).partition("there are ")[2] == ", ".join(sorted(get_args(DatasetKind)))


def test_two_cameras_that_remapping_gives_the_same_camera_info_are_refused():
    config = NodeConfig.model_validate({"camera_names": ["left", "right"]})
    assert resolve_topics(config, absolute_topic).cameras["right"].info_topic == "/right/camera_info"
    with pytest.raises(ConfigError, match=r"cameras\.left\.info_topic and cameras\.right\.info_topic are the same topic /info"):
        resolve_topics(config, lambda topic: "/info" if topic.endswith("camera_info") else absolute_topic(topic))
