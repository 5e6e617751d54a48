# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Calibration files: calibration.yaml, KITTI's calib.txt, data set folders."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml
from calibration_rig import CAMERA, T_CAMERA_LIDAR, info, moved
from tf_messages import tf_message

from occle_core.datasets import open_dataset
from occle_core.geometry.camera import Camera
from occle_core.sensors.transforms import TransformBuffer
from occle_ros.calibration.files import CalibrationError, find_calibration, read_calibration
from occle_ros.calibration.rig import Calibration
from occle_ros.config.node_config import NodeConfig
from occle_ros.config.parameter_group import ConfigError

P2 = [707.0912, 0, 601.8873, 46.88783, 0, 707.0912, 183.1104, 0.1178601, 0, 0, 1, 0.006203223]
TR = [0, -1, 0, 0.01, 0, 0, -1, -0.07, 1, 0, 0, -0.33]


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


def test_another_name_for_the_files_grid_frame_is_said(tmp_path):
    """As for scans: the voxels lie where the file says, whatever the frame is called."""
    given = {"calibration_file": yaml_of("os_sensor", tmp_path)}
    own = Calibration(NodeConfig.model_validate(given)).rig("os_sensor")
    other = Calibration(NodeConfig.model_validate({**given, "tf": {"grid_frame": "/chassis"}})).rig("os_sensor")
    assert own.notes == () and other.grid_frame == "chassis"
    assert other.notes[0].startswith("voxels are published in frame 'chassis' (parameter tf.grid_frame), the calibration file's")
    np.testing.assert_array_equal(own.T_grid_lidar, other.T_grid_lidar)


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
