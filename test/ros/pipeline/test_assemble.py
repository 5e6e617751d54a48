# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Frames assembled from messages: decoded, rectified, masked with a reason."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pytest
from calibration_rig import CAMERA, IMAGE, by_tf, config, info, moved, with_extrinsics
from sensor_msgs.msg import CameraInfo

from occle_core.frame import FrameError
from occle_core.sensors.messages import ConversionError
from occle_ros.calibration.rig import Calibration
from occle_ros.config.node_config import NodeConfig
from occle_ros.messages.clouds import cloud_from_points
from occle_ros.messages.images import compressed_message, message_from_image
from occle_ros.pipeline.assemble import assemble
from occle_ros.sync.lidar_led import SyncedMessages

SCAN = cloud_from_points(np.array([[8, 0, 0, 0.5], [np.nan, 0, 0, 0]], np.float32), 5, "velodyne")


def assembled(image, message_info: CameraInfo | None = None, masked: dict[str, str] | None = None):
    settings = with_extrinsics()
    calibration = Calibration(settings)
    calibration.add_camera_info("cam2", message_info or info())
    return assemble(SyncedMessages(5, SCAN, (image,), masked or {}), calibration.rig("velodyne"), settings)


def test_images_in_another_frame_than_their_camera_info_are_mentioned_where_tf_poses_the_camera():
    calibration, _ = by_tf(("base_link", "velodyne", moved(0)), ("velodyne", "cam2_optical", moved(0.1)))
    calibration.add_camera_info("cam2", info())
    for frame, is_noted in (("cam2_optical", False), ("/cam2_optical", False), ("", False), ("cam2_link", True)):
        image = message_from_image(IMAGE, 5, frame)
        result = assemble(SyncedMessages(5, SCAN, (image,), {}), calibration.rig("velodyne", 5), NodeConfig())
        assert bool(result.notes) is is_noted and not result.masked
    assert "images of cam2 are in frame 'cam2_link', their CameraInfo is in 'cam2_optical'" in result.notes[0]
    given = assembled(message_from_image(IMAGE, 5, "cam2_link"))
    assert given.notes == ()


def test_a_frame_of_messages():
    result = assembled(message_from_image(IMAGE, 5, "cam2_optical"))
    result.frame.check()
    np.testing.assert_array_equal(result.frame.images[0], IMAGE)
    assert result.dropped_points == {"not_finite": 1} and len(result.frame.points) == 1
    assert not result.masked and not result.problems and result.frame.stamp == 5


def test_the_robots_body_is_left_out_in_the_grids_frame():
    T_grid_lidar = np.eye(4)
    T_grid_lidar[:3, 3] = 1, 0, 1.8
    settings = config(T_grid_lidar=T_grid_lidar.reshape(-1).tolist(), camera_names=[], lidar={"exclude_box": [0, -1, 0, 2, 1, 1]})
    points = np.array([[0, 0, -1.5, 0.5], [0, 0, 1.5, 0.5], [5, 0, -1.5, 0.5], [0, 0, 0, 0]], np.float32)
    rig = Calibration(settings).rig("velodyne")

    def made(rows: list[int]):
        return assemble(SyncedMessages(5, cloud_from_points(points[rows], 5, "velodyne"), (), {}), rig, settings)

    result = made([0, 1, 2, 3])
    np.testing.assert_array_equal(result.frame.points, points[[1, 2]])
    assert result.dropped_points == {"no_return": 1, "exclude_box": 1}
    with pytest.raises(FrameError, match=r"no point of the scan is left: 1 no returns \(0, 0, 0\), 1 in lidar.exclude_box"):
        made([0, 3])


def test_a_distorted_image_reaches_the_frame_rectified():
    result = assembled(message_from_image(IMAGE, 5, "cam2_optical"), info(d=[-0.2, 0.05, 0.0, 0.0, 0.0]))
    assert np.abs(result.frame.images[0].astype(int) - IMAGE).mean() > 10
    np.testing.assert_array_equal(result.frame.cameras[0].K, CAMERA.K)


@pytest.mark.parametrize(
    ("image", "reason", "words"),
    [
        (message_from_image(IMAGE[:30], 5, "c"), "wrong_size", "cam2/image is 160 x 30, but"),
        (compressed_message(b"\xff\xd8\xff\xda", "jpeg", 5, "c"), "unreadable_image", "cam2/image: .*cut off"),
    ],
)
def test_an_image_that_cannot_be_used_masks_its_camera_only(image, reason, words):
    result = assembled(image)
    result.frame.check()
    assert result.frame.images == [None] and result.masked == {"cam2": reason}
    with pytest.raises(ConversionError, match=words):
        raise ConversionError(result.problems["cam2"])


