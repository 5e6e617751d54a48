# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Calibration and configuration of the node from a rig file."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import yaml
from calibration_rig import info
from lively import save_untrained
from nav_msgs.msg import Odometry
from tf_messages import tf_message

from occle_core.predictor import Predictor
from occle_core.rig.pose import pose_matrix
from occle_core.sensors.transforms import TransformBuffer
from occle_ros.calibration.files import CalibrationError
from occle_ros.calibration.lidars import LidarPoses
from occle_ros.calibration.rig import Calibration
from occle_ros.config.loading import config_from_parameters, load_config
from occle_ros.config.parameter_group import ConfigError
from occle_ros.messages.clouds import cloud_from_points
from occle_ros.pipeline.pipeline import Pipeline
from occle_ros.sync.lidar_led import SyncedMessages

T_BASE_LIDAR, T_BASE_CAMERA = pose_matrix(0.4, 0.1, 1.2, 1, 8, -20), pose_matrix(0.6, 0, 1, -95, 2, -80)
LENS = {"model": "equidistant", "fx": 80.0, "fy": 80.0, "cx": 80.0, "cy": 30.0, "distortion": [0.02, -0.004, 0.001, 0.0]}
FISH = {"topic": "/fish", "width": 160, "height": 60, "lens": LENS, "time_offset_ms": 12.0}


def rig_file(tmp_path: Path, camera: dict, posed: bool = True, **fields) -> Path:
    lidar = {"topic": "/top", "intensity_scale": 0.5, "exclude_box": [-1, -1, -1, 1, 1, 1]}
    if posed:
        lidar, camera = {**lidar, "pose": T_BASE_LIDAR.tolist()}, {**camera, "pose": T_BASE_CAMERA.tolist()}
    file = tmp_path / "rig.yaml"
    content = {
        "base_frame": "body",
        "odometry": {"frame": "world"},
        "lidars": {"top": lidar},
        "cameras": {"fish": camera},
        **fields,
    }
    file.write_text(yaml.safe_dump(content, sort_keys=False))
    return file


def test_a_rig_gives_topics_frames_and_tolerances(tmp_path):
    file = rig_file(tmp_path, FISH, tolerances={"camera_ms": 20.0, "deadline_ms": 80.0})
    config = load_config(None, file)
    assert (config.lidar.topic, config.lidar.intensity_scale, config.lidar.exclude_box) == ("/top", 0.5, (-1, -1, -1, 1, 1, 1))
    assert config.camera_names == ("fish",) and config.cameras["fish"].topic == "/fish"
    assert (config.cameras["fish"].info_topic, config.cameras["fish"].time_offset_ms) == ("", 12.0)
    assert (config.sync.tolerance_ms, config.sync.deadline_ms) == (20.0, 80.0)
    assert (config.tf.grid_frame, config.tf.world_frame) == ("body", "world")


def test_all_that_a_rig_says_of_a_further_lidar_reaches_the_node(tmp_path):
    """Also the offset of a clock of its own, which bags as data sets ask for."""
    box, pose = [-2.0, -1.0, 0.0, -0.5, 1.0, 1.0], pose_matrix(-0.5, 0, 0.7, 0, -10, 180)
    rear = {"topic": "/rear", "pose": pose.tolist(), "exclude_box": box, "time_offset_ms": 1.7e12, "stamp": "end"}
    file = rig_file(tmp_path, FISH)
    content = yaml.safe_load(file.read_text())
    content["lidars"]["rear"] = rear
    content["cameras"]["fish"]["time_offset_ms"] = -1.7e12
    file.write_text(yaml.safe_dump(content, sort_keys=False))
    config = load_config(None, file)
    found = config.lidars["rear"]
    assert (found.topic, found.exclude_box, found.time_offset_ms, found.stamp) == ("/rear", tuple(box), 1.7e12, "end")
    np.testing.assert_allclose(np.reshape(found.T_lidar, (4, 4)), np.linalg.solve(T_BASE_LIDAR, pose), atol=1e-12)
    assert config.cameras["fish"].time_offset_ms == -1.7e12
    del content["lidars"]["top"]["pose"], content["cameras"]["fish"]["pose"]
    file.write_text(yaml.safe_dump(content, sort_keys=False))
    with pytest.raises(ConfigError, match=r"lidars\.rear\.pose needs lidars\.top\.pose: give both"):
        load_config(None, file)


