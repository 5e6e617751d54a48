# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""~/obstacles and ~/label_info."""

from __future__ import annotations

import json

import numpy as np
import pytest
from rclpy.serialization import deserialize_message, serialize_message
from sensor_msgs.msg import PointCloud2

from occle_core.geometry.grid import VoxelGrid
from occle_core.occupancy import Occupancy
from occle_core.taxonomy import load
from occle_ros.config.classes import ground_ids
from occle_ros.config.parameter_group import ConfigError
from occle_ros.messages.clouds import obstacles_from_occupancy
from occle_ros.messages.label_info import JSON_STRING, LABEL_INFO, label_info, label_info_type

GRID = VoxelGrid((0.0, -2.0, -1.0), (6, 8, 10), 0.5)


@pytest.mark.parametrize("name", ["semantickitti", "occ3d_nuscenes", "sscbench_kitti360"])
def test_obstacles_are_the_occupied_cells_of_the_band_that_are_no_ground(name: str) -> None:
    taxonomy = load(name)
    labels = np.random.default_rng(0).integers(0, taxonomy.num_classes, GRID.shape).astype(np.uint8)
    labels[0] = taxonomy.ignore
    occupancy = Occupancy.of_volumes(labels, np.ones(GRID.shape, np.float16), GRID, taxonomy, stamp=7, frame_id="base_link")
    ground = ground_ids((), taxonomy)
    message = deserialize_message(serialize_message(obstacles_from_occupancy(occupancy, 0.0, 2.0, ground)), PointCloud2)
    found = {tuple(row) for row in np.frombuffer(bytes(message.data), "<f4").reshape(-1, 3).tolist()}
    expected = set()
    for i, j, k in np.ndindex(*GRID.shape):
        centre = (0.25 + 0.5 * i, -1.75 + 0.5 * j, -0.75 + 0.5 * k)
        label = int(labels[i, j, k])
        if 0.0 <= centre[2] < 2.0 and label not in (taxonomy.free, taxonomy.ignore) and label not in ground:
            expected.add(centre)
    assert found == expected and len(expected) > 50
    assert [field.name for field in message.fields] == ["x", "y", "z"] and message.header.frame_id == "base_link"
    assert message.point_step == 12 and message.width == len(expected) and message.is_dense


def test_what_is_ground_by_default() -> None:
    for name, expected in (
        ("semantickitti", {"road", "parking", "sidewalk", "other-ground", "terrain"}),
        ("occ3d_nuscenes", {"driveable_surface", "other_flat", "sidewalk", "terrain"}),
    ):
        taxonomy = load(name)
        assert {taxonomy.names[number] for number in ground_ids((), taxonomy)} == expected
    with pytest.raises(ConfigError, match=r"obstacles\.ground: the network has no class lawn"):
        ground_ids(("lawn",), load("semantickitti"))


def test_the_class_list_names_every_label() -> None:
    taxonomy = load("semantickitti")
    message = label_info(taxonomy, 3, "velodyne")
    if label_info_type() == LABEL_INFO:
        table = {entry.class_id: entry.class_name for entry in message.class_map}
    else:
        assert label_info_type() == JSON_STRING
        content = json.loads(message.data)
        table = {entry["id"]: entry["name"] for entry in content["classes"]}
        assert (content["free"], content["ignore"]) == (taxonomy.free, 255)
        assert [entry["rgb"] for entry in content["classes"]] == taxonomy.colors.tolist()
    assert table == dict(enumerate(taxonomy.names))