@pytest.mark.parametrize("distortion", [[], [-0.2, 0.05, 0.0, 0.0, 0.0]])
def test_jpegs_of_twice_the_networks_size_are_halved_with_their_lens(distortion):
    smooth = cv2.GaussianBlur(IMAGE, (0, 0), 6)
    jpeg = compressed_message(cv2.imencode(".jpg", smooth[..., ::-1], [1, 98])[1].tobytes(), "jpeg", 5, "cam2_optical")
    calibration = Calibration(with_extrinsics())
    calibration.add_camera_info("cam2", info(d=distortion))
    rig = calibration.rig("velodyne")

    def made(message, needed, mapped=map):
        return assemble(SyncedMessages(5, SCAN, (message,), {}), rig, with_extrinsics(), image_size=needed, mapped=mapped)

    full, half, kept = made(jpeg, None), made(jpeg, (80, 30)), made(jpeg, (81, 30))
    for result in (full, half, kept):
        result.frame.check()
        assert not result.masked
    assert half.frame.images[0].shape == (30, 80, 3) and kept.frame.images[0].shape == (60, 160, 3)
    np.testing.assert_array_equal(kept.frame.images[0], full.frame.images[0])
    means = full.frame.images[0].reshape(30, 2, 80, 2, 3).mean((1, 3))
    assert np.abs(half.frame.images[0] - means)[3:-3, 3:-3].max() < 4
    # The same points at the same relative places.
    points = np.random.default_rng(0).uniform((3, -3, -1), (15, 3, 1), (200, 3))
    relative = []
    for frame in (full.frame, half.frame):
        uv, _, visible = frame.cameras[0].project(points)
        relative.append(((uv + 0.5) / (frame.cameras[0].width, frame.cameras[0].height), visible))
    np.testing.assert_allclose(relative[1][0], relative[0][0])
    np.testing.assert_array_equal(relative[1][1], relative[0][1])
    with ThreadPoolExecutor(2) as pool:
        np.testing.assert_array_equal(made(jpeg, (80, 30), pool.map).frame.images[0], half.frame.images[0])


@pytest.mark.parametrize(
    "message",
    [
        message_from_image(IMAGE[::2, ::2], 5, "c"),
        compressed_message(cv2.imencode(".jpg", IMAGE[::2, ::2])[1].tobytes(), "jpeg", 5, "c"),
        compressed_message(cv2.imencode(".png", IMAGE[::2, ::2])[1].tobytes(), "png", 5, "c"),
        compressed_message(cv2.imencode(".jpg", IMAGE[:, :159])[1].tobytes(), "jpeg", 5, "c"),
    ],
)
def test_an_image_that_was_sent_at_half_the_calibrated_size_is_refused(message):
    calibration = Calibration(with_extrinsics())
    calibration.add_camera_info("cam2", info())
    synced = SyncedMessages(5, SCAN, (message,), {})
    result = assemble(synced, calibration.rig("velodyne"), with_extrinsics(), image_size=(16, 8))
    assert result.masked == {"cam2": "wrong_size"} and result.frame.images == [None]


def test_png_raw_and_mosaics_keep_their_size():
    mosaic = compressed_message(cv2.imencode(".jpg", IMAGE[..., 0])[1].tobytes(), "bayer_rggb8; jpeg compressed ", 5, "c")
    raw = message_from_image(IMAGE, 5, "c")
    png = compressed_message(cv2.imencode(".png", IMAGE)[1].tobytes(), "png", 5, "c")
    calibration = Calibration(with_extrinsics())
    calibration.add_camera_info("cam2", info())
    for message in (mosaic, raw, png):
        synced = SyncedMessages(5, SCAN, (message,), {})
        result = assemble(synced, calibration.rig("velodyne"), with_extrinsics(), image_size=(16, 8))
        assert result.frame.images[0].shape == (60, 160, 3) and not result.masked


def test_a_missing_camera_keeps_the_synchronizers_reason():
    result = assembled(None, masked={"cam2": "stale"})
    assert result.masked == {"cam2": "stale"} and not result.problems
