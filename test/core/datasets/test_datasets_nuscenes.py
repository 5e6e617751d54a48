# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Frames, sweeps, truth and boxes of nuScenes, against what was written."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from dataset_files import CAMERAS, write_nuscenes
from nuscenes_scene import made_up, write_scene

from occle_core.datasets import DatasetError, list_scenes, open_dataset
from occle_core.datasets.base import HasSweeps
from occle_core.geometry.grid import OCC3D_NUSCENES
from occle_core.history import scans_before


@pytest.fixture
def root(tmp_path) -> Path:
    return write_scene(tmp_path)


def test_frames(root):
    dataset = open_dataset(root)
    assert (dataset.kind, dataset.name, len(dataset), dataset.camera_names) == ("nuscenes", "scene-0103", 3, CAMERAS)
    assert (dataset.lidar_frame, dataset.grid_frame) == ("lidar_top", "base_link")
    assert dataset.stamps == [3_000, 10_003_000, 20_003_000]
    assert dataset.image_stamp(1, "CAM_FRONT") == 10_005_000
    frame = dataset.frame(1)
    frame.check()
    raw = made_up(1)["points"]
    np.testing.assert_allclose(frame.points, raw[:, :4] / [1, 1, 1, 255], atol=1e-6)
    assert [image.shape for image in frame.images] == [(9, 16, 3)] * 6
    np.testing.assert_allclose(frame.T_grid_lidar[:3, 3], [0.9, 0, 1.8])
    np.testing.assert_allclose(dataset.pose(1)[:3, 3], [2.9, 0, 1.8])
    np.testing.assert_array_equal(dataset.point_labels(1), dataset.taxonomy.points_from_raw(np.arange(40) % 32))
    assert dataset.image_file(0, "CAM_BACK") == root / "samples" / "CAM_BACK" / "t0.png" and dataset.image_file(0, "cam2") is None
    assert open_dataset(root / "v1.0-mini", kind="nuscenes", scene="scene-0103").name == "scene-0103"
    assert open_dataset(root, kind="streets").name == "scene-0103"


def test_sweeps_are_the_scans_between_keyframes(root):
    """The second keyframe's scans go back over two sweeps to the first keyframe, as in nuScenes at 20 Hz."""
    file = root / "v1.0-mini" / "sample_data.json"
    rows = {row["token"]: row for row in json.loads(file.read_text())}
    poses = json.loads((root / "v1.0-mini" / "ego_pose.json").read_text())
    chain = ["t0-LIDAR_TOP", "sweep0", "sweep1", "t1-LIDAR_TOP"]
    (root / "sweeps").mkdir()
    for number, token in enumerate(chain[1:3]):
        sweep = rows["t1-LIDAR_TOP"] | {"token": token, "is_key_frame": False, "filename": f"sweeps/{token}.bin"}
        rows[token] = sweep | {"timestamp": 3_000 * (number + 1), "ego_pose_token": token}
        made_up(10 + number)["points"].astype("<f4").tofile(root / "sweeps" / f"{token}.bin")
        poses.append({"token": token, "translation": [0.5 * (number + 1), 0, 0], "rotation": [1, 0, 0, 0]})
    for before, token in itertools.pairwise(["", *chain]):
        rows[token]["prev"] = before
    file.write_text(json.dumps(list(rows.values())))
    (root / "v1.0-mini" / "ego_pose.json").write_text(json.dumps(poses))
    dataset = open_dataset(root)
    assert isinstance(dataset, HasSweeps)
    found = dataset.sweeps(1, 10)
    assert [frame.stamp for frame in found] == [6_000_000, 3_000_000, 3_000]
    np.testing.assert_allclose([frame.T_world_lidar[0, 3] for frame in found], [1.9, 1.4, 0.9])
    np.testing.assert_allclose(found[0].points, made_up(11)["points"][:, :4] / [1, 1, 1, 255], atol=1e-6)
    np.testing.assert_array_equal(found[2].points, dataset.points(0))
    assert len(dataset.sweeps(1, 2)) == 2 and dataset.sweeps(0, 5) == []
    scans = scans_before(dataset, 1, 3)
    assert [frame.stamp for frame in scans] == [10_003_000, 6_000_000, 3_000_000] and len(scans[0].images) == 6
    files = [root / "sweeps" / "sweep1.bin", root / "sweeps" / "sweep0.bin", dataset.files(0)[0]]
    assert dataset.sweep_files(1, 10) == files and dataset.sweep_files(1, 1) == files[:1] and dataset.sweep_files(0, 5) == []
    files[0].unlink()
    with pytest.raises(DatasetError, match=r"sweep1\.bin"):
        dataset.sweeps(1, 10)


