# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Where the calibration comes from, and what the node does while it is not there."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml
from calibration_rig import CAMERA, IMAGE, T_CAMERA_LIDAR, by_tf, config, info, moved, with_extrinsics
from sensor_msgs.msg import CameraInfo
from tf_messages import tf_message

from occle_core.datasets import open_dataset
from occle_core.frame import FrameError
from occle_core.geometry.camera import Camera
from occle_core.sensors.messages import ConversionError
from occle_core.sensors.transforms import TransformBuffer, TransformError
from occle_ros.calibration.files import CalibrationError, find_calibration, read_calibration
from occle_ros.calibration.rig import Calibration, is_rectified
from occle_ros.config.groups import ConfigError
from occle_ros.config.node_config import NodeConfig
from occle_ros.messages.clouds import cloud_from_points
from occle_ros.messages.images import compressed_message, message_from_image
from occle_ros.pipeline.assemble import assemble
from occle_ros.sync.lidar_led import SyncedMessages

SECOND = 1_000_000_000
P2 = [707.0912, 0, 601.8873, 46.88783, 0, 707.0912, 183.1104, 0.1178601, 0, 0, 1, 0.006203223]
TR = [0, -1, 0, 0.01, 0, 0, -1, -0.07, 1, 0, 0, -0.33]


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


def yaml_of(lidar_frame: str, folder: Path) -> str:
    camera = {"T_camera_lidar": T_CAMERA_LIDAR.tolist(), "K": CAMERA.K.tolist(), "width": 160, "height": 60}
    frames = {"lidar_frame": lidar_frame, "grid_frame": "base_link"}
    content = {**frames, "T_grid_lidar": moved(1).tolist(), "cameras": {"cam2": camera}}
    (folder / "calibration.yaml").write_text(yaml.safe_dump(content))
    return str(folder / "calibration.yaml")


def test_scans_of_another_lidar_than_the_files_are_refused_with_both_names(tmp_path):
    given = {"calibration_file": yaml_of("velodyne", tmp_path)}
    calibration = Calibration(NodeConfig.model_validate(given))
    assert not calibration.needs_transforms
    words = r"scans are in frame 'os_lidar', but the calibration file .* is for 'velodyne'.*tf.lidar_frame:=velodyne"
    with pytest.raises(CalibrationError, match=words):
        calibration.rig("os_lidar", 5)
    assert calibration.needs_transforms and not calibration.has_transforms  # TF may connect the two
    for frame in ("velodyne", "/velodyne", ""):  # a header without a frame says nothing
        assert calibration.rig(frame, 5).T_grid_lidar[0, 3] == 1
    renamed = Calibration(NodeConfig.model_validate({**given, "tf": {"lidar_frame": "velodyne"}}))
    assert renamed.rig("os_lidar", 5).T_grid_lidar[0, 3] == 1
    wrong = Calibration(NodeConfig.model_validate({**given, "tf": {"lidar_frame": "os_sensor"}}))
    with pytest.raises(CalibrationError, match=r"'os_sensor'.*'velodyne'"):
        wrong.rig("velodyne", 5)
    nameless = Calibration(NodeConfig.model_validate({"calibration_file": yaml_of("", tmp_path)}))
    assert nameless.rig("os_lidar", 5).T_grid_lidar[0, 3] == 1


def test_tf_leads_from_the_scans_frame_to_the_files(tmp_path):
    transforms = TransformBuffer()
    calibration = Calibration(NodeConfig.model_validate({"calibration_file": yaml_of("os_sensor", tmp_path)}), transforms)
    with pytest.raises(CalibrationError, match="no transform from 'os_lidar' to 'os_sensor'"):
        calibration.rig("os_lidar", 5)
    T_sensor_lidar = moved(0.04, np.pi)
    transforms.add(tf_message("os_sensor", "os_lidar", T_sensor_lidar), fixed=True)
    rig = calibration.rig("os_lidar", 5)
    np.testing.assert_allclose(rig.T_grid_lidar, moved(1) @ T_sensor_lidar, atol=1e-12)
    np.testing.assert_allclose(rig.cameras[0].T_camera_lidar, T_CAMERA_LIDAR @ T_sensor_lidar, atol=1e-12)
    assert rig.notes == (
        "the scans are in frame 'os_lidar', the calibration file is for 'os_sensor': TF's transform between them is applied",
    )
    assert calibration.rig("os_sensor", 5).notes == ()


