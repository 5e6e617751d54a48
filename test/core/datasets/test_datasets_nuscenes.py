# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import itertools
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from dataset_files import CAMERAS, write_nuscenes
from hypothesis import given
from hypothesis import strategies as st

from occle_core.datasets import DatasetError, list_scenes, open_dataset
from occle_core.datasets.base import HasSweeps
from occle_core.datasets.poses import inside_oriented_box, transform_from_row
from occle_core.geometry.grid import OCC3D_NUSCENES
from occle_core.history import scans_before

IDENTITY = {"q_wxyz": [1, 0, 0, 0], "t": [0, 0, 0]}
# 90 degrees to the left: the camera looks along the LiDAR's x.
K = [[10, 0, 7.5], [0, 10, 4], [0, 0, 1]]


def made_up(i: int, **more) -> dict:
    rng = np.random.default_rng(i)
    points = np.c_[rng.uniform(-30, 30, (40, 3)), rng.integers(0, 256, 40), rng.integers(0, 32, 40)]
    ego = {"q_wxyz": [1, 0, 0, 0], "t": [2.0 * i, 0, 0]}
    cams = {
        name: {"K": K, "sensor2ego": IDENTITY, "ego2global": ego, "timestamp_us": 10_000 * i + n}
        for n, name in enumerate(reversed(CAMERAS))
    }
    frame = {
        "token": f"t{i}",
        "timestamp_us": 10_000 * i + 3,
        "points": points,
        "lidar2ego": {"q_wxyz": [1, 0, 0, 0], "t": [0.9, 0, 1.8]},
    }
    return frame | {"ego2global": ego, "cams": cams} | more


@pytest.fixture
def root(tmp_path) -> Path:
    segments = [np.arange(40) % 32 for _ in range(3)]
    return write_nuscenes(tmp_path, [made_up(i) for i in range(3)], lidarseg=segments)


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
    (root / "sweeps" / "sweep1.bin").unlink()
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


def test_broken_files_are_named(root):
    dataset = open_dataset(root)
    scan = root / "samples" / "LIDAR_TOP" / "t0.pcd.bin"
    scan.write_bytes(scan.read_bytes()[:-4])
    with pytest.raises(DatasetError, match=r"t0\.pcd\.bin has 796 bytes, not a multiple of 20"):
        dataset.frame(0)
    scan.unlink()
    with pytest.raises(DatasetError, match=r"t0\.pcd\.bin is missing"):
        dataset.points(0)
    (root / "samples" / "CAM_BACK" / "t1.png").unlink()
    with pytest.raises(DatasetError, match=r"CAM_BACK.t1\.png is missing"):
        dataset.frame(1)
    (root / "lidarseg" / "1.bin").write_bytes(b"\1" * 39)
    with pytest.raises(DatasetError, match=r"1\.bin has 39 labels, but .*t1\.pcd\.bin has 40 points"):
        dataset.point_labels(1)


@pytest.mark.parametrize(
    ("table", "text", "message"),
    [
        ("sample_data", "[", r"sample_data\.json is not valid JSON"),
        ("sample_data", "[]", r"sample_data\.json has no LIDAR_TOP keyframe of sample t0"),
        ("sample", "{}", r"sample\.json is not a list"),
        ("sample", "[]", r"sample\.json has no row with token t0"),
        ("ego_pose", None, r"ego_pose\.json is missing"),
    ],
)
def test_broken_tables_are_named(root, table, text, message):
    file = root / "v1.0-mini" / f"{table}.json"
    if text is None:
        file.unlink()
    else:
        file.write_text(text)
    with pytest.raises(DatasetError, match=message):
        open_dataset(root).pose(0)


