# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""The readers of nuScenes on real frames, calibrations and truth."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from dataset_files import CAMERAS, write_nuscenes
from nuscenes_scene import write_scene

from occle_core.datasets import list_scenes, open_dataset
from occle_core.geometry.grid import OCC3D_NUSCENES


@pytest.fixture
def root(tmp_path) -> Path:
    return write_scene(tmp_path)


def test_cameras_against_the_published_calibration(real_data, tmp_path):
    """sensor2lidar of the extract was computed by others from the same tables, with the motion between the shutter times."""
    frames = json.loads((real_data / "nuscenes" / "mini_val_calib_poses_81frames.json").read_text())[::16]
    for frame in frames:
        frame["points"] = np.ones((3, 5))
    dataset = open_dataset(write_nuscenes(tmp_path, frames))
    for i, frame in enumerate(frames):
        for name, camera in zip(dataset.camera_names, dataset.frame(i).cameras):
            T_lidar_camera = np.linalg.inv(camera.T_camera_lidar)
            published = frame["cams"][name]
            np.testing.assert_allclose(T_lidar_camera[:3, :3], published["sensor2lidar_R"], atol=1e-6)
            # World coordinates are near 1700 m and float32 in places: a few tenths of a millimetre.
            np.testing.assert_allclose(T_lidar_camera[:3, 3], published["sensor2lidar_t"], atol=2e-3)
            np.testing.assert_allclose(camera.K, published["K"])


def test_real_keyframes(real_data):
    folder = real_data / "nuscenes"
    assert list_scenes(folder) == ["scene-0061", "scene-0001"]
    for info in json.loads((folder / "infos.json").read_text()):
        dataset = open_dataset(folder, scene=info["scene"].split()[0])
        frame = dataset.frame(0)
        frame.check()
        assert len(dataset) == 1 and dataset.camera_names == CAMERAS and frame.points[:, 3].max() <= 1
        assert dataset.stamps == [info["timestamp_us"] * 1000]
        in_ego = frame.points[:, :3] @ frame.T_grid_lidar[:3, :3].T + frame.T_grid_lidar[:3, 3]
        heights = in_ego[(np.abs(in_ego[:, 0]) < 12) & (np.abs(in_ego[:, 2]) < 1), 2]
        assert abs(np.median(heights)) < 0.2  # the ego frame stands on the road
        for name, image, camera in zip(CAMERAS, frame.images, frame.cameras):
            assert image.shape == (900, 1600, 3)
            assert camera.project(frame.points)[2].sum() > 2000
            if "cam_ego2global" in info["cams"][name]:
                cam = info["cams"][name]
                chain = (
                    np.linalg.inv(cam["cam2ego"]) @ np.linalg.inv(cam["cam_ego2global"]) @ info["ego2global"] @ info["lidar2ego"]
                )
                np.testing.assert_allclose(camera.T_camera_lidar, chain, atol=1e-3)


def test_real_labelled_sequence(real_data):
    dataset = open_dataset(real_data / "nuscenes" / "lidar_seg_sequence")
    assert len(dataset) == 11 and dataset.camera_names == ()
    frame, labels, moving = dataset.frame(3), dataset.point_labels(3), dataset.moving(3)
    frame.check()
    assert len(labels) == len(frame.points) == len(moving)
    assert set(np.unique(labels)) <= {*range(1, 17), 255}
    # What moves carries a label of something that can, nearly everywhere.
    assert 0 < moving.sum() < 0.05 * len(moving)
    assert np.isin(labels[moving], [4, 7]).mean() > 0.6
    road = frame.points[labels == 11, :3] @ frame.T_grid_lidar[:3, :3].T + frame.T_grid_lidar[:3, 3]
    near = np.linalg.norm(road[:, :2], axis=1) < 10
    assert abs(np.median(road[near, 2])) < 0.2


def test_real_occ3d_truth(real_data, root):
    (file,) = (real_data / "occ3d" / "gts").glob("*/labels.npz")
    folder = root / "gts" / "scene-0103" / "t0"
    folder.mkdir(parents=True)
    (folder / "labels.npz").write_bytes(file.read_bytes())
    dataset = open_dataset(root)
    truth = dataset.truth(0, OCC3D_NUSCENES)
    assert (truth == dataset.taxonomy.free).sum() == 600_908 and (truth != 255).all()
    assert {name: int(mask.sum()) for name, mask in dataset.masks(0).items()} == {"camera": 43_355, "lidar": 56_601}
