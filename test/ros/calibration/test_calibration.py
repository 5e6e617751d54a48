# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Where the calibration comes from, and what the node does while it is not there."""

from __future__ import annotations

import numpy as np
import pytest
from calibration_rig import CAMERA, T_CAMERA_LIDAR, by_tf, config, info, moved, with_extrinsics
from tf_messages import tf_message

from occle_core.geometry.camera import Camera
from occle_core.sensors.transforms import TransformError
from occle_ros.calibration import rig as rig_module
from occle_ros.calibration.files import CalibrationError
from occle_ros.calibration.rig import Calibration, is_rectified
from occle_ros.config.node_config import NodeConfig

SECOND = 1_000_000_000


class Frames:
    """TF of which the test decides when it arrives."""

    def __init__(self) -> None:
        self.known: dict[tuple[str, str], np.ndarray] = {}

    def lookup(self, target: str, source: str, stamp: int | None = None, slack: int = 0) -> np.ndarray:
        if (target, source) not in self.known:
            raise TransformError(f"no transform from {source!r} to {target!r}")
        return self.known[target, source]


def test_camera_info_that_is_missing_then_arrives_then_changes():
    calibration = Calibration(with_extrinsics())
    rig = calibration.rig("velodyne")
    assert rig.cameras == (None,) and rig.lenses == (None,) and rig.masked == {"cam2": "no_camera_info"}
    assert "cam2/camera_info (parameter cameras.cam2.info_topic)" in rig.problems["cam2"]
    assert calibration.add_camera_info("cam2", info()) is False  # nothing was replaced
    first = calibration.rig("velodyne")
    np.testing.assert_array_equal(first.cameras[0].K, CAMERA.K)
    assert not first.masked and not first.problems
    assert calibration.add_camera_info("cam2", info()) is False  # the same again
    assert calibration.rig("velodyne").cameras[0] is first.cameras[0]
    zoomed = Camera(CAMERA.K * [[2], [2], [1]], T_CAMERA_LIDAR, 160, 60)
    assert calibration.add_camera_info("cam2", info(zoomed)) is True
    np.testing.assert_array_equal(calibration.rig("velodyne").cameras[0].K, zoomed.K)


def test_a_camera_info_that_arrives_while_the_one_before_is_worked_on_counts(monkeypatch):
    """Messages arrive in the executor's thread; the maps of a lens are made in the network's."""
    calibration = Calibration(with_extrinsics(info_topic="/info"))
    calibration.add_camera_info("cam2", info())
    make = rig_module.lens_from_info

    def slow(message, rectified):
        lens = make(message, rectified)
        calibration.add_camera_info("cam2", info(CAMERA.resized(320, 120)))
        return lens

    monkeypatch.setattr(rig_module, "lens_from_info", slow)
    assert [calibration.rig("velodyne").cameras[0].width for _ in range(3)] == [160, 320, 320]


def test_a_pose_is_looked_up_only_where_it_is_wanted_and_its_absence_is_told():
    frames = Frames()
    calibration = Calibration(with_extrinsics(), frames)
    assert calibration.rig("velodyne").T_world_lidar is None and calibration.rig("velodyne").pose_problem == ""
    rig = calibration.rig("velodyne", 5, pose=True)
    assert rig.T_world_lidar is None
    assert "no transform from 'velodyne' to 'odom'" in rig.pose_problem and "tf.world_frame" in rig.pose_problem
    frames.known["odom", "velodyne"] = np.diag([1.0, 1, 1, 1])
    assert calibration.rig("velodyne", 5, pose=True).pose_problem == ""
    np.testing.assert_array_equal(calibration.rig("velodyne", 5, pose=True).T_world_lidar, np.eye(4))
    assert "TF is not in use" in Calibration(with_extrinsics()).rig("velodyne", 5, pose=True).pose_problem


def test_an_unusable_camera_info_masks_its_camera_only():
    calibration = Calibration(with_extrinsics())
    calibration.add_camera_info("cam2", info(distortion_model="odd", d=[1.0]))
    rig = calibration.rig("velodyne")
    assert rig.cameras == (None,) and rig.masked == {"cam2": "unusable_camera_info"}
    assert "distortion model 'odd'" in rig.problems["cam2"]


def test_transforms_that_are_missing_then_arrive():
    frames = Frames()
    calibration = Calibration(NodeConfig.model_validate({"tf": {"grid_frame": "base_link"}}), frames)
    assert calibration.needs_transforms
    with pytest.raises(CalibrationError, match="no transform from 'velodyne' to 'base_link'"):
        calibration.rig("velodyne")
    frames.known["base_link", "velodyne"] = np.diag([1.0, 1, 1, 1])
    calibration.add_camera_info("cam2", info())
    rig = calibration.rig("velodyne")
    assert rig.masked == {"cam2": "no_transform"} and "'cam2_optical'" in rig.problems["cam2"]
    frames.known["cam2_optical", "velodyne"] = T_CAMERA_LIDAR
    rig = calibration.rig("velodyne")
    assert not rig.masked and rig.grid_frame == "base_link"
    np.testing.assert_array_equal(rig.cameras[0].T_camera_lidar, T_CAMERA_LIDAR)


