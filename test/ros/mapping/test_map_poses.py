# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Where the live map takes the scans' poses from: cells lie where the robot's frames say, whichever LiDAR leads."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from queue import Queue
from typing import Any

import numpy as np
import pytest
import yaml
from lively import save_untrained
from nav_msgs.msg import Odometry
from node_rig import lively_occle, write_calibration
from rclpy.node import Node
from tf_messages import tf_message

from occle_core.mapping import RollingMap
from occle_core.predictor import Predictor
from occle_core.rig.pose import pose_matrix
from occle_core.sensors.transforms import TransformBuffer
from occle_ros.calibration.lidars import LidarPoses
from occle_ros.calibration.rig import Calibration
from occle_ros.config.loading import config_from_parameters
from occle_ros.config.node_config import NodeConfig
from occle_ros.mapping.runner import MapRunner
from occle_ros.messages.clouds import cloud_from_points
from occle_ros.messages.common import header
from occle_ros.messages.images import message_from_image
from occle_ros.pipeline.pipeline import Pipeline
from occle_ros.pipeline.statistics import Statistics
from occle_ros.sync.lidar_led import SyncedMessages
from occle_ros.system.ros_process import ros_node

pytestmark = [pytest.mark.ros, pytest.mark.timeout(60)]
SECOND = 1_000_000_000
T_WORLD_BASE, T_BASE_LIDAR = pose_matrix(9, 2, 0, 0, 0, 40), pose_matrix(0.5, 0, 1, 0, 5, 0)
T_LIDAR_REAR = pose_matrix(-2, 1, 0, 0, 0, 15)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("map_poses")
    save_untrained(folder / "bundle")
    return folder / "bundle"


@pytest.fixture
def node(ros_domain: int) -> Iterator[Node]:
    with ros_node("mapper") as made:
        yield made


def cloud(frame: str) -> Any:
    points = np.random.default_rng(0).uniform((5, -4, -1), (15, 4, 1), (500, 3)).astype(np.float32)
    return cloud_from_points(np.hstack([points, np.full((500, 1), 0.5, np.float32)]), SECOND, frame)


def pose_in_the_map(
    node: Node, bundle: Path, config: NodeConfig, frames: TransformBuffer, monkeypatch: pytest.MonkeyPatch,
    *synced: SyncedMessages[Any, Any], odometry: Sequence[Odometry] = (),
) -> tuple[str, np.ndarray]:  # fmt: skip
    """The map's frame, and T_world_grid that the last of some frames comes into the map with."""
    calibration = Calibration(config, frames)
    poses = LidarPoses(config, calibration)
    for message in odometry:
        poses.add_odometry(message)
    predictor = Predictor.load(bundle)
    pipeline = Pipeline(predictor, config, calibration, poses)
    *_, processed = map(pipeline.process, synced)
    found: Queue[tuple[str, np.ndarray]] = Queue()
    update = RollingMap.update
    monkeypatch.setattr(RollingMap, "update", lambda self, *given: (found.put((self.frame_id, given[-1])), update(self, *given))[1])
    runner = MapRunner(node, config, predictor.taxonomy, predictor.grid.resolution, Statistics(), lambda: frames)
    runner.check()
    runner.offer(processed)
    taken = found.get(timeout=20)
    runner.close(1.0)
    return taken


def test_the_map_stays_in_place_when_a_further_lidar_leads(node, bundle, monkeypatch):
    frames = TransformBuffer()
    frames.add(tf_message("odom", "base_link", T_WORLD_BASE, SECOND))
    frames.add(tf_message("base_link", "velodyne", T_BASE_LIDAR), fixed=True)
    frames.add(tf_message("velodyne", "rear", T_LIDAR_REAR), fixed=True)
    config = config_from_parameters(
        {"camera_names": [""], "lidar_names": ["rear"], "tf.grid_frame": "base_link", "map.update": "always"}
    )
    both = SyncedMessages(SECOND, cloud("velodyne"), (), {}, (cloud("rear"),))
    alone = SyncedMessages(SECOND, None, (), {"lidar": "stale"}, (cloud("rear"),))
    frame, T = pose_in_the_map(node, bundle, config, frames, monkeypatch, both, alone)
    assert frame == "odom"
    np.testing.assert_allclose(T, T_WORLD_BASE, atol=1e-6)


def test_a_rig_files_mounting_serves_the_map(node, bundle, monkeypatch, tmp_path):
    """TF has odometry's motion of the base alone; the mounting is in the rig file."""
    rig = {"base_frame": "body", "odometry": {"frame": "odom"}, "lidars": {"top": {"topic": "/top", "pose": T_BASE_LIDAR.tolist()}}}
    (tmp_path / "rig.yaml").write_text(yaml.safe_dump(rig))
    frames = TransformBuffer()
    frames.add(tf_message("odom", "body", T_WORLD_BASE, SECOND))
    config = config_from_parameters({"rig": str(tmp_path / "rig.yaml"), "map.update": "always"})
    _, T = pose_in_the_map(node, bundle, config, frames, monkeypatch, SyncedMessages(SECOND, cloud("any"), (), {}))
    np.testing.assert_allclose(T, T_WORLD_BASE, atol=1e-6)


def test_poses_in_another_frame_than_the_maps_are_not_taken_for_its_own(node, tmp_path, monkeypatch):
    """A network with a history gets its poses from a topic whose frame is its own: LiDAR odometry, often camera_init."""
    bundle, calibration = lively_occle(tmp_path / "occle"), write_calibration(tmp_path / "calibration.yaml")
    frames = TransformBuffer()
    frames.add(tf_message("odom", "velodyne", T_WORLD_BASE, SECOND))
    parameters = {"calibration_file": str(calibration), "lidar.odometry_topic": "/lio", "map.update": "always"}
    config = config_from_parameters({**parameters, "cameras.cam2.info_topic": ""})
    image = message_from_image(np.zeros((60, 160, 3), np.uint8), SECOND, "cam2")
    synced = SyncedMessages(SECOND, cloud("velodyne"), (image,), {})
    for frame_id, expected in (("camera_init", T_WORLD_BASE), ("odom", np.eye(4))):
        odometry = [Odometry(header=header(t * SECOND // 100, frame_id), child_frame_id="velodyne") for t in range(90, 110)]
        for message in odometry:
            message.pose.pose.orientation.w = 1.0
        frame, T = pose_in_the_map(node, bundle, config, frames, monkeypatch, synced, odometry=odometry)
        assert frame == "odom"
        np.testing.assert_allclose(T, expected, atol=1e-6)
