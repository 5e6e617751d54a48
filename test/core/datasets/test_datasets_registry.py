# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import logging

import cv2
import numpy as np
import pytest

from occle_core.datasets import DatasetError, list_scenes, open_dataset
from occle_core.geometry.grid import SEMANTICKITTI

P2 = np.array([[721.5377, 0, 609.5593, 44.85728], [0, 721.5377, 172.854, 0.2163791], [0, 0, 1, 0.002745884]])


@pytest.fixture
def drive(tmp_path):
    day = tmp_path / "2011_09_26"
    folder = day / "2011_09_26_drive_0001_sync"
    for name in ("velodyne_points/data", "image_02/data"):
        (folder / name).mkdir(parents=True)
    for i in range(2):
        np.full((5, 4), i + 0.5, "<f4").tofile(folder / "velodyne_points" / "data" / f"{i:010d}.bin")
        cv2.imwrite(str(folder / "image_02" / "data" / f"{i:010d}.png"), np.zeros((6, 8, 3), np.uint8))
    numbers = " ".join(str(value) for value in P2.ravel())
    (day / "calib_cam_to_cam.txt").write_text(
        f"calib_time: 09-Jan-2012 13:57:47\nP_rect_02: {numbers}\nR_rect_00: 1 0 0 0 0 -1 0 1 0\n"
    )
    (day / "calib_velo_to_cam.txt").write_text("calib_time: x\nR: 0 -1 0 0 0 -1 1 0 0\nT: 0.1 0.2 0.3\n")
    for name, nanoseconds in (("velodyne_points", "951199337"), ("image_02", "96")):
        text = f"2011-09-26 13:02:25.{nanoseconds}\n2011-09-26 13:02:26.054\n"
        (folder / name / "timestamps.txt").write_text(text)
    return folder


def test_kitti_raw(drive):
    dataset = open_dataset(drive)
    assert (dataset.kind, dataset.name, len(dataset), dataset.camera_names) == ("kitti", drive.name, 2, ("cam2",))
    # 2011-09-26 13:02:25 UTC; every digit of the nanoseconds counts.
    assert dataset.stamps == [1317042145_951199337, 1317042146_054000000]
    assert dataset.image_stamp(0, "cam2") == 1317042145_960000000
    frame = dataset.frame(1)
    frame.check()
    assert (frame.points == 1.5).all()
    # P2 [R_rect; 1] [R T; 1], written out.
    rectify = np.array([[1, 0, 0], [0, 0, -1], [0, 1, 0.0]])
    in_camera = np.array([[0, -1, 0], [0, 0, -1], [1, 0, 0.0]]) @ [8, 1, -9] + [0.1, 0.2, 0.3]
    x, y, w = P2 @ np.append(rectify @ in_camera, 1)
    uv, depth, _ = frame.cameras[0].project(np.array([[8, 1, -9.0]]))
    np.testing.assert_allclose([*uv[0], depth[0]], [x / w, y / w, w])
    assert dataset.pose(0) is dataset.point_labels(0) is dataset.moving(0) is dataset.truth(0, SEMANTICKITTI) is None
    assert list_scenes(drive.parent.parent) == [drive.name] == list_scenes(drive.parent, kind="kitti")


def test_kitti_raw_without_timestamps_says_so(drive, caplog):
    (drive / "velodyne_points" / "timestamps.txt").unlink()
    with caplog.at_level(logging.WARNING):
        assert open_dataset(drive).stamps == [0, 100_000_000]
    assert "timestamps.txt is missing: taking 100 ms" in caplog.text


def test_kitti_raw_broken(drive):
    times = drive / "velodyne_points" / "timestamps.txt"
    times.write_text("2011-09-26 13:02:25.9\nyesterday\n")
    with pytest.raises(DatasetError, match=r"timestamps\.txt: 'yesterday' is not a time"):
        open_dataset(drive)
    times.write_text("2011-09-26 13:02:25.9\n")
    with pytest.raises(DatasetError, match="1 lines"):
        open_dataset(drive)
    (drive.parent / "calib_velo_to_cam.txt").unlink()
    with pytest.raises(DatasetError, match=r"calib_velo_to_cam\.txt is missing"):
        open_dataset(drive)