def test_parameters_beside_the_rig_take_precedence(tmp_path):
    flat = {"rig": str(rig_file(tmp_path, FISH)), "lidar.topic": "/other", "camera_names": [""], "tf.world_frame": "map"}
    config = config_from_parameters(flat)
    assert (config.lidar.topic, config.lidar.intensity_scale, config.camera_names) == ("/other", 0.5, ())
    assert config.tf.world_frame == "map"


def test_poses_and_lens_of_the_rig(tmp_path):
    calibration = Calibration(load_config(None, rig_file(tmp_path, FISH)))
    rig = calibration.rig("any_frame")
    assert not calibration.needs_transforms and not rig.masked
    assert np.array_equal(rig.T_grid_lidar, T_BASE_LIDAR) and rig.grid_frame == "body"
    (camera,), (lens,) = rig.cameras, rig.lenses
    assert camera is not None and lens is not None and lens.maps is not None
    assert np.allclose(camera.T_camera_lidar, np.linalg.solve(T_BASE_CAMERA, T_BASE_LIDAR), atol=1e-12)
    # A ray 40 degrees off the axis falls where Kannala-Brandt's polynomial says; the map leads there from the pinhole's pixel.
    theta = np.radians(40)
    k = LENS["distortion"]
    recorded = 80 + 80 * theta * (1 + k[0] * theta**2 + k[1] * theta**4 + k[2] * theta**6 + k[3] * theta**8)
    column = 80 + 80 * np.tan(theta)
    at = round(column)
    assert abs(lens.maps[0][30, at, 0] - recorded) < 1.5


def test_a_camera_info_replaces_the_lens(tmp_path):
    calibration = Calibration(load_config(None, rig_file(tmp_path, {**FISH, "info_topic": "/info"})))
    assert calibration.rig("x").lenses[0].name == "the lens of fish in the rig file"
    calibration.add_camera_info("fish", info())
    assert calibration.rig("x").lenses[0].maps is None


def test_without_poses_tf_is_asked_for_the_frames_of_the_rig(tmp_path):
    frames = TransformBuffer()
    frames.add(tf_message("body", "lidar_link", T_BASE_LIDAR), fixed=True)
    frames.add(tf_message("body", "fish_optical", T_BASE_CAMERA), fixed=True)
    config = load_config(None, rig_file(tmp_path, {**FISH, "frame": "fish_optical"}, posed=False))
    rig = Calibration(config, frames).rig("lidar_link", 5)
    assert np.allclose(rig.T_grid_lidar, T_BASE_LIDAR, atol=1e-9) and not rig.masked
    assert np.allclose(rig.cameras[0].T_camera_lidar, np.linalg.solve(T_BASE_CAMERA, T_BASE_LIDAR), atol=1e-9)
    unnamed = Calibration(load_config(None, rig_file(tmp_path, FISH, posed=False)), frames).rig("lidar_link", 5)
    assert unnamed.masked == {"fish": "no_transform"}
    assert "give cameras.fish.frame or its pose in" in unnamed.problems["fish"]


def test_a_rig_that_is_none_is_a_configuration_error(tmp_path):
    with pytest.raises(ConfigError, match=r"parameter rig: there is no 'gone\.yaml'"):
        config_from_parameters({"rig": "gone.yaml"})
    file = tmp_path / "rig.yaml"
    file.write_text("lidars: {}")
    with pytest.raises(ConfigError, match=r"parameter rig: rig file .*: lidars"):
        load_config(None, file)


