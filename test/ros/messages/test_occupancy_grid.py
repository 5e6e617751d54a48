# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import itertools

import numpy as np
import pytest

from occle_core import taxonomy
from occle_core.geometry.grid import VoxelGrid
from occle_core.occupancy import Occupancy
from occle_ros.config.classes import drivable_ids, map_drivable
from occle_ros.config.node_config import NodeConfig
from occle_ros.config.parameter_group import ConfigError
from occle_ros.messages.occupancy_grid import costmap, occupancy_grid
from occle_ros.node.publishers import shown_voxels

KITTI = taxonomy.load("semantickitti")
GRID = VoxelGrid((1.0, -3.0, -2.0), (5, 4, 6), 0.5)
FREE, UNKNOWN, ROAD, CAR = 0, 255, KITTI.id("road"), KITTI.id("car")


def some_occupancy(seed: int = 0) -> Occupancy:
    labels = np.random.default_rng(seed).choice([FREE, UNKNOWN, UNKNOWN, UNKNOWN, ROAD, CAR], GRID.shape).astype(np.uint8)
    return Occupancy.of_volumes(
        labels, np.where(labels, 0.5, 0).astype(np.float16), GRID, KITTI, stamp=1_500_000_007, frame_id="base"
    )


def test_every_column_by_hand() -> None:
    occupancy = some_occupancy()
    # The band holds the cells with centres at -1.25 and -0.75: z = 1 and 2.
    found = costmap(occupancy, -1.3, -0.3, [ROAD])
    assert set(found.flat) == {-1, 0, 100}
    for x, y in itertools.product(range(5), range(4)):
        band = [int(occupancy.labels[x, y, z]) for z in (1, 2)]
        expected = 100 if CAR in band else 0 if FREE in band or ROAD in band else -1
        assert found[x, y] == expected, (x, y, band)


def test_what_is_not_drivable_is_an_obstacle() -> None:
    occupancy = some_occupancy()
    assert (costmap(occupancy, -3, 9, [])[(occupancy.labels == ROAD).any(axis=2)] == 100).all()
    assert (costmap(occupancy, 8, 9, [ROAD]) == -1).all()  # no cell is so high


def test_the_message_says_where_each_cell_lies() -> None:
    occupancy = some_occupancy(1)
    message = occupancy_grid(occupancy, -3, 9, [ROAD])
    assert (message.header.frame_id, message.header.stamp.sec, message.header.stamp.nanosec) == ("base", 1, 500_000_007)
    assert (message.info.width, message.info.height, message.info.resolution) == (5, 4, 0.5)
    assert (message.info.origin.position.x, message.info.origin.position.y, message.info.origin.orientation.w) == (1.0, -3.0, 1.0)
    expected = costmap(occupancy, -3, 9, [ROAD])
    for x, y in itertools.product(range(5), range(4)):
        assert message.data[y * 5 + x] == expected[x, y]  # nav_msgs: row-major, beginning with (0, 0), x first


def test_the_usual_drivable_classes() -> None:
    assert drivable_ids((), KITTI) == [KITTI.id("road"), KITTI.id("parking")]
    occ3d = taxonomy.load("occ3d_nuscenes")
    assert drivable_ids((), occ3d) == [occ3d.id("driveable_surface")]
    assert drivable_ids(("sidewalk",), KITTI) == [KITTI.id("sidewalk")]
    with pytest.raises(ConfigError, match=r"occupancy_grid\.drivable: the network has no class street; it has free, car"):
        drivable_ids(("street",), KITTI)


def test_the_map_is_driven_on_ground_alone() -> None:
    assert map_drivable(("sidewalk",), KITTI) == {"sidewalk"}
    assert map_drivable((), KITTI) == {"road", "parking", "sidewalk", "other-ground", "terrain"}
    with pytest.raises(ConfigError, match=r"building is no ground of class list semantickitti \(it has other-ground, parking,"):
        map_drivable(("road", "building"), KITTI)


def test_only_the_chosen_voxels_are_shown() -> None:
    occupancy = some_occupancy()
    assert shown_voxels(occupancy, NodeConfig()) is occupancy
    cars = shown_voxels(occupancy, NodeConfig.model_validate({"show": {"classes": ["car"]}}))
    assert np.array_equal(cars.occupied, occupancy.labels == CAR)
    assert np.array_equal(cars.confidence > 0, occupancy.labels == CAR)
    sure = shown_voxels(occupancy, NodeConfig.model_validate({"show": {"min_confidence": 0.6}}))
    assert not sure.occupied.any()