@pytest.mark.parametrize("lost", [(3, 4), (0,), (3, 4, 6, 7)])
def test_kitti_raw_lines_are_of_their_scans_where_some_are_lost(drive, lost):
    """2011_09_26_drive_0009_sync lost four scans; timestamps.txt has blank lines in their places."""
    for i in range(8):
        scan = drive / "velodyne_points" / "data" / f"{i:010d}.bin"
        scan.unlink(missing_ok=True)
        if i not in lost:
            np.full((5, 4), i + 0.5, "<f4").tofile(scan)
        cv2.imwrite(str(drive / "image_02" / "data" / f"{i:010d}.jpg"), np.full((6, 8, 3), 10 * i, np.uint8))
        (drive / "image_02" / "data" / f"{i:010d}.png").unlink(missing_ok=True)
    for sensor in ("velodyne_points", "image_02"):
        blank = lost if sensor == "velodyne_points" else ()
        lines = ["" if i in blank else f"2011-09-26 13:02:{20 + i}.5" for i in range(8)]
        (drive / sensor / "timestamps.txt").write_text("\n".join(lines) + "\n\n")
    dataset = open_dataset(drive)
    there = [i for i in range(8) if i not in lost]
    assert dataset.numbers == there
    assert [stamp // 10**9 % 60 for stamp in dataset.stamps] == [20 + i for i in there]
    assert [dataset.image_stamp(k, "cam2") // 10**9 % 60 for k in range(len(there))] == [20 + i for i in there]
    assert [dataset.points(k)[0, 0] for k in range(len(there))] == [i + 0.5 for i in there]
    assert [round(int(dataset.frame(k).images[0][0, 0, 0]) / 10) for k in range(len(there))] == there
    np.full((5, 4), 1, "<f4").tofile(drive / "velodyne_points" / "data" / f"{lost[0]:010d}.bin")
    with pytest.raises(DatasetError, match=rf"timestamps\.txt line {lost[0] + 1} is blank, but scan {lost[0]} is there"):
        open_dataset(drive)


def test_an_extract_whose_camera_dropped_a_keyframe(tmp_path):
    matrix = np.eye(4).tolist()
    np.full((9, 5), 4.0, "<f4").tofile(tmp_path / "scan.bin")
    rows = []
    for i, names in enumerate((("CAM_FRONT",), ("CAM_FRONT", "CAM_BACK"))):
        cams = {}
        for name in names:
            cv2.imwrite(str(tmp_path / f"{name}{i}.png"), np.zeros((6, 8, 3), np.uint8))
            entry = {"img_path": f"{name}{i}.png", "cam_intrinsic": np.eye(3).tolist(), "lidar2cam": matrix, "timestamp_us": 7}
            cams[name] = entry
        info = {"scene": "s", "timestamp_us": i, "lidar2ego": matrix, "ego2global": matrix, "lidar_path": "scan.bin"}
        rows.append(info | {"cams": cams})
    (tmp_path / "infos.json").write_text(json.dumps(rows))
    dataset = open_dataset(tmp_path)
    assert dataset.camera_names == ("CAM_FRONT", "CAM_BACK")
    assert [[image is None for image in dataset.frame(i).images] for i in range(2)] == [[False, True], [False, False]]
    assert dataset.image_file(0, "CAM_BACK") is None and dataset.image_stamp(0, "CAM_BACK") == 0
    del rows[1]["cams"]["CAM_BACK"]["lidar2cam"]
    (tmp_path / "infos.json").write_text(json.dumps(rows))
    with pytest.raises(DatasetError, match=r"infos\.json: a camera of s has no lidar2cam"):
        open_dataset(tmp_path)


def test_a_wrong_path_is_told_what_is_there_and_what_is_expected(tmp_path):
    (tmp_path / "readme.txt").touch()
    (tmp_path / "videos").mkdir()
    with pytest.raises(DatasetError) as error:
        open_dataset(tmp_path)
    for text in ("readme.txt, videos/", "velodyne/*.bin", "v1.0-*", "infos.json", "velodyne_points"):
        assert text in str(error.value)
    with pytest.raises(DatasetError) as error:
        open_dataset(tmp_path, kind="kitti")
    assert "velodyne_points" in str(error.value) and "v1.0" not in str(error.value)
    with pytest.raises(DatasetError, match="is empty"):
        open_dataset(tmp_path / "videos")
    with pytest.raises(DatasetError, match="is a file"):
        open_dataset(tmp_path / "readme.txt")
    with pytest.raises(DatasetError, match="does not exist"):
        open_dataset(tmp_path / "nowhere")
    with pytest.raises(DatasetError, match="bag, kitti, kitti360, nuscenes, occle, semantickitti, streets"):
        open_dataset(tmp_path, kind="waymo")


def test_real_raw_drive(real_data):
    dataset = open_dataset(real_data / "kitti_raw")
    frame = dataset.frame(0)
    frame.check()
    assert len(dataset) == 3 and frame.images[0].shape == (375, 1242, 3)
    assert frame.cameras[0].project(frame.points)[2].sum() > 15_000


@pytest.mark.parametrize("text", ["[]", "{}", "[1]", '[{"scene": "a"}]', "not json"])
def test_broken_extract(tmp_path, text):
    (tmp_path / "infos.json").write_text(text)
    with pytest.raises(DatasetError, match=r"infos\.json"):
        open_dataset(tmp_path)