@pytest.mark.parametrize(
    ("suffix", "needed", "shape"), [("jpg", (16, 9), (9, 16)), ("jpg", (17, 9), (18, 32)), ("png", (1, 1), (18, 32))]
)
def test_jpegs_of_twice_the_size_that_is_needed_are_read_at_half_with_their_cameras(tmp_path, suffix, needed, shape):
    root = write_nuscenes(tmp_path, [made_up(0)], suffix=suffix, size=(32, 18))
    full, frame = open_dataset(root).frame(0), open_dataset(root, image_size=needed).frame(0)
    frame.check()
    assert [image.shape[:2] for image in frame.images] == [shape] * 6
    for image, camera, original in zip(frame.images, frame.cameras, full.cameras):
        v, u = np.mgrid[: shape[0], : shape[1]] * (32 / shape[1]) + (32 / shape[1] - 1) / 2
        assert np.abs(image[..., 0] - (u + v + 50)).mean() < 2
        np.testing.assert_allclose(camera.K, original.resized(shape[1], shape[0]).K)
    file = root / "samples" / "CAM_BACK" / f"t0.{suffix}"
    cv2.imwrite(str(file), np.zeros((9, 16, 3), np.uint8))
    with pytest.raises(DatasetError, match="16x9, but its calibration is for 32x18"):
        open_dataset(root, image_size=needed).frame(0)


def test_truth_and_masks(root):
    folder = root / "gts" / "scene-0103" / "t1"
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    semantics = rng.integers(0, 18, OCC3D_NUSCENES.shape).astype(np.uint8)
    masks = [rng.integers(0, 2, OCC3D_NUSCENES.shape).astype(np.uint8) for _ in range(2)]
    np.savez_compressed(folder / "labels.npz", semantics=semantics, mask_lidar=masks[0], mask_camera=masks[1])
    dataset = open_dataset(root)
    assert [dataset.has_truth(i) for i in range(3)] == [False, True, False]
    assert dataset.truth(0, OCC3D_NUSCENES) is None and dataset.masks(0) == {}
    np.testing.assert_array_equal(dataset.truth(1, OCC3D_NUSCENES), semantics)
    found = dataset.masks(1)
    np.testing.assert_array_equal(found["lidar"], masks[0] == 1)
    np.testing.assert_array_equal(found["camera"], masks[1] == 1)
    np.savez_compressed(folder / "labels.npz", semantics=semantics[:50])
    with pytest.raises(DatasetError, match=r"labels\.npz must hold semantics of shape \(200, 200, 16\)"):
        open_dataset(root).truth(1, OCC3D_NUSCENES)
    (folder / "labels.npz").write_bytes(b"PK\3\4 torn off")
    with pytest.raises(DatasetError, match=r"labels\.npz cannot be read"):
        open_dataset(root).truth(1, OCC3D_NUSCENES)


