# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import numpy as np
import pytest
from dataset_files import voxel_bits, write_semantickitti, write_voxels

from occle_core.datasets import DatasetError, open_dataset
from occle_core.geometry.grid import SEMANTICKITTI, VoxelGrid


@pytest.fixture
def sequence(tmp_path):
    rng = np.random.default_rng(0)
    scans = [np.c_[rng.uniform(-40, 40, (50, 3)), rng.uniform(0, 1, 50)] for _ in range(3)]
    labels = [rng.choice([0, 1, 10, 40, 99, 251, 252, 254, 259, 260], 50) for _ in range(3)]
    return write_semantickitti(tmp_path / "sequences" / "04", scans, labels), scans, labels


def test_frames(sequence):
    folder, scans, labels = sequence
    dataset = open_dataset(folder)
    assert (dataset.kind, dataset.name, len(dataset), dataset.camera_names) == ("semantickitti", "04", 3, ("cam2",))
    assert dataset.lidar_frame == dataset.grid_frame == "velodyne"
    assert dataset.stamps == [0, 100_000_000, 200_000_000]
    assert dataset.image_stamp(1, "cam2") == dataset.stamps[1]
    frame = dataset.frame(1)
    frame.check()
    assert frame.stamp == 100_000_000
    np.testing.assert_array_equal(frame.points, scans[1].astype(np.float32))
    np.testing.assert_array_equal(dataset.points(1), frame.points)
    assert frame.images[0].shape == (38, 124, 3) and frame.images[0][0, 0].tolist() == [200, 0, 0]
    assert (frame.cameras[0].width, frame.cameras[0].height) == (124, 38)
    np.testing.assert_array_equal(dataset.moving(1), [252 <= label <= 259 for label in labels[1]])
    np.testing.assert_array_equal(dataset.point_labels(1), dataset.taxonomy.points_from_raw(labels[1]))
    assert dataset.masks(0) == {} and dataset.truth(0, SEMANTICKITTI) is None
    assert dataset.image_file(2, "cam2") == folder / "image_2" / "000002.png" and dataset.image_file(2, "cam3") is None
    with pytest.raises(IndexError):
        dataset.frame(3)


def test_poses_are_the_lidars(sequence):
    dataset = open_dataset(sequence[0])
    # The vehicle drives along the camera's z, which is the LiDAR's x.
    for i in range(3):
        expected = np.eye(4)
        expected[0, 3] = i
        np.testing.assert_allclose(dataset.pose(i), expected, atol=1e-12)


def test_the_whole_root_and_its_scenes(sequence):
    root = sequence[0].parents[1]
    assert open_dataset(root).name == "04"
    write_semantickitti(root / "sequences" / "07", sequence[1], sequence[2])
    assert open_dataset(root, scene="07").name == "07"
    assert open_dataset(root, kind="streets", scene="07").name == "07"
    with pytest.raises(DatasetError, match="04, 07"):
        open_dataset(root)
    with pytest.raises(DatasetError, match=r"'08'.*04, 07"):
        open_dataset(root, scene="08")


def test_truth_lies_on_the_nominal_grid(sequence):
    folder = sequence[0]
    rng = np.random.default_rng(1)
    raw = rng.choice([0, 0, 10, 40, 52, 252], (256, 256, 32)).astype(np.uint16)
    invalid = rng.random((256, 256, 32)) < 0.3
    write_voxels(folder, 2, raw, invalid)
    dataset = open_dataset(folder)
    assert [dataset.has_truth(i) for i in range(3)] == [False, False, True]
    truth = dataset.truth(2, SEMANTICKITTI)
    for cell in rng.integers(0, [256, 256, 32], (200, 3)):
        at = tuple(cell)
        expected = 255 if invalid[at] else {0: 0, 10: 1, 40: 9, 52: 255, 252: 1}[int(raw[at])]
        assert truth[at] == expected
    assert dataset.truth(2, SEMANTICKITTI.coarser(2)).shape == (128, 128, 16)
    np.testing.assert_array_equal(truth == 255, invalid | (raw == 52))


def test_rows_without_a_return_are_left_out_with_their_labels(sequence, caplog):
    folder, scans, labels = sequence
    scan = scans[1].copy()
    scan[[0, 7, 49], :3] = 0  # whatever their intensity
    scan[3, :2] = 0  # straight above or below the sensor: a return
    scan.astype("<f4").tofile(folder / "velodyne" / "000001.bin")
    dataset = open_dataset(folder)
    kept = [row for row in range(50) if row not in (0, 7, 49)]
    np.testing.assert_array_equal(dataset.points(1), scan[kept].astype(np.float32))
    np.testing.assert_array_equal(dataset.point_labels(1), dataset.taxonomy.points_from_raw(labels[1][kept]))
    assert len(dataset.moving(1)) == len(dataset.frame(1).points) == 47
    assert len(dataset.points(0)) == len(dataset.point_labels(0)) == 50
    assert caplog.text.count("without a return") == 1


def test_a_blank_line_stands_for_a_frame(sequence):
    """Converters leave a line empty where a scan was lost: line k is frame k all the same."""
    folder = sequence[0]
    (folder / "velodyne" / "000001.bin").unlink()
    (folder / "times.txt").write_text("0.0\n\n0.25\n\n\n")
    (folder / "poses.txt").write_text("1 0 0 0 0 1 0 0 0 0 1 0\n1 0 0 0 0 1 0 0 0 0 1 9\n\n1 0 0 0 0 1 0 0 0 0 1 3\n")
    dataset = open_dataset(folder)
    assert dataset.numbers == [0, 2] and dataset.stamps == [0, 250_000_000]
    assert dataset.pose(0) is not None and dataset.pose(1) is None and dataset.frame(1).T_world_lidar is None
    (folder / "times.txt").write_text("\n0.1\n0.2\n")
    with pytest.raises(DatasetError, match=r"times\.txt line 1 is blank"):
        open_dataset(folder)


