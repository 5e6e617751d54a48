"""A simulated robot drives on the map's costmap: no collision, where the single frame's costmap fails or dawdles."""

import pytest
from street_robot import drive


def test_a_robot_arrives_on_the_maps_costmap():
    assert drive(0, use_map=True)[0] == "arrived"


@pytest.mark.slow
def test_ten_streets_without_collision_and_the_single_frame_beside_them(capsys):
    mapped, single = [drive(seed, True) for seed in range(10)], [drive(seed, False) for seed in range(10)]
    with capsys.disabled():
        for name, runs in (("map", mapped), ("single frame", single)):
            ends = [end for end, _ in runs]
            times = [seconds for end, seconds in runs if end == "arrived"]
            print(f"{name}: {ends.count('arrived')} arrived, {ends.count('collision')} collisions, {times} s")
    assert [end for end, _ in mapped] == ["arrived"] * 10
    assert [end for end, _ in single].count("arrived") < 10