@pytest.mark.parametrize(
    "table", ["scene", "sample", "sample_data", "ego_pose", "calibrated_sensor", "sensor", "instance", "category"]
)
def test_a_table_without_a_field_is_named(root, table):
    """Such as another data set's table of the same name."""
    write_nuscenes(root / "boxed", [made_up(0, boxes=[("vehicle.car", ["vehicle.moving"], [5, 0, 1], [2, 4, 1.5], 0)])])
    file = root / "boxed" / "v1.0-mini" / f"{table}.json"
    rows = json.loads(file.read_text())
    for field in [field for field in rows[0] if field not in ("nbr_samples", "prev", "timestamp", "scene_token")]:
        file.write_text(json.dumps([{key: value for key, value in row.items() if key != field} for row in rows]))
        with pytest.raises(DatasetError, match=rf"{table}\.json: row 0 has no {field}"):
            dataset = open_dataset(root / "boxed")
            dataset.boxes(0), dataset.pose(0)


def test_samples_that_form_a_loop_are_refused(root):
    file = root / "v1.0-mini" / "sample.json"
    file.write_text(file.read_text().replace('"next": ""', '"next": "t1"'))
    with pytest.raises(DatasetError, match=r"sample\.json: the samples of scene-0103 form a loop at t1"):
        open_dataset(root)


@pytest.mark.parametrize("rotation", [[0, 0, 0, 0], [1, 0, 0], [1, 0, 0, None], "north", [float("nan"), 0, 0, 1]])
def test_a_pose_that_is_none_is_named(root, rotation):
    file = root / "v1.0-mini" / "ego_pose.json"
    rows = json.loads(file.read_text())
    rows[0]["rotation"] = rotation
    file.write_text(json.dumps(rows))
    with pytest.raises(DatasetError, match=r"row ego_pose-t0-LIDAR_TOP.*are no pose"):
        open_dataset(root).pose(0)


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


@pytest.mark.parametrize("semantics", [np.full(OCC3D_NUSCENES.shape, 0.5), np.full(OCC3D_NUSCENES.shape, "car")])
def test_a_truth_of_no_whole_numbers_is_refused(root, semantics):
    folder = root / "gts" / "scene-0103" / "t0"
    folder.mkdir(parents=True)
    np.savez(folder / "labels.npz", semantics=semantics)
    with pytest.raises(DatasetError, match=r"labels\.npz: semantics holds .* that are no whole numbers"):
        open_dataset(root).truth(0, OCC3D_NUSCENES)
    assert open_dataset(root).masks(0) == {}


def test_a_data_set_that_is_written_anew_is_read_anew(root):
    assert list_scenes(root) == ["scene-0103"]
    file = root / "v1.0-mini" / "scene.json"
    file.write_text(file.read_text().replace("scene-0103", "scene-0916"))
    assert list_scenes(root) == ["scene-0916"]
    assert open_dataset(root).name == "scene-0916"
    file = root / "v1.0-mini" / "ego_pose.json"
    file.write_text(file.read_text().replace('"translation": [4.0,', '"translation": [7.0,'))
    assert open_dataset(root).pose(2)[0, 3] == pytest.approx(7.9)


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


@given(st.lists(st.floats(-1, 1), min_size=4, max_size=4).filter(lambda q: np.linalg.norm(q) > 0.1))
def test_quaternions_rotate_like_their_product(q):
    """R v equals q v q* by the quaternion product, for any length of q."""
    w, u = q[0] / np.linalg.norm(q), np.array(q[1:]) / np.linalg.norm(q)
    matrix = transform_from_row({"rotation": q, "translation": [1, 2, 3]})
    for v in np.eye(3):
        expected = 2 * u.dot(v) * u + (w * w - u.dot(u)) * v + 2 * w * np.cross(u, v)
        np.testing.assert_allclose(matrix[:3, :3] @ v, expected, atol=1e-9)
    np.testing.assert_allclose(matrix[:3, :3] @ matrix[:3, :3].T, np.eye(3), atol=1e-9)
    assert matrix[:, 3].tolist() == [1, 2, 3, 1]


def test_boxes_are_closed_by_their_margin():
    T = np.eye(4)
    T[:3, 3] = 1, 2, 3
    points = np.array([[1, 2, 3], [3.05, 2, 3], [3.2, 2, 3], [1, 3.05, 3], [1, 2, 4.2]])
    assert inside_oriented_box(points, T, (4, 2, 2)).tolist() == [True, True, False, True, False]