def test_p_leads_from_tfs_frame_to_the_camera_but_not_from_a_given_pose():
    stereo = info()
    stereo.p[3] = -80.0 * 0.5
    frames = Frames()
    frames.known["cam2_optical", "velodyne"] = T_CAMERA_LIDAR
    by_tf = Calibration(config(), frames)
    given = Calibration(with_extrinsics(), frames)
    for calibration in (by_tf, given):
        calibration.add_camera_info("cam2", stereo)
    np.testing.assert_allclose(by_tf.rig("velodyne").cameras[0].T_camera_lidar[:3, 3], [-0.5, 0, -0.2])
    np.testing.assert_allclose(given.rig("velodyne").cameras[0].T_camera_lidar, T_CAMERA_LIDAR)


def test_two_lidars_on_one_topic_have_a_pose_each():
    front, rear = moved(2), moved(-2, np.pi)
    T_base_camera = np.linalg.inv(T_CAMERA_LIDAR)
    calibration, _ = by_tf(("base_link", "front", front), ("base_link", "rear", rear), ("base_link", "cam2_optical", T_base_camera))
    calibration.add_camera_info("cam2", info())
    for _ in range(2):
        for frame, T in (("front", front), ("rear", rear), ("/rear", rear)):
            rig = calibration.rig(frame, 5)
            np.testing.assert_allclose(rig.T_grid_lidar, T, atol=1e-12)
            np.testing.assert_allclose(rig.cameras[0].T_camera_lidar, T_CAMERA_LIDAR @ T, atol=1e-12)
    assert calibration.rig("rear", 5).cameras[0] is calibration.rig("rear", 6).cameras[0]


def test_a_static_transform_that_is_sent_again_with_other_numbers_counts():
    """depthai publishes the factory calibration some seconds after a default one."""
    calibration, transforms = by_tf(("base_link", "velodyne", moved(0)), ("velodyne", "cam2_optical", moved(0.1)))
    calibration.add_camera_info("cam2", info())
    assert calibration.rig("velodyne", 5).cameras[0].T_camera_lidar[0, 3] == pytest.approx(-0.1)
    transforms.add(tf_message("velodyne", "cam2_optical", moved(0.2)), fixed=True)
    transforms.add(tf_message("base_link", "velodyne", moved(1)), fixed=True)
    rig = calibration.rig("velodyne", 5)
    assert (rig.cameras[0].T_camera_lidar[0, 3], rig.T_grid_lidar[0, 3]) == (pytest.approx(-0.2), 1.0)


def test_a_lidar_on_a_mast_is_where_the_mast_was_at_the_scans_time():
    calibration, transforms = by_tf(("mast", "velodyne", moved(0.5)), ("base_link", "cam2_optical", moved(0)))
    calibration.add_camera_info("cam2", info())
    for tenth in range(4):
        transforms.add(tf_message("base_link", "mast", moved(tenth / 10), SECOND + tenth * SECOND // 10))
    for seconds, x in ((1.0, 0.5), (1.15, 0.65), (1.3, 0.8)):
        rig = calibration.rig("velodyne", round(seconds * SECOND))
        assert rig.T_grid_lidar[0, 3] == pytest.approx(x) == rig.cameras[0].T_camera_lidar[0, 3]
        assert rig.notes == ()
    assert calibration.rig("velodyne").T_grid_lidar[0, 3] == pytest.approx(0.8)  # without a time: the latest
    rig = calibration.rig("velodyne", round(1.7 * SECOND))  # the next transform is on its way
    assert rig.T_grid_lidar[0, 3] == pytest.approx(0.8) and "base_link -> mast" in rig.notes[0]
    with pytest.raises(CalibrationError, match=r"base_link -> mast is known from 1\.000 to 1\.300 s, not at 2\.000 s"):
        calibration.rig("velodyne", 2 * SECOND)


@pytest.mark.parametrize(
    ("topic", "expected"),
    [
        ("/cam2/image", False),
        ("/cam2/image_raw", False),
        ("/cam2/image_rect", True),
        ("/cam2/image_rect_color/compressed", True),
        ("/rectified/cam2", True),
        ("/rect/image", True),
        ("/direct_cam/image", False),
        ("/rectangle/image", False),
    ],
)
def test_topics_of_rectified_images(topic, expected):
    assert is_rectified(topic) is expected


def test_image_rect_topics_are_not_rectified_twice():
    distorted = info(d=[-0.3, 0.1, 0.0, 0.0, 0.0])
    for topic, is_mapped in (("/cam2/image_raw", True), ("/cam2/image_rect", False)):
        calibration = Calibration(with_extrinsics(topic=topic))
        calibration.add_camera_info("cam2", distorted)
        assert (calibration.rig("velodyne").lenses[0].maps is not None) is is_mapped
