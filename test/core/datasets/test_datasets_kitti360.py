# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""The SSCBench-KITTI-360 reader on a tiny drive in its layout, written from the format's description."""

import logging

import cv2
import numpy as np
import pytest

from occle_core.datasets import DatasetError, kitti360
from occle_core.geometry.grid import SEMANTICKITTI, VoxelGrid

DRIVE = "2013_05_28_drive_0006_sync"
P = [[552.5, 0, 30.0, 0], [0, 552.5, 10.0, 0], [0, 0, 1, 0]]
CAM_TO_VELO = np.array([[0, 0, 1, 0.8], [-1, 0, 0, 0.3], [0, -1, 0, -0.2]])
R_RECT = np.array([[1, 0, 0], [0, 0.8, -0.6], [0, 0.6, 0.8]])
SHAPE = (256, 256, 32)
OWN = (1, 4, 5, 6, 40, 41, 42)


def pack(bits):
    return (bits.reshape(-1, 8) @ np.array([128, 64, 32, 16, 8, 4, 2, 1])).astype(np.uint8)


@pytest.fixture
def drive(tmp_path):
    root = tmp_path / "KITTI-360"
    folder = root / "data_2d_raw" / DRIVE
    for name in (folder / "image_00" / "data_rect", folder / "voxels", root / "calibration"):
        name.mkdir(parents=True)
    for number in range(6):
        image = np.full((20, 60, 3), (10, 20, 30 + number), np.uint8)  # blue, green, red
        cv2.imwrite(str(folder / "image_00" / "data_rect" / f"{number:06d}.png"), image)
    occupied = np.zeros(SHAPE, bool)
    occupied[10, 20, 3] = True
    raw, invalid = np.zeros(SHAPE, "<u2"), np.zeros(SHAPE, np.uint8)
    raw[10, 20, 3], raw[11, 20, 3], raw[12, 20, 3] = 10, 52, 71  # car, other-structure, trunk (no class here)
    raw[13, 20, 3] = 50  # a building that no ray went through
    invalid[13, 20, 3] = invalid[0, 0, :8] = 1
    for number in (0, 5):
        pack(occupied).tofile(folder / "voxels" / f"{number:06d}.bin")
        invalid.tofile(folder / "voxels" / f"{number:06d}.invalid")  # a byte a voxel, unlike SemanticKITTI's bit
        raw.tofile(folder / "voxels" / f"{number:06d}.label")
    numbers = " ".join(str(value) for row in P for value in row)
    rectify = " ".join(str(value) for value in R_RECT.ravel())
    (root / "calibration" / "perspective.txt").write_text(
        f"calib_time: x\nS_rect_00: 60 20\nR_rect_00: {rectify}\nP_rect_00: {numbers}\n"
    )
    (root / "calibration" / "calib_cam_to_velo.txt").write_text(" ".join(str(value) for value in CAM_TO_VELO.ravel()))
    # KITTI-360's frames of the drive. SSCBench's image i is the one after the i-th: image 0 is frame 4, image 5 frame 42.
    lines = [f"{number} 1 0 0 {10 + number} 0 1 0 20 0 0 1 30 0 0 0 1" for number in OWN]
    (folder / "cam0_to_world.txt").write_text("\n".join(lines) + "\n")
    return folder


def opened(drive):
    return kitti360.Kitti360Dataset(drive, DRIVE)


def test_drives_are_found_from_above_and_from_inside(drive):
    for path in (drive, drive.parent.parent, drive.parent.parent.parent, drive.parent):
        assert list(kitti360.scenes(path)) == [DRIVE]
    assert kitti360.scenes(drive / "voxels") == {}


def test_without_scans_points_are_voxel_centres_and_that_is_said(drive, caplog):
    with caplog.at_level(logging.WARNING):
        dataset = opened(drive)
    assert "centres of the cells" in caplog.text and len(dataset) == 2
    frame = dataset.frame(1)
    frame.check()
    np.testing.assert_allclose(frame.points, [[10.5 * 0.2, 20.5 * 0.2 - 25.6, 3.5 * 0.2 - 2.0, 0]], atol=1e-5)
    assert frame.images[0][0, 0].tolist() == [35, 20, 10]
    assert dataset.stamps == [4 * 104_000_000, 42 * 104_000_000] and dataset.image_file(1, "image_00").name == "000005.png"
    assert dataset.numbers == [0, 5]


def write_scans(drive, numbers, digits):
    (drive / "velodyne_points" / "data").mkdir(parents=True)
    for number in numbers:
        np.full((4, 4), number + 0.25, "<f4").tofile(drive / "velodyne_points" / "data" / f"{number:0{digits}d}.bin")


def test_kitti_360s_own_scans_are_found_by_the_pose_list(drive):
    write_scans(drive, [0, 1, 2, 3, 4, 5, 6, 39, 40, 42, 43], 10)
    dataset = opened(drive)
    # Image 4 is frame 41, whose scan is not there.
    assert dataset.numbers == [0, 1, 2, 3, 5]
    assert [dataset.points(i)[0, 0] for i in range(5)] == [4.25, 5.25, 6.25, 40.25, 42.25]
    assert [dataset.frame(i).T_world_lidar is not None for i in range(5)] == [True] * 5
    assert dataset.stamps == [own * 104_000_000 for own in (4, 5, 6, 40, 42)]
    assert dataset.has_truth(0) and not dataset.has_truth(1) and dataset.truth(1, SEMANTICKITTI) is None