def test_a_grid_that_the_network_does_not_have_is_said_with_the_first_frame(tmp_path):
    """The node and `occle run` log a subject once; voxels are on the network's grid."""
    save_untrained(tmp_path / "bundle")
    predictor = Predictor.load(tmp_path / "bundle")
    own = {"origin": list(predictor.grid.origin), "shape": list(predictor.grid.shape), "resolution": predictor.grid.resolution}
    points = np.random.default_rng(0).uniform((5, -4, -1), (15, 4, 1), (500, 3)).astype(np.float32)
    scan = cloud_from_points(np.hstack([points, np.full((500, 1), 0.5, np.float32)]), 0, "top")
    for grid, words in (
        (own, None),
        (None, None),
        ({**own, "resolution": 0.8}, r"rig file's grid, .* cells of 0\.8 m .*fit --rig"),
    ):
        config = load_config(None, rig_file(tmp_path, FISH, **({"grid": grid} if grid else {})))
        said = Pipeline(predictor, config, Calibration(config)).process(SyncedMessages(0, scan, (None,), {})).assembled.warnings
        assert said.keys() == ({"grid"} if words else set())
        assert words is None or re.search(words, said["grid"])


@pytest.mark.parametrize("by_topic", [True, False])
def test_poses_of_the_scans_are_those_of_the_base_with_the_rigs_mounting(tmp_path, by_topic):
    """By odometry's topic or by TF; neither says where the LiDAR is."""
    odometry = {"frame": "world", **({"topic": "/odom"} if by_topic else {})}
    config = load_config(None, rig_file(tmp_path, FISH, odometry=odometry))
    frames = TransformBuffer()
    poses = LidarPoses(config, Calibration(config, frames))
    T_world_base = pose_matrix(3, 4, 0, 0, 0, 30)
    for second in (10, 11):
        moving = tf_message("world", "body", T_world_base, second * 10**9)
        if by_topic:
            transform = moving.transforms[0]
            message = Odometry(header=transform.header, child_frame_id="body")
            for axis in "xyz":
                setattr(message.pose.pose.position, axis, getattr(transform.transform.translation, axis))
            message.pose.pose.orientation = transform.transform.rotation
            poses.add_odometry(message)
        else:
            frames.add(moving)
    assert np.allclose(poses.pose("any_lidar", 10_500_000_000), T_world_base @ T_BASE_LIDAR, atol=1e-6)


def test_further_lidars_have_their_mounting_from_the_rig(tmp_path):
    rear = {"topic": "/rear", "pose": pose_matrix(-1, 0, 1, 0, 0, 180).tolist(), "time_offset_ms": 3.0, "time_field": "t"}
    top = {"topic": "/top", "pose": T_BASE_LIDAR.tolist()}
    config = load_config(None, rig_file(tmp_path, FISH, lidars={"top": top, "rear": rear}))
    assert config.lidar_names == ("rear",) and config.lidars["rear"].topic == "/rear"
    assert (config.lidars["rear"].time_offset_ms, config.lidars["rear"].time_field) == (3.0, "t")
    expected = np.linalg.inv(T_BASE_LIDAR) @ pose_matrix(-1, 0, 1, 0, 0, 180)
    assert np.allclose(LidarPoses(config, Calibration(config)).mounting("rear", "a", "b", 0), expected, atol=1e-9)


def test_a_calibration_file_precedes_the_rig(tmp_path):
    file = tmp_path / "calibration.yaml"
    file.write_text(yaml.safe_dump({"grid_frame": "file_frame", "T_grid_lidar": np.eye(4).tolist(), "cameras": {}}))
    flat = {"rig": str(rig_file(tmp_path, FISH)), "calibration_file": str(file)}
    with pytest.raises(CalibrationError, match="has no camera 'fish'"):
        Calibration(config_from_parameters(flat))
    rig = Calibration(config_from_parameters({**flat, "camera_names": [""]})).rig("x")
    assert np.array_equal(rig.T_grid_lidar, np.eye(4)) and rig.grid_frame == "file_frame"
