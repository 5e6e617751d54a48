# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Files whose bytes are whole and whose numbers cannot be: no rotations, intensities of another range, images of another size."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import cv2
import numpy as np
import pytest
from test_datasets_damaged import infos, kitti, kitti360, semantickitti, use

from occle_core.datasets import DatasetError, open_dataset

SHEARED = "0 -1 0 0 0 0 -1 0 1 0.5 0 0"
"""A matrix whose columns are neither of length 1 nor at right angles."""


def replaced(file: Path, key: str, line: str) -> None:
    """Replace the line of a text file that begins with a key; the first where the key is empty."""
    lines = file.read_text().splitlines()
    lines[next(number for number, text in enumerate(lines) if text.startswith(key))] = key + line
    file.write_text("\n".join(lines) + "\n")


@pytest.mark.parametrize(
    ("layout", "file", "key", "line", "place"),
    [
        (semantickitti, "calib.txt", "Tr:", " 0" * 12, "Tr"),
        (semantickitti, "calib.txt", "Tr:", f" {SHEARED}", "Tr"),
        (semantickitti, "poses.txt", "", "0 " * 12, "line 1"),
        (semantickitti, "poses.txt", "", "1 0 0 0 0 -1 0 0 0 0 1 0", "line 1"),  # mirrored
        (kitti, "calib_velo_to_cam.txt", "R:", " 0 -1 0 0 0 -1 1 1 0", "R and T"),
        (kitti, "calib_cam_to_cam.txt", "R_rect_00:", " 2 0 0 0 2 0 0 0 2", "R_rect_00"),
        (kitti360, "calib_cam_to_velo.txt", "", SHEARED, ""),
        (kitti360, "perspective.txt", "R_rect_00:", " 0 0 0 0 0 0 0 0 0", "R_rect_00"),
        (kitti360, "cam0_to_world.txt", "4 ", "9 0 0 0 0 9 0 0 0 0 9 0 0 0 0 1", "frame 4"),
    ],
)
def test_matrices_that_are_no_rigid_transform_are_named(layout, file, key, line, place, tmp_path):
    path = layout(tmp_path)
    use(path)
    (found,) = tmp_path.rglob(file)
    replaced(found, key, line)
    with pytest.raises(DatasetError, match=f"{file}.*{place}.*not a rotation with a translation"):
        use(path)


@pytest.mark.parametrize("key", ["lidar2ego", "ego2global", "lidar2cam"])
def test_matrices_of_an_extract_are_named(key, tmp_path):
    path = infos(tmp_path)
    rows = json.loads((path / "infos.json").read_text())
    holder = rows[0] if key in rows[0] else rows[0]["cams"]["CAM_FRONT"]
    holder[key] = np.diag([2, 2, 2, 1]).tolist()
    (path / "infos.json").write_text(json.dumps(rows))
    with pytest.raises(DatasetError, match=rf"infos\.json: {key}.*not a rotation with a translation"):
        use(path)


def test_a_blank_pose_is_an_unknown_one(tmp_path):
    path = semantickitti(tmp_path)
    replaced(path / "poses.txt", "", "")
    dataset = open_dataset(path)
    assert dataset.pose(0) is None and dataset.pose(1) is not None


@pytest.mark.parametrize(
    ("highest", "layout", "words"),
    [
        (255, semantickitti, ["velodyne: intensities are 0 to 255", "divide those in the files by 255"]),
        (40000, semantickitti, ["0 to 65535", "by 65535"]),
        (0.9, semantickitti, []),
        (0.001, semantickitti, ["intensities end below 0.02"]),
        (255, infos, []),
        (1, infos, ["intensities end below 5.1"]),  # divided by 255 once already
    ],
)
def test_intensities_of_another_range_are_said_once(highest, layout, words, tmp_path, caplog):
    path = layout(tmp_path)
    files = [*path.rglob("velodyne/*.bin"), *path.rglob("scan.bin")]
    for file in files:
        scan = np.fromfile(file, "<f4").reshape(-1, 4 if layout is semantickitti else 5)
        scan[:, 3] = np.linspace(0, highest, len(scan))
        scan.tofile(file)
    with caplog.at_level(logging.WARNING):
        dataset = open_dataset(path)
        for i in range(len(dataset)):
            dataset.points(i)
    said = [record.getMessage() for record in caplog.records if "intensities" in record.getMessage()]
    assert len(said) == bool(words) and all(word in said[0] for word in words), said


def test_rows_of_five_numbers_are_not_read_as_rows_of_four(tmp_path):
    """Their bytes fit where the number of points is a multiple of 4, and every fourth number is a coordinate now and then."""
    path = semantickitti(tmp_path)
    scan = np.random.default_rng(1).uniform(-9, 9, (20, 5)).astype("<f4")
    scan[:, 3:] = 0.5
    scan.tofile(path / "velodyne" / "000000.bin")
    with pytest.raises(DatasetError, match=r"000000\.bin: row \d+ has intensity -.*its rows do not begin"):
        open_dataset(path).points(0)


@pytest.mark.parametrize(("layout", "name"), [(semantickitti, "calib.txt"), (kitti, "calib_cam_to_cam"), (kitti360, "perspective")])
def test_resized_images_of_an_old_calibration_are_said(layout, name, tmp_path, caplog):
    """A calibration for 1200 x 360: its principal point lies in the middle of images of that size, and outside of small ones."""
    path = layout(tmp_path)
    (file,) = tmp_path.rglob(f"{name}*")
    for key in ("P2:", "P_rect_02:", "P_rect_00:"):
        if key in file.read_text():
            replaced(file, key, " 700 0 600 0 0 700 180 0 0 0 1 0")
    images = sorted(tmp_path.rglob("*.png"))
    for size, said in (((1200, 360), 0), ((600, 180), 1)):
        for image in images:
            cv2.imwrite(str(image), np.zeros((*size[::-1], 3), np.uint8))
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            open_dataset(path).frame(0), open_dataset(path).frame(0)
        found = [record.getMessage() for record in caplog.records if "principal point" in record.getMessage()]
        assert len(found) == said and all(f"(600, 180) is far from the middle of images of {size[0]}x{size[1]}" in t for t in found)