def test_moving_points_are_those_in_boxes_that_move(tmp_path):
    # LiDAR at (2.9, 0, 1.8) in the world of frame 1; a car of 4 x 2 x 1.5 m turned by 90 degrees at (12.9, 0, 1.8).
    points = np.array([[10, 0, 0], [10, 1.9, 0], [11.9, 0, 0], [10, 0, 1.2], [20, 0, 0], [30, 0, 0], [40, 0, 0]])
    boxes = [
        ("vehicle.car", ["vehicle.moving"], [12.9, 0, 1.8], [2, 4, 1.5], np.pi / 2),
        ("vehicle.car", ["vehicle.parked"], [22.9, 0, 1.8], [2, 4, 1.5], 0),
        ("human.pedestrian.adult", [], [32.9, 0, 1.8], [1, 1, 2], 0),
        ("movable_object.barrier", [], [42.9, 0, 1.8], [1, 1, 2], 0),
    ]
    frames = [made_up(0), made_up(1, points=np.c_[points, np.zeros((7, 2))], boxes=boxes)]
    dataset = open_dataset(write_nuscenes(tmp_path, frames))
    assert dataset.moving(1).tolist() == [True, True, False, False, False, True, False]
    assert not dataset.moving(0).any()
    # The boxes that accumulation carries points along with are those of the same objects.
    assert dataset.boxes(0) == [] and len(dataset.boxes(1)) == len({box.track for box in dataset.boxes(1)})
    car = dataset.boxes(1)[0]
    assert car.size == (4, 2, 1.5)
    np.testing.assert_allclose(car.T_world_box[:3, 3], [12.9, 0, 1.8])
    np.testing.assert_allclose(car.T_world_box[:3, 0], [0, 1, 0], atol=1e-9)
    assert dataset.point_labels(0) is None


@pytest.mark.parametrize("lost", [0, 1, 2])
def test_a_camera_that_dropped_a_keyframe_is_missing_in_that_frame_alone(root, lost):
    file = root / "v1.0-mini" / "sample_data.json"
    rows = json.loads(file.read_text())
    file.write_text(json.dumps([row for row in rows if row["token"] != f"t{lost}-CAM_BACK_LEFT"]))
    whole, dataset = open_dataset(write_nuscenes(root / "whole", [made_up(i) for i in range(3)])), open_dataset(root)
    assert dataset.camera_names == CAMERAS
    at = CAMERAS.index("CAM_BACK_LEFT")
    for i in range(3):
        frame = dataset.frame(i)
        frame.check()
        assert [image is None for image in frame.images] == [i == lost and number == at for number in range(6)]
        assert len(dataset.files(i)) == (6 if i == lost else 7)
        # Its place on the vehicle is that of the other frames; all sensors of the fixture fire together.
        np.testing.assert_allclose(frame.cameras[at].T_camera_lidar, whole.frame(i).cameras[at].T_camera_lidar, atol=1e-9)
    assert dataset.image_file(lost, "CAM_BACK_LEFT") is None and dataset.image_stamp(lost, "CAM_BACK_LEFT") == dataset.stamps[lost]


@pytest.mark.parametrize("kind", [np.int8, np.uint16, np.int32, np.int64, np.float16, np.float32, np.float64])
@pytest.mark.parametrize("mask_kind", [np.bool_, np.uint8, np.int64, np.float32])
def test_truths_of_any_number_type_are_read_alike(root, kind, mask_kind):
    folder = root / "gts" / "scene-0103" / "t0"
    folder.mkdir(parents=True)
    rng = np.random.default_rng(1)
    semantics, mask = rng.integers(0, 18, OCC3D_NUSCENES.shape), rng.integers(0, 2, OCC3D_NUSCENES.shape)
    # OpenOcc's files have flow, and no mask of the LiDAR.
    more = {"flow": np.zeros((2, 2), np.float16)}
    np.savez(folder / "labels.npz", semantics=semantics.astype(kind), mask_camera=mask.astype(mask_kind), **more)
    dataset = open_dataset(root)
    np.testing.assert_array_equal(dataset.truth(0, OCC3D_NUSCENES), semantics)
    assert list(dataset.masks(0)) == ["camera"]
    np.testing.assert_array_equal(dataset.masks(0)["camera"], mask == 1)


def test_a_data_set_that_is_written_anew_is_read_anew(root):
    assert list_scenes(root) == ["scene-0103"]
    file = root / "v1.0-mini" / "scene.json"
    file.write_text(file.read_text().replace("scene-0103", "scene-0916"))
    assert list_scenes(root) == ["scene-0916"]
    assert open_dataset(root).name == "scene-0916"
    file = root / "v1.0-mini" / "ego_pose.json"
    file.write_text(file.read_text().replace('"translation": [4.0,', '"translation": [7.0,'))
    assert open_dataset(root).pose(2)[0, 3] == pytest.approx(7.9)
