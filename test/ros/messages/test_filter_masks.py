# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Masks of nav2's costmap filters, read by the rules of KeepoutFilter and SpeedFilter (nav2_costmap_2d, its source of 2026)."""

from __future__ import annotations

import numpy as np
import pytest
from nav_msgs.msg import OccupancyGrid

from occle_core import taxonomy
from occle_core.geometry.grid import VoxelGrid
from occle_core.mapping import MapConfig, MapSnapshot
from occle_ros.messages.filter_masks import keepout_mask, speed_mask

CLASSES = taxonomy.load("semantickitti")
GRID = VoxelGrid((-4.0, 2.0, -1.2), (30, 20, 5), 0.4)
NO_INFORMATION, FREE, LETHAL = 255, 0, 254


def map_of(cells: dict[tuple[int, int, int], str], log_odds: int = 48) -> MapSnapshot:
    labels, held = np.full(GRID.shape, 255, np.uint8), np.zeros(GRID.shape, np.int8)
    for cell, name in cells.items():
        labels[cell], held[cell] = CLASSES.id(name), log_odds
    config = MapConfig(size=(12.0, 8.0, 2.0))
    return MapSnapshot(held, labels, np.zeros(GRID.shape, np.uint8), GRID, CLASSES, config, 5, frame_id="odom")


def at(mask: OccupancyGrid, x: float, y: float) -> int:
    """Value at a point, as nav2 finds it: row-major along x from the origin's corner."""
    i = int((x - mask.info.origin.position.x) / mask.info.resolution)
    j = int((y - mask.info.origin.position.y) / mask.info.resolution)
    return int(mask.data[j * mask.info.width + i])


def keepout(value: int, cost: int) -> int:
    """KeepoutFilter: a mask's value over a cost of the costmap."""
    if value == -1:
        return cost
    data = round(value * LETHAL / 100)
    return data if data > cost or cost == NO_INFORMATION else cost


def speed_limit(value: int, base: float = 0.0, multiplier: float = 1.0) -> float | None:
    """SpeedFilter: percent of the maximum speed where the robot stands; None: no limit.

    Raises:
        ValueError: the filter reports an error.
    """
    if value == -1:
        raise ValueError("unknown cell in the mask")
    return value * multiplier + base if value else None


def test_keepout_is_lethal_on_the_classes_and_changes_nothing_elsewhere() -> None:
    shot = map_of({(3, 4, 0): "sidewalk", (10, 4, 0): "road", (20, 15, 3): "sidewalk"})
    mask = keepout_mask(shot, {"sidewalk", "terrain"})
    assert (mask.header.frame_id, mask.info.width, mask.info.height) == ("odom", 30, 20)
    for cell in ((3, 4), (20, 15)):
        x, y = (np.array(cell) + 0.5) * 0.4 + GRID.origin[:2]
        assert [keepout(at(mask, x, y), cost) for cost in (FREE, 100, NO_INFORMATION)] == [LETHAL] * 3
    elsewhere = np.asarray(mask.data)[np.asarray(mask.data) != 100]
    assert len(elsewhere) == 598
    assert all(keepout(int(value), cost) == cost for value in set(elsewhere) for cost in (FREE, 100, LETHAL, NO_INFORMATION))


def test_cells_that_are_not_occupied_and_other_classes_keep_nobody_out() -> None:
    assert set(keepout_mask(map_of({(3, 4, 0): "sidewalk"}, log_odds=-8), {"sidewalk"}).data) == {-1}
    assert set(keepout_mask(map_of({(3, 4, 0): "road"}), {"sidewalk"}).data) == {-1}
    assert set(keepout_mask(map_of({(3, 4, 0): "sidewalk"}), set()).data) == {-1}


@pytest.mark.parametrize(("distance", "percent"), [(0.0, 1), (2.0, 30), (3.3, 100)])
def test_the_robot_is_slow_within_the_distance(distance: float, percent: int) -> None:
    shot = map_of({(15, 10, 2): "person", (2, 2, 1): "car"})
    mask = speed_mask(shot, {"person"}, distance, percent)
    person = (np.array((15, 10)) + 0.5) * 0.4 + GRID.origin[:2]
    for i in range(30):
        for j in range(20):
            x, y = (np.array((i, j)) + 0.5) * 0.4 + GRID.origin[:2]
            near = np.hypot(x - person[0], y - person[1]) <= distance + 1e-6
            assert speed_limit(at(mask, x, y)) == (percent if near else None)


def test_nobody_around_means_no_limit() -> None:
    mask = speed_mask(map_of({(2, 2, 1): "car"}), {"person"}, 5.0, 30)
    assert {speed_limit(int(value)) for value in set(mask.data)} == {None}
