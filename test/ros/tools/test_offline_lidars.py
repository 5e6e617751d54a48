# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""`occle run` over a bag of two LiDARs with times of points, and odometry."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lidar_rig import START, T_LIDAR_REAR, driven, in_the_frame, main_scan, odometry, rear_scan
from node_rig import lively_bundle
from rclpy.serialization import serialize_message

from occle_core.bags.storage import TYPES, BagError
from occle_core.sensors.messages import stamp_of
from occle_ros.bags.converter import new_bag, offered_qos
from occle_ros.bags.reader import BagReader
from occle_ros.config.node_config import NodeConfig
from occle_ros.pipeline.assemble import assemble
from occle_ros.tools.offline_run import run_bag
from occle_ros.tools.run_report import report_lines

pytestmark = pytest.mark.ros
SETTINGS: dict[str, Any] = {
    "camera_names": [],
    "T_grid_lidar": np.eye(4).reshape(-1).tolist(),
    "lidar": {"odometry_topic": "/odom"},
    "lidar_names": ["rear"],
    "lidars": {"rear": {"T_lidar": T_LIDAR_REAR.reshape(-1).tolist()}},
}


@pytest.fixture(scope="module")
def bag(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six turns at 10 Hz; the rear LiDAR is 30 ms late and has no third, odometry ends with the fifth."""
    out = tmp_path_factory.mktemp("lidars") / "bag"
    kinds = {"/lidar/points": "sensor_msgs/msg/PointCloud2", "/rear/points": "sensor_msgs/msg/PointCloud2",
             "/odom": "nav_msgs/msg/Odometry"}  # fmt: skip
    messages = [("/odom", odometry(second, "velodyne")) for second in driven(last=0.5)]
    for number in range(6):
        messages.append(("/lidar/points", main_scan(0.1 * number + 0.2 * (number == 5))[0]))
        if number != 2:
            messages.append(("/rear/points", rear_scan(0.1 * number + 0.03)[0]))
    with new_bag(out) as writer:
        topics = {
            topic: writer.add_connection(topic, kind, typestore=TYPES, offered_qos_profiles=[offered_qos()])
            for topic, kind in kinds.items()
        }
        for topic, message in sorted(messages, key=lambda one: stamp_of(one[1])):
            writer.write(topics[topic], stamp_of(message), serialize_message(message))
    return out


def test_frames_of_a_bag_are_merged_and_compensated(bag: Path) -> None:
    reader = BagReader(bag, NodeConfig.model_validate(SETTINGS))
    frames = {}
    for synced in reader.synced():
        rig = reader.calibration.rig("velodyne", synced.stamp)
        frames[round((synced.stamp - START) / 1e8)] = assemble(synced, rig, reader.config, reader.poses, "velodyne")
    assert list(frames) == [0, 1, 2, 3, 4, 7] and len(reader) == 6
    for number in (0, 1, 3):
        seen = np.concatenate([main_scan(0.1 * number)[1], rear_scan(0.1 * number + 0.03)[1]])
        found = frames[number].frame.points[:, :3]
        assert np.linalg.norm(found - in_the_frame(seen, 0.1 * number), axis=1).max() < 0.005
    assert [dict(frame.masked) for frame in frames.values()] == [{}, {}, {"rear": "out_of_tolerance"}, {}, {}, {"rear": "stale"}]
    assert [frame.deskew for frame in frames.values()] == ["", "", "", "", "", "no_pose"]


def test_the_run_counts_and_says_what_was_missing(bag: Path, tmp_path: Path) -> None:
    bundle = lively_bundle(tmp_path / "bundle")
    summary = run_bag(bag, bundle, tmp_path / "out", NodeConfig.model_validate(SETTINGS))
    assert (summary.frames, summary.failed) == (6, ())
    assert summary.counts["masked"] == {"rear:out_of_tolerance": 1, "rear:stale": 1}
    assert summary.counts["deskew"] == {"no_pose": 1}
    notes = "\n".join(summary.notes)
    assert "the points' times of rear: field 'time' float32: relative, in s; the stamp is the scan's start" in notes
    assert "scans are not compensated for motion: the transform odom -> velodyne is known from 0.800 to 1.500 s" in notes
    assert "  frames not compensated for motion: 1 no pose" in list(report_lines(summary))


def test_topics_that_are_not_there(bag: Path) -> None:
    settings = SETTINGS | {"lidars": {"rear": {"topic": "/side/points"}}, "lidar": {"odometry_topic": "/odometry"}}
    with pytest.raises(BagError, match=r"lacks /side/points \(sensor_msgs/msg/PointCloud2\), /odometry \(nav_msgs/msg/Odometry\)"):
        BagReader(bag, NodeConfig.model_validate(settings))
