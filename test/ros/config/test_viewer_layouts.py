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


def test_foxglove_shows_the_topics_of_the_node() -> None:
    layout = json.loads((ROOT / "config" / "foxglove_layout.json").read_text())
    panels = layout["configById"]
    known = set(topics_of(PRESETS["kitti"]))
    assert set(panels["3D!occupancy"]["topics"]) <= known
    assert panels["3D!occupancy"]["followTf"] == "velodyne"
    assert {f"/occupancy/map/{name}" for name in ("markers", "voxels", "distance")} <= set(panels["3D!occupancy"]["topics"])
    assert panels["Image!overlay"]["imageMode"]["imageTopic"] in known
    assert {path["value"].removesuffix(".data") for path in panels["Plot!latency"]["paths"]} <= known
    assert set(leaves(layout["layout"])) == set(panels)


def leaves(layout: Any) -> list[str]:
    return [layout] if isinstance(layout, str) else leaves(layout["first"]) + leaves(layout["second"])


def topics_of(config: NodeConfig) -> dict[str, bool]:
    """Topic -> whether it is latched, of a node called /occupancy."""
    config = resolve_topics(config, absolute_topic)
    topics = [*subscribed(config), *published(config, ("wait", "publish"))]
    return {topic.name.replace("~", "/occupancy"): topic.latched for topic in topics}
