# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""The layouts of RViz and Foxglove in config/ show topics of the node."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from occle_ros.config.node_config import NodeConfig, absolute_topic, resolve_topics
from occle_ros.config.presets import PRESETS
from occle_ros.topics.outputs import published, subscribed

ROOT = Path(__file__).resolve().parents[3]
LAYOUT = json.loads((ROOT / "config" / "foxglove_layout.json").read_text())

QOS = {"Depth", "History Policy", "Reliability Policy", "Durability Policy"}
DISPLAY_PROPERTIES = {
    "Grid": {"Cell Size", "Plane Cell Count", "Color"},
    "TF": {"Show Names", "Marker Scale"},
    "MarkerArray": {"Topic"},
    "PointCloud2": {
        "Topic", "Style", "Size (m)", "Size (Pixels)", "Position Transformer", "Color Transformer", "Channel Name",
        "Autocompute Intensity Bounds", "Min Intensity", "Max Intensity",
    },
    "Map": {"Topic", "Update Topic", "Color Scheme", "Alpha", "Draw Behind"},
    "Image": {"Topic"},
}  # fmt: skip

TITLES = {"foxglovePanelTitle", "lichtblickPanelTitle"}
SCENE = {"cameraState", "followMode", "followTf", "scene", "transforms", "topics", "layers", "publish", "imageMode"}
PANEL_SETTINGS = {
    "3D": SCENE,
    "Image": SCENE,
    "Tab": {"activeTabIdx", "tabs"},
    "Plot": {
        "paths", "minYValue", "showXAxisLabels", "showYAxisLabels", "showLegend", "legendDisplay", "showPlotValuesInLegend",
        "isSynced", "xAxisVal", "followingViewWidth",
    },
    "DiagnosticSummary": {"minLevel", "pinnedIds", "hardwareIdFilter", "topicToRender", "sortByLevel"},
}  # fmt: skip
POINTS = {"visible", "colorMode", "colorField", "pointShape", "pointSize"}
TOPIC_SETTINGS = {
    None: {"visible"},  # markers
    "rgb": POINTS,
    "colormap": POINTS | {"colorMap", "minValue", "maxValue"},
    "custom": {"visible", "colorMode", "minColor", "maxColor", "unknownColor", "invalidColor"},  # grids
}


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
    of_map = {"markers", "voxels", "occupancy_grid", "distance"}
    assert {f"/occupancy/map/{name}" for name in of_map} <= set(shown)
    # A display that is on subscribes, and the map is computed for subscribers.
    assert not any(display["Enabled"] for display in manager["Displays"] if "/map/" in display.get("Topic", {}).get("Value", ""))
    for topic, display in shown.items():
        assert (display["Durability Policy"] == "Transient Local") == known[topic]
        # Drivers publish as best effort, which a reliable subscription does not hear.
        assert display["Reliability Policy"] == ("Best Effort" if topic == "/lidar/points" else "Reliable")


@pytest.mark.parametrize("file", ["occupancy.rviz", "nuscenes.rviz"])
def test_the_properties_are_those_that_rviz_reads(file: str) -> None:
    """Names as in the source of RViz from Humble to Rolling; others are ignored without a word."""
    layout = yaml.safe_load((ROOT / "config" / file).read_text())
    displays = layout["Visualization Manager"]["Displays"]
    for display in displays:
        allowed = DISPLAY_PROPERTIES[display["Class"].removeprefix("rviz_default_plugins/")]
        assert set(display) <= allowed | {"Class", "Name", "Enabled"}, display["Name"]
        for name in {"Topic", "Update Topic"} & set(display):
            assert set(display[name]) == QOS | {"Value"}, display["Name"]
    names = [display["Name"] for display in displays]
    assert len(set(names)) == len(names)
    # RViz reads these two without a default of its own.
    assert (layout["Window Geometry"]["Hide Left Dock"], layout["Window Geometry"]["Hide Right Dock"]) == (False, False)
    # Where nothing is an obstacle the distance is infinite: bounds that RViz computes would be useless.
    (distance,) = (display for display in displays if display["Name"] == "Map distance")
    bounds = ("Autocompute Intensity Bounds", "Min Intensity", "Max Intensity")
    assert [distance[name] for name in bounds] == [False, 0, 10]


def test_foxglove_shows_the_topics_of_the_node() -> None:
    panels = LAYOUT["configById"]
    known = set(topics_of(PRESETS["kitti"]))
    frame, world = (panels[f"3D!{view}"] for view in ("frame", "map"))
    assert frame["followTf"] == world["followTf"] == "velodyne"
    assert set(frame["topics"]) | set(world["topics"]) <= known
    of_map = {name for name in world["topics"] if "/map/" in name}
    assert {f"/occupancy/map/{name}" for name in ("markers", "voxels", "occupancy_grid", "distance", "objects")} == of_map
    # The map is computed for subscribers: only its own tab has any.
    assert not any("/map/" in name for name in frame["topics"])
    assert panels["Tab!views"]["tabs"][panels["Tab!views"]["activeTabIdx"]]["layout"] == "3D!frame"
    assert panels["Image!overlay"]["imageMode"]["imageTopic"] in known
    assert {path["value"].removesuffix(".data") for path in panels["Plot!latency"]["paths"]} <= known
    assert panels["DiagnosticSummary!all"]["topicToRender"] in known
    assert set(leaves(LAYOUT["layout"])) == set(panels)


@pytest.mark.parametrize("panel", LAYOUT["configById"])
def test_the_settings_of_a_panel_are_those_that_the_app_reads(panel: str) -> None:
    """Names as in the source of Foxglove Studio and Lichtblick; others are ignored without a word."""
    settings = LAYOUT["configById"][panel]
    kind = panel.split("!")[0]
    assert set(settings) <= PANEL_SETTINGS[kind] | TITLES
    assert settings.keys().isdisjoint(TITLES) or len({settings[name] for name in TITLES}) == 1
    for topic, shown in settings.get("topics", {}).items():
        assert set(shown) <= TOPIC_SETTINGS[shown.get("colorMode")], topic


def leaves(layout: Any) -> list[str]:
    """Panels of a layout, those in tabs among them."""
    if not isinstance(layout, str):
        return leaves(layout["first"]) + leaves(layout["second"])
    tabs = LAYOUT["configById"][layout].get("tabs", [])
    return [layout, *(panel for tab in tabs for panel in leaves(tab["layout"]))]


def topics_of(config: NodeConfig) -> dict[str, bool]:
    """Topic -> whether it is latched, of a node called /occupancy."""
    config = resolve_topics(config, absolute_topic)
    topics = [*subscribed(config), *published(config, ("wait", "publish"))]
    return {topic.name.replace("~", "/occupancy"): topic.latched for topic in topics}