def test_images_in_anframe_mismatch_than_their_camera_info_are_mentioned_where_tf_poses_the_camera():
    calibration, _ = by_tf(("base_link", "velodyne", moved(0)), ("velodyne", "cam2_optical", moved(0.1)))
    calibration.add_camera_info("cam2", info())
    for frame, is_noted in (("cam2_optical", False), ("/cam2_optical", False), ("", False), ("cam2_link", True)):
        image = message_from_image(IMAGE, 5, frame)
        result = assemble(SyncedMessages(5, SCAN, (image,), {}), calibration.rig("velodyne", 5), NodeConfig())
        assert bool(result.notes) is is_noted and not result.masked
    assert "images of cam2 are in frame 'cam2_link', their CameraInfo is in 'cam2_optical'" in result.notes[0]
    given = assembled(message_from_image(IMAGE, 5, "cam2_link"))
    assert given.notes == ()


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


def kitti_text() -> str:
    lines = {"P0": [700, 0, 600, 0, 0, 700, 180, 0, 0, 0, 1, 0], "P2": P2, "Tr": TR}
    return "".join(f"{key}: {' '.join(map(str, values))}\n" for key, values in lines.items())


def expected_kitti(points: np.ndarray) -> np.ndarray:
    """Pixels by P2 @ Tr, as KITTI's readme has it."""
    homogeneous = np.c_[points, np.ones(len(points))]
    image = homogeneous @ np.vstack([np.reshape(TR, (3, 4)), [0, 0, 0, 1]]).T @ np.reshape(P2, (3, 4)).T
    return image[:, :2] / image[:, 2:]


POINTS = np.array([[10.0, 1, 0], [20, -3, 1], [7, 2, -1]])


def test_kittis_calib_txt_alone_takes_the_intrinsics_of_camera_info(tmp_path):
    (tmp_path / "calib.txt").write_text(kitti_text())
    calibration = Calibration(NodeConfig.model_validate({"calibration_file": str(tmp_path / "calib.txt")}))
    assert calibration.rig("velodyne").masked == {"cam2": "no_camera_info"}
    K = np.reshape(P2, (3, 4))[:, :3]
    for fourth_column in (np.zeros(3), np.reshape(P2, (3, 4))[:, 3]):  # what `occle bag` and what other converters write
        message = info(Camera(K, np.eye(4), 1242, 375))
        message.p = np.hstack([K, fourth_column[:, None]]).reshape(-1)
        calibration.add_camera_info("cam2", message)
        uv, _, visible = calibration.rig("velodyne").cameras[0].project(POINTS)
        assert visible.all()
        np.testing.assert_allclose(uv, expected_kitti(POINTS), atol=1e-6)


def test_kittis_calib_txt_in_its_sequence_knows_everything(tmp_path):
    folder = tmp_path / "sequences" / "08"
    for name in ("velodyne", "image_2"):
        (folder / name).mkdir(parents=True)
    (folder / "calib.txt").write_text(kitti_text())
    (folder / "times.txt").write_text("0\n")
    np.ones((5, 4), "<f4").tofile(folder / "velodyne" / "000000.bin")
    cv2.imwrite(str(folder / "image_2" / "000000.png"), np.zeros((375, 1242, 3), np.uint8))
    for given in (folder / "calib.txt", folder):
        settings = {"calibration_file": str(given), "cameras": {"cam2": {"info_topic": ""}}}
        rig = Calibration(NodeConfig.model_validate(settings)).rig("velodyne")
        assert not rig.masked and rig.grid_frame == "velodyne"
        assert (rig.cameras[0].width, rig.cameras[0].height) == (1242, 375)
        np.testing.assert_allclose(rig.cameras[0].project(POINTS)[0], expected_kitti(POINTS), atol=1e-6)


def write_nuscenes(root: Path, scenes: tuple[str, ...]) -> Path:
    """Two mountings, scenes of one sample each; the vehicle stands still."""
    turned = [0.5, -0.5, 0.5, -0.5]  # camera axes in the vehicle's: z forward, x to the right
    mountings = {"LIDAR_TOP": ([0.9, 0, 1.8], [1, 0, 0, 0], []),
                 "CAM_FRONT": ([1.7, 0, 1.5], turned, [[10, 0, 7.5], [0, 10, 4], [0, 0, 1]])}  # fmt: skip
    tables: dict[str, list] = {"sensor": [], "calibrated_sensor": [], "ego_pose": [], "scene": [], "sample": [], "sample_data": []}
    for channel, (translation, rotation, K) in mountings.items():
        tables["sensor"].append({"token": channel, "channel": channel})
        row = {"token": f"c-{channel}", "sensor_token": channel, "translation": translation, "rotation": rotation}
        tables["calibrated_sensor"].append(row | {"camera_intrinsic": K})
    tables["ego_pose"].append({"token": "e", "translation": [5, 5, 0], "rotation": [1, 0, 0, 0]})
    for scene in scenes:
        tables["scene"].append({"token": scene, "name": scene, "first_sample_token": f"s-{scene}", "nbr_samples": 1})
        tables["sample"].append({"token": f"s-{scene}", "scene_token": scene, "prev": "", "next": "", "timestamp": 0})
        for channel in mountings:
            file = root / "samples" / f"{channel}-{scene}{'.png' if channel == 'CAM_FRONT' else '.bin'}"
            file.parent.mkdir(exist_ok=True, parents=True)
            if channel == "CAM_FRONT":
                cv2.imwrite(str(file), np.zeros((9, 16, 3), np.uint8))
            else:
                np.ones((4, 5), "<f4").tofile(file)
            row = {"token": f"d-{channel}-{scene}", "sample_token": f"s-{scene}", "ego_pose_token": "e", "timestamp": 1_000_000}
            row |= {"calibrated_sensor_token": f"c-{channel}", "filename": str(file.relative_to(root)), "is_key_frame": True}
            tables["sample_data"].append(row | {"width": 16, "height": 9})
    (root / "v1.0-mini").mkdir()
    for name, rows in tables.items():
        (root / "v1.0-mini" / f"{name}.json").write_text(json.dumps(rows))
    return root


