"""config/nav2_costmap.yaml and config/sros2_policy.xml against what nav2's layers declare and what the node offers.

The parameter names are those that the layers of nav2_costmap_2d declare (its source of August 2026).
"""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import yaml

from occle_ros.config.node_config import NodeConfig, absolute_topic, resolve_topics
from occle_ros.config.presets import PRESETS
from occle_ros.topics.outputs import LABEL_INFO, OBSTACLES, OCCUPANCY_GRID, SERVICES, published, subscribed

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


def test_every_parameter_is_one_that_nav2_declares() -> None:
    costmap = yaml.safe_load((ROOT / "config/nav2_costmap.yaml").read_text())["costmap"]["ros__parameters"]
    layers = {name: costmap.pop(name) for name in costmap["plugins"]}
    assert set(costmap) <= COSTMAP
    for layer in layers.values():
        sources = {name: layer.pop(name) for name in layer.get("observation_sources", "").split()}
        assert set(layer) - {"plugin"} <= LAYERS[layer["plugin"]]
        for source in sources.values():
            assert set(source) <= SOURCE and source["data_type"] in ("PointCloud2", "LaserScan")
    static, voxels = layers["occupancy_layer"], layers["obstacle_layer"]
    assert costmap["rolling_window"] and static["map_subscribe_transient_local"]
    assert static["map_topic"] == OCCUPANCY_GRID.name.replace("~", "/occupancy") and OCCUPANCY_GRID.latched
    assert voxels["z_voxels"] <= 16  # the voxel grid's columns have 16 bits
    marks, clears = (yaml.safe_load((ROOT / "config/nav2_costmap.yaml").read_text())["costmap"]["ros__parameters"][
        "obstacle_layer"][name] for name in ("voxels", "lidar"))  # fmt: skip
    assert marks["topic"] == OBSTACLES.name.replace("~", "/occupancy") and marks["marking"] and not marks["clearing"]
    assert clears["topic"] == "/points" and clears["clearing"] and not clears["marking"]


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