def test_scans_that_were_numbered_like_the_images_are_read_as_they_are(drive):
    write_scans(drive, [0, 1, 7], 6)
    dataset = opened(drive)
    assert dataset.numbers == [0, 1] and (dataset.points(1) == 1.25).all()  # number 7 has no image
    (drive / "cam0_to_world.txt").unlink()
    assert opened(drive).stamps == [0, 104_000_000] and opened(drive).pose(0) is None


def test_own_scans_without_the_pose_list_are_refused(drive):
    write_scans(drive, [4], 10)
    (drive / "cam0_to_world.txt").unlink()
    with pytest.raises(DatasetError, match=r"cam0_to_world\.txt.*is missing"):
        opened(drive)


def test_images_with_kitti_360s_own_numbers_need_no_renumbering(drive):
    images = drive / "image_00" / "data_rect"
    for file in sorted(images.iterdir()):
        file.rename(images / f"{int(file.stem):010d}.png")
    write_scans(drive, [1, 4, 5], 10)
    dataset = opened(drive)
    assert dataset.numbers == [1, 4, 5] and dataset.points(1)[0, 0] == 4.25 and dataset.pose(1) is not None


def test_points_fall_where_the_rectified_camera_sees_them(drive):
    camera = opened(drive).frame(0).cameras[0]
    point = np.array([9.0, 0.5, 0.2])
    in_camera = R_RECT @ CAM_TO_VELO[:, :3].T @ (point - CAM_TO_VELO[:, 3])
    u, v, w = np.array(P)[:, :3] @ in_camera
    uv, depth, _ = camera.project(point[None])
    np.testing.assert_allclose([*uv[0], depth[0]], [u / w, v / w, w])


def test_poses_are_the_scanners(drive):
    dataset = opened(drive)
    point = np.array([1.0, 2, 3])
    in_camera = R_RECT @ CAM_TO_VELO[:, :3].T @ (point - CAM_TO_VELO[:, 3])
    np.testing.assert_allclose((dataset.pose(1) @ [*point, 1])[:3], in_camera + [52, 20, 30])
    # A frame that the list does not reach has no pose; that is no error.
    (drive / "cam0_to_world.txt").write_text("1 1 0 0 0 0 1 0 0 0 0 1 0 0 0 0 1\n4 1 0 0 7 0 1 0 0 0 0 1 0 0 0 0 1\n")
    dataset = opened(drive)
    assert dataset.pose(0) is not None and dataset.pose(1) is None and dataset.frame(1).T_world_lidar is None
    (drive / "cam0_to_world.txt").unlink()
    assert opened(drive).pose(0) is None


def test_truth(drive):
    dataset = opened(drive)
    labels = dataset.truth(0, SEMANTICKITTI)
    classes = dataset.taxonomy
    assert labels[10, 20, 3] == classes.id("car") and labels[11, 20, 3] == classes.id("other-structure")
    assert labels[12, 20, 3] == 255 and (labels[0, 0, :8] == 255).all() and labels[0, 0, 8] == classes.free
    assert labels[13, 20, 3] == classes.id("building")  # invalid, but labelled
    coarse = dataset.truth(0, VoxelGrid(SEMANTICKITTI.origin, (128, 128, 16), 0.4))
    assert coarse[5, 10, 1] in (classes.id("car"), classes.id("other-structure")) and (coarse[0, 0, :4] == classes.free).all()


def test_an_invalid_mask_is_bytes_or_bits_and_nothing_else(drive):
    before = opened(drive).truth(0, SEMANTICKITTI)
    file = drive / "voxels" / "000000.invalid"
    values = np.fromfile(file, np.uint8)
    pack(values).tofile(file)
    np.testing.assert_array_equal(opened(drive).truth(0, SEMANTICKITTI), before)
    (values * 3).tofile(file)
    with pytest.raises(DatasetError, match=r"000000\.invalid holds 3, but a byte a voxel is 0 or 1"):
        opened(drive).truth(0, SEMANTICKITTI)
    values[:-1].tofile(file)
    with pytest.raises(DatasetError, match=r"000000\.invalid has 2097151 bytes"):
        opened(drive).truth(0, SEMANTICKITTI)


def test_preprocessed_labels_serve_where_the_raw_ones_are_missing(drive):
    for file in (drive / "voxels").glob("*.label"):
        file.unlink()
    folder = drive.parent.parent / "preprocess" / "labels" / DRIVE
    folder.mkdir(parents=True)
    labels = np.zeros(SHAPE, np.uint8)
    labels[1, 2, 3], labels[4, 5, 6] = 18, 255
    np.save(folder / "000005_1_1.npy", labels)
    dataset = opened(drive)
    assert [dataset.has_truth(i) for i in range(2)] == [False, True]
    assert (dataset.truth(1, SEMANTICKITTI) == labels).all()
    np.save(folder / "000005_1_1.npy", labels.astype(np.float32))  # as SSCBench's script writes them
    assert (dataset.truth(1, SEMANTICKITTI) == labels).all()
    labels[0, 0, 0] = 19
    np.save(folder / "000005_1_1.npy", labels)
    with pytest.raises(DatasetError, match=r"000005_1_1\.npy holds \[19\]"):
        dataset.truth(1, SEMANTICKITTI)


def test_what_is_missing_is_named(drive):
    (drive.parent.parent / "calibration" / "perspective.txt").write_text("R_rect_00: 1 0 0 0 1 0 0 0 1\n")
    with pytest.raises(DatasetError, match=r"perspective\.txt has no P_rect_00"):
        opened(drive)
    for file in (drive / "voxels").glob("*.bin"):
        file.unlink()
    with pytest.raises(DatasetError, match="none of 6 images has a scan"):
        opened(drive)