def test_a_nuscenes_folder_gives_its_calibrated_sensors(tmp_path):
    root = write_nuscenes(tmp_path, ("scene-0103",))
    file = find_calibration(str(root))
    np.testing.assert_allclose(np.array(file.T_grid_lidar)[:3, 3], [0.9, 0, 1.8])
    ((name, camera),) = file.cameras.items()
    assert (name, camera.width, camera.height, file.grid_frame) == ("CAM_FRONT", 16, 9, "base_link")
    # A point 10 m ahead of the vehicle's origin, 1 m left, as high as the camera.
    lidar_point = np.array([10 - 0.9, 1, 1.5 - 1.8, 1])
    np.testing.assert_allclose(np.array(camera.T_camera_lidar) @ lidar_point, [-1, 0, 10 - 1.7, 1], atol=1e-9)


def test_a_folder_of_several_scenes_needs_one_named(tmp_path):
    root = write_nuscenes(tmp_path, ("scene-0103", "scene-0916"))
    with pytest.raises(CalibrationError, match="2 sequences; name one: scene-0103, scene-0916"):
        find_calibration(str(root))
    assert list(find_calibration(f"{root}#scene-0916").cameras) == ["CAM_FRONT"]


def test_real_kitti_and_nuscenes_folders(real_data):
    drive = real_data / "kitti_raw" / "raw" / "2011_09_26" / "sfnd_drive"
    if not drive.is_dir():
        pytest.skip(f"no KITTI drive at {drive}")
    file = read_calibration(drive)
    reference = open_dataset(drive).frame(0).cameras[0]
    assert file.cameras["cam2"].width == reference.width == 1242
    np.testing.assert_allclose(file.cameras["cam2"].K, reference.K)


def test_a_bags_folder_is_read_through_its_calibration_file(tmp_path):
    content = {"T_grid_lidar": np.eye(4).tolist(), "cameras": {"cam2": {"T_camera_lidar": T_CAMERA_LIDAR.tolist()}}}
    (tmp_path / "calibration.yaml").write_text(yaml.safe_dump(content))
    assert list(read_calibration(tmp_path).cameras) == ["cam2"]


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("calib.txt", "P2: 1 2 3\n", "has no Tr|needs 12"),
        ("calib.yaml", "cameras: [", "cannot be read"),
        ("calib.yaml", "T_grid_lidar: 3", r"T_grid_lidar.*`occle bag` writes an example"),
        ("calib.yaml", yaml.safe_dump({"T_grid_lidar": (np.eye(4) * 2).tolist()}), "not a rotation with a translation"),
    ],
)
def test_calibration_files_that_cannot_be_used_are_named(tmp_path, name, text, words):
    (tmp_path / name).write_text(text)
    with pytest.raises(CalibrationError, match=words) as caught:
        read_calibration(tmp_path / name)
    assert str(tmp_path / name) in str(caught.value)


def test_other_folders_and_missing_files_are_named(tmp_path):
    with pytest.raises(CalibrationError, match="not a data set that occle knows"):
        read_calibration(tmp_path)
    with pytest.raises(ConfigError, match="parameter calibration_file: there is no"):
        find_calibration(str(tmp_path / "nothing.yaml"))


SCAN = cloud_from_points(np.array([[8, 0, 0, 0.5], [np.nan, 0, 0, 0]], np.float32), 5, "velodyne")


def assembled(image, message_info: CameraInfo | None = None, masked: dict[str, str] | None = None):
    settings = with_extrinsics()
    calibration = Calibration(settings)
    calibration.add_camera_info("cam2", message_info or info())
    return assemble(SyncedMessages(5, SCAN, (image,), masked or {}), calibration.rig("velodyne"), settings)


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
def test_an_image_that_cannot_be_used_masks_its_camera_and_the_frame_goes_on(image, reason, words):
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


def test_a_missing_camera_keeps_the_collectors_reason():
    result = assembled(None, masked={"cam2": "stale"})
    assert result.masked == {"cam2": "stale"} and not result.problems
