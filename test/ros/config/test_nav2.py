# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""config/nav2 and config/sros2_policy.xml against what nav2's layers declare and what the node offers.

The parameter names are those that the layers of nav2_costmap_2d declare (its source of August 2026).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import yaml

from occle_core.mapping import MapConfig
from occle_ros.config.node_config import NodeConfig, absolute_topic, resolve_topics
from occle_ros.config.presets import PRESETS
from occle_ros.topics.outputs import (
    LABEL_INFO,
    MAP_GRID,
    MAP_GRID_UPDATES,
    MAP_KEEPOUT,
    MAP_SPEED,
    OBSTACLES,
    OCCUPANCY_GRID,
    SERVICES,
    Topic,
    published,
    subscribed,
)
from occle_ros.topics.qos import qos_mismatch, qos_profile

ROOT = Path(__file__).resolve().parents[3]
COSTMAP = {
    "always_send_full_costmap", "global_frame", "height", "plugins", "publish_frequency", "resolution", "robot_base_frame",
    "robot_radius", "rolling_window", "track_unknown_space", "transform_tolerance", "update_frequency", "width",
}  # fmt: skip
LAYERS = {
    "nav2_costmap_2d::StaticLayer": {
        "enabled", "footprint_clearing_enabled", "map_subscribe_transient_local", "map_topic", "restore_cleared_footprint",
        "subscribe_to_updates", "transform_tolerance",
    },
    "nav2_costmap_2d::VoxelLayer": {
        "combination_method", "enabled", "footprint_clearing_enabled", "mark_threshold", "max_obstacle_height",
        "min_obstacle_height", "observation_sources", "origin_z", "publish_voxel_map", "tf_filter_tolerance",
        "unknown_threshold", "z_resolution", "z_voxels",
    },
    "nav2_costmap_2d::InflationLayer": {
        "cost_scaling_factor", "enabled", "inflate_around_unknown", "inflate_unknown", "inflation_radius",
    },
}  # fmt: skip
SOURCE = {
    "clearing", "data_type", "expected_update_rate", "inf_is_valid", "marking", "max_obstacle_height", "min_obstacle_height",
    "observation_persistence", "obstacle_max_range", "obstacle_min_range", "raytrace_max_range", "raytrace_min_range",
    "sensor_frame", "topic", "transport_type",
}  # fmt: skip


INFO_SERVER = {"base", "filter_info_topic", "mask_topic", "multiplier", "type"}
FILTERS = {
    "nav2_costmap_2d::KeepoutFilter": {"enabled", "filter_info_topic", "transform_tolerance"},
    "nav2_costmap_2d::SpeedFilter": {"enabled", "filter_info_topic", "speed_limit_topic", "transform_tolerance"},
}

FILES = {file.name: file for file in sorted((ROOT / "config/nav2").glob("*_costmap.yaml"))}


def costmap_of(file: Path) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """The parameters of a costmap, and those of its layers by name."""
    content = yaml.safe_load(file.read_text())
    while "ros__parameters" not in content:
        (content,) = content.values()
    costmap = content["ros__parameters"]
    return costmap, {name: costmap.pop(name) for name in costmap["plugins"]}


@pytest.mark.parametrize("name", FILES)
def test_every_parameter_is_one_that_nav2_declares(name: str) -> None:
    costmap, layers = costmap_of(FILES[name])
    assert set(costmap) <= COSTMAP
    assert costmap["rolling_window"] and costmap["global_frame"] == "odom"
    for layer in layers.values():
        sources = {name: layer.pop(name) for name in layer.get("observation_sources", "").split()}
        assert set(layer) - {"plugin"} <= LAYERS[layer["plugin"]]
        for source in sources.values():
            assert set(source) <= SOURCE and source["data_type"] in ("PointCloud2", "LaserScan")
            # Their defaults are 0: every point outside 0..0 m of global_frame would be dropped.
            assert source["min_obstacle_height"] < 0 < source["max_obstacle_height"]


def test_the_costmap_of_single_frames() -> None:
    _, layers = costmap_of(FILES["frame_costmap.yaml"])
    static, voxels = layers["occupancy_layer"], layers["obstacle_layer"]
    assert static["map_subscribe_transient_local"]
    assert static["map_topic"] == OCCUPANCY_GRID.name.replace("~", "/occupancy") and OCCUPANCY_GRID.latched
    assert voxels["z_voxels"] <= 16  # the voxel grid's columns have 16 bits
    marks, clears = voxels["voxels"], voxels["lidar"]
    assert marks["topic"] == OBSTACLES.name.replace("~", "/occupancy") and marks["marking"] and not marks["clearing"]
    assert clears["topic"] == "/points" and clears["clearing"] and not clears["marking"]


