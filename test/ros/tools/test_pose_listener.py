# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""`occle doctor` on poses: rate, age, jumps, and whether the map can work."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from tf_messages import tf_message

from occle_core.sensors.transforms import TransformBuffer
from occle_ros.config.node_config import NodeConfig
from occle_ros.tools.pose_listener import PoseListener

MS = 1_000_000
SCANS = [number * 100 * MS for number in range(1, 20)]
SCAN = SimpleNamespace(header=SimpleNamespace(frame_id="velodyne"))


def judged(every: int = 20, late: int = 5, jump: float = 0.0, gap: tuple[int, int] = (0, 0), scan: str = "velodyne",
           body: str = "", **given):  # fmt: skip
    """The verdict on two seconds of poses, odom -> base_link at a fixed rate, base_link -> velodyne fixed.

    Args:
        every: milliseconds between poses. late: milliseconds from a stamp to its arrival. jump: metres, at one second.
        gap: milliseconds between which no pose comes. scan: frame of the scans.
        body: that a rig file mounts them on. given: parameters.
    """
    buffer, clock = TransformBuffer(), SimpleNamespace(time=0)
    clock.now = lambda: clock.time
    fixed, T = np.eye(4), np.eye(4)
    buffer.add(tf_message("base_link", "velodyne", fixed), fixed=True)
    listener = PoseListener(buffer, NodeConfig.model_validate(given), clock, body)
    scan_message = SimpleNamespace(header=SimpleNamespace(frame_id=scan))
    for stamp in range(0, 2000, every):
        if gap[0] <= stamp < gap[1]:
            continue
        T[0, 3] = 0.005 * stamp + (jump if stamp >= 1000 else 0.0)
        buffer.add(tf_message("odom", "base_link", T, stamp * MS))
        clock.time = (stamp + late) * MS
        listener.sample(scan_message)
        listener.sample(scan_message)  # another message, no new pose
    return listener.verdict(SCANS)


def test_good_poses():
    note, problem = judged()
    assert problem is None
    assert note == "poses odom -> velodyne: 50.0 Hz, 5 ms old; 19 of 19 scans have a pose: the map can work"
    note, problem = judged(scan="only_in_the_rig_file", body="base_link")
    assert problem is None
    assert note == "poses odom -> base_link: 50.0 Hz, 5 ms old; 19 of 19 scans have a pose: the map can work"


@pytest.mark.parametrize(
    ("given", "text", "remedy"),
    [
        ({"jump": 30.0}, "the pose jumped 1 times, by up to 30.5 m", "tf.world_frame to a continuous frame"),
        ({"late": 400}, "poses are 0.40 s old when they arrive", "map.pose_timeout_ms:=800"),
        ({"gap": (400, 1800)}, "no pose came for 1.4 s", "without gaps"),
        ({"every": 500}, "poses come at 2.0 Hz", "publish them at 5 Hz"),
    ],
)
def test_poses_that_the_map_works_badly_with(given, text, remedy):
    note, problem = judged(**given)
    assert text in problem.text and remedy in problem.remedy
    assert "works badly" in note


def test_without_poses_the_map_cannot_work():
    note, problem = judged(scan="other")
    assert note == "the map cannot work" and "the scans have no pose: no transform from 'other' to 'odom'" in problem.text
    assert "/tf (odometry)" in problem.remedy
    listener = PoseListener(None, NodeConfig(), SimpleNamespace())
    listener.sample(SCAN)
    assert "tf2_msgs is not installed" in listener.verdict(SCANS)[1].text


def test_scans_in_the_world_frame_need_none():
    note, problem = judged(tf={"world_frame": "velodyne"})
    assert problem is None and "can work" in note


def test_the_newest_stamp_is_that_of_the_slowest_link():
    buffer = TransformBuffer()
    assert buffer.latest("odom", "velodyne") is None
    buffer.add(tf_message("base_link", "velodyne", np.eye(4)), fixed=True)
    assert buffer.latest("base_link", "velodyne") is None  # constant
    buffer.add(tf_message("odom", "base_link", np.eye(4), 5 * MS))
    buffer.add(tf_message("odom", "base_link", np.eye(4), 3 * MS))
    buffer.add(tf_message("map", "odom", np.eye(4), 2 * MS))
    assert (buffer.latest("odom", "velodyne"), buffer.latest("map", "velodyne")) == (5 * MS, 2 * MS)
