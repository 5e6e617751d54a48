# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""A simulated robot drives on the map's costmap: no collision, where the single frame's costmap fails or dawdles."""

import pytest

from benchmark.mapping.street_robot import NodesGrid, drive


def test_a_robot_arrives_on_the_maps_costmap():
    assert drive(0)[0] == "arrived"


@pytest.mark.slow
def test_ten_streets_without_collision_where_the_single_frame_fails():
    assert [drive(seed)[0] for seed in range(10)] == ["arrived"] * 10
    assert [drive(seed, use_map=False)[0] for seed in range(10)].count("arrived") < 10


@pytest.mark.slow
def test_ten_streets_without_collision_on_what_nav2_has_of_the_messages():
    ends = [drive(seed, NodesGrid())[0] for seed in range(10)]
    assert "collision" not in ends and ends.count("arrived") >= 9  # in street 5 it waits for a gap that stays too narrow