@pytest.mark.parametrize("name", ["map_costmap.yaml", "map_global_costmap.yaml"])
def test_the_costmaps_of_the_map(name: str) -> None:
    costmap, layers = costmap_of(FILES[name])
    static = layers["map_layer"]
    assert costmap["track_unknown_space"]  # else -1 would be free
    assert static["map_topic"] == MAP_GRID.name.replace("~", "/occupancy")
    assert static["map_subscribe_transient_local"] and MAP_GRID.latched
    # StaticLayer itself appends the ending to its topic; it asks reliable and volatile of the updates.
    assert static["subscribe_to_updates"] and MAP_GRID_UPDATES.name == MAP_GRID.name + "_updates"
    # The map may hold the robot itself; restoring keeps the layer as the map says for where the robot has been.
    assert static["footprint_clearing_enabled"] and static["restore_cleared_footprint"]
    assert costmap["width"] <= MapConfig().size[0] and costmap["height"] <= MapConfig().size[1]


@pytest.mark.parametrize(
    ("kind", "number", "plugin", "topic"),
    [("keepout", 0, "KeepoutFilter", MAP_KEEPOUT), ("speed", 1, "SpeedFilter", MAP_SPEED)],
)
def test_the_filters_of_the_map(kind: str, number: int, plugin: str, topic: Topic) -> None:
    content = yaml.safe_load((ROOT / "config/nav2/map_filters.yaml").read_text())
    info = content[f"{kind}_filter_info_server"]["ros__parameters"]
    costmap = content["costmap"]["ros__parameters"]
    assert set(info) == INFO_SERVER and info["type"] == number
    # KeepoutFilter reports any other base or multiplier as an error; SpeedFilter: the mask's value is the percentage.
    assert (info["base"], info["multiplier"]) == (0.0, 1.0)
    assert info["mask_topic"] == topic.name.replace("~", "/occupancy") and topic.latched
    layer = costmap[f"{kind}_filter"]
    assert f"{kind}_filter" in costmap["filters"] and layer["plugin"] == f"nav2_costmap_2d::{plugin}"
    assert set(layer) - {"plugin"} <= FILTERS[layer["plugin"]]
    assert layer["filter_info_topic"] == info["filter_info_topic"]


def test_nav2s_subscriptions_fit_the_publishers() -> None:
    """nav2_ros_common/qos_profiles.hpp: LatchedSubscriptionQoS(3): map, masks; StandardTopicQoS: updates; SensorDataQoS."""
    latched = qos_profile("reliable", 1, "transient_local")  # as MapPublishers and Publishers have it
    plain = qos_profile(NodeConfig().output_qos.reliability, 10, NodeConfig().output_qos.durability)
    assert qos_mismatch(latched, qos_profile("reliable", 3, "transient_local")) is None
    assert qos_mismatch(plain, qos_profile("reliable", 10)) is None
    assert qos_mismatch(plain, qos_profile("best_effort", 50)) is None


def test_the_security_policy_lists_what_the_node_uses() -> None:
    profile = ElementTree.parse(ROOT / "config/sros2_policy.xml").getroot().find("enclaves/enclave/profiles/profile")
    assert profile is not None and profile.get("node") == "occupancy"

    def topics(kind: str) -> set[str]:
        return {topic.text or "" for topic in profile.findall(f"topics[@{kind}='ALLOW']/topic")}

    cameras = {"camera_names": ["camera_0"]}  # as robot.launch.py names them
    config = NodeConfig.model_validate(PRESETS["robot"].model_dump(exclude={"camera_names", "cameras"}) | cameras)
    allowed = topics("publish")
    for topic in published(config, ("wait",)):
        name = topic.name.lstrip("/")
        assert name in allowed or any(rule.endswith("/*") and name.startswith(rule[:-1]) for rule in allowed), topic.name
    assert {topic.name for topic in subscribed(config)} <= topics("subscribe")
    services = {service.text for service in profile.findall("services[@reply='ALLOW']/service")}
    assert {service.name for service in SERVICES} <= services
    assert LABEL_INFO.latched


def test_topics_of_parameters_are_resolved_as_ros_does() -> None:
    config = resolve_topics(NodeConfig(), lambda topic: absolute_topic(topic, "/robot/"))
    assert (config.lidar.topic, config.cameras["cam2"].info_topic) == ("/robot/lidar/points", "/robot/cam2/camera_info")
    given = NodeConfig.model_validate({"lidar": {"topic": "/points"}})
    assert resolve_topics(given, absolute_topic).lidar.topic == "/points"
    assert absolute_topic("lidar/points") == "/lidar/points"
