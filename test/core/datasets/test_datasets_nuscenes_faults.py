# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Broken files and tables of nuScenes are named in one line."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from dataset_files import write_nuscenes
from nuscenes_scene import made_up, write_scene

from occle_core.datasets import DatasetError, open_dataset
from occle_core.geometry.grid import OCC3D_NUSCENES


@pytest.fixture
def root(tmp_path) -> Path:
    return write_scene(tmp_path)


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


@pytest.mark.parametrize("semantics", [np.full(OCC3D_NUSCENES.shape, 0.5), np.full(OCC3D_NUSCENES.shape, "car")])
def test_a_truth_of_no_whole_numbers_is_refused(root, semantics):
    folder = root / "gts" / "scene-0103" / "t0"
    folder.mkdir(parents=True)
    np.savez(folder / "labels.npz", semantics=semantics)
    with pytest.raises(DatasetError, match=r"labels\.npz: semantics holds .* that are no whole numbers"):
        open_dataset(root).truth(0, OCC3D_NUSCENES)
    assert open_dataset(root).masks(0) == {}