def test_broken_files_are_named(sequence):
    folder, scans, _ = sequence
    dataset = open_dataset(folder)
    scan = folder / "velodyne" / "000001.bin"
    scan.write_bytes(scan.read_bytes()[:-3])
    with pytest.raises(DatasetError, match=r"000001\.bin has 797 bytes.*multiple of 16"):
        dataset.frame(1)
    bad = scans[1].astype(np.float32)
    bad[7, 1], bad[9, 0] = np.nan, np.inf
    bad.tofile(scan)
    with pytest.raises(DatasetError, match=r"000001\.bin: 2 of 50 points are NaN.*row 7"):
        dataset.frame(1)
    scan.write_bytes(b"")
    with pytest.raises(DatasetError, match=r"000001\.bin is empty \(0 bytes\)"):
        dataset.frame(1)
    (folder / "image_2" / "000002.png").write_bytes(b"not a png")
    with pytest.raises(DatasetError, match=r"000002\.png cannot be decoded: neither JPEG nor PNG"):
        dataset.frame(2)
    (folder / "image_2" / "000002.png").unlink()
    with pytest.raises(DatasetError, match=r"000002\.png is missing"):
        dataset.frame(2)
    (folder / "labels" / "000000.label").write_bytes(b"\0" * 40)
    with pytest.raises(DatasetError, match=r"000000\.label has 10 labels, but .*000000\.bin has 50 points"):
        dataset.point_labels(0)
    (folder / "voxels" / "000000.label").write_bytes(b"\0" * 100)
    with pytest.raises(DatasetError, match=r"voxels.000000\.label has 100 bytes"):
        dataset.truth(0, SEMANTICKITTI)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("calib.txt", "P2: 1 2 3\n", "calib.txt: P2 needs 12"),
        ("calib.txt", "P0: 1\n", "calib.txt has no P2; it has P0"),
        ("times.txt", "0\n0.1\n", "times.txt has 2 lines"),
        ("times.txt", "0\nx\n", "times.txt line 2"),
        ("poses.txt", "1 2 3\n", "poses.txt line 1: expected 12 numbers"),
    ],
)
def test_broken_text_files_are_named(sequence, name, text, message):
    (sequence[0] / name).write_text(text)
    with pytest.raises(DatasetError, match=message):
        open_dataset(sequence[0])


def test_a_lidar_only_sequence_without_labels_and_poses(sequence):
    folder = sequence[0]
    for name in ("image_2", "labels"):
        for file in (folder / name).iterdir():
            file.unlink()
        (folder / name).rmdir()
    (folder / "poses.txt").unlink()
    dataset = open_dataset(folder)
    assert dataset.camera_names == () and dataset.frame(0).images == []
    assert dataset.pose(0) is None and dataset.point_labels(0) is None and dataset.moving(0) is None


def test_empty_velodyne(tmp_path):
    (tmp_path / "velodyne").mkdir()
    with pytest.raises(DatasetError, match=r"velodyne holds no \.bin"):
        open_dataset(tmp_path)


@pytest.mark.parametrize("scene", ["00", "05", "07", "08"])
def test_real_voxel_files_fit_the_real_scans(real_data, scene, caplog):
    """They are of release 1.0, which is seen and undone."""
    dataset = open_dataset(real_data / "semantickitti", scene=scene)
    for i in (0, 5):
        scan, recorded = SEMANTICKITTI.occupied(dataset.points(i)), voxel_bits(dataset, i, "bin")
        assert (scan & recorded).sum() / (scan | recorded).sum() > 0.987
        invalid, occluded = voxel_bits(dataset, i, "invalid"), voxel_bits(dataset, i, "occluded")
        assert not (invalid & ~occluded).any() and not (invalid & recorded).any()
    assert caplog.text.count("release 1.0") == 1


def test_real_labels_and_images_agree(real_data):
    """Points on vegetation are greener in the image than points on the road: calibration, RGB order and labels fit together."""
    dataset = open_dataset(real_data / "semantickitti" / "dataset" / "sequences" / "08")
    frame, labels = dataset.frame(0), dataset.point_labels(0)
    frame.check()
    uv, _, visible = frame.cameras[0].project(frame.points)
    u, v = np.round(uv[visible]).astype(int).T
    rgb, seen = frame.images[0][v, u].astype(float), labels[visible]
    excess = rgb[:, 1] - rgb[:, [0, 2]].mean(axis=1)
    assert visible.sum() > 15_000
    assert np.median(excess[seen == 15]) > np.median(excess[seen == 9])


def test_real_poses_align_the_scans(real_data):
    """Nearest-neighbour distance of building and trunk cells between scans 0 and 9 shrinks when the poses are used."""
    dataset = open_dataset(real_data / "semantickitti", scene="08")
    grid = VoxelGrid((0, -25, -1), (250, 250, 20), 0.2)
    masks = [np.isin(dataset.point_labels(i), (13, 16, 18)) for i in (0, 9)]
    first, last = (dataset.points(i)[mask, :3] for i, mask in zip((0, 9), masks))
    T = np.linalg.inv(dataset.pose(0)) @ dataset.pose(9)
    assert 5 < T[0, 3] < 15
    moved = last @ T[:3, :3].T + T[:3, 3]
    here = grid.occupied(first)

    def overlap(points):
        cells = grid.occupied(points)
        return (cells & here).sum() / cells.sum()

    assert overlap(moved) > 2 * overlap(last)
