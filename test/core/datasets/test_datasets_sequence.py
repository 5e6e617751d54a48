# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""occle sequences: what is written is read, in any class list, and damage is named."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from occle_core import taxonomy
from occle_core.datasets import DatasetError, list_scenes, open_dataset
from occle_core.datasets.recordings import sequence_files as files
from occle_core.rig import Rig
from occle_core.rig.pose import pose_matrix
from occle_core.taxonomy import TaxonomyConfig

OWN = TaxonomyConfig.model_validate(
    {"name": "own", "free": "free", "classes": {"free": [0, 0, 0], "floor": [1, 1, 1], "thing": [2, 2, 2]},
     "names": {"semantickitti": {"road": "floor"}}}
)  # fmt: skip
LENS = {"fx": 60, "fy": 60, "cx": 39.5, "cy": 19.5}
RIG = Rig.model_validate(
    {
        "lidars": {"top": {"topic": "/t", "pose": [0.2, 0, 1, 0, 5, 20]}, "rear": {"topic": "/r", "pose": [-1, 0, 1, 0, 0, 0]}},
        "cameras": {"front": {"topic": "/front", "width": 80, "height": 40, "lens": LENS, "pose": [0.5, 0, 1, -90, 0, -90]}},
        "grid": {"origin": [-2, -2, -1], "shape": [8, 8, 4], "resolution": 0.5},
    }
)  # fmt: skip
T_WORLD_BASE = pose_matrix(5, 6, 0, 0, 0, 30)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    out = tmp_path / "drive"
    shard = out / "shards" / "00000"
    frames = []
    for number in (3, 7):
        points = np.column_stack([rng.uniform(-60, 60, (500, 3)), rng.uniform(0, 1, 500)]).astype(np.float32)
        files.write_points(shard / f"points/{number:06d}.npz", points, rng.integers(0, 2, 500), rng.uniform(-0.1, 0, 500))
        image = rng.integers(0, 255, (40, 80, 3)).astype(np.uint8)
        (shard / "front").mkdir(exist_ok=True)
        cv2.imwrite(str(shard / f"front/{number:06d}.png"), image[..., ::-1])
        images = {"front": {"file": f"front/{number:06d}.png", "stamp": number + 1}} if number == 3 else {}
        frames.append(
            {"number": number, "stamp": number * 10, "T_world_base": T_WORLD_BASE if number == 3 else None, "images": images}
        )
        np.savez(tmp_path / f"{number}.npz", points=points, image=image)
    files.write_labels(shard / "labels/000003.npz", np.arange(500) % 3, np.arange(500) % 2 == 0)
    voxels = np.full((8, 8, 4), 255, np.uint8)
    voxels[0, 0], voxels[4, 4, 2] = 0, 2
    files.write_voxels(shard / "voxels/000003.npz", voxels, {"camera": voxels == 2})
    files.write_frames(shard, frames)
    files.write_head(out, RIG, OWN, {"bag": "x"})
    return out


def test_what_is_written_is_read(folder):
    assert list_scenes(folder.parent) == ["drive"] == list_scenes(folder)
    dataset = open_dataset(folder)
    assert (dataset.kind, len(dataset), dataset.numbers, dataset.stamps) == ("occle", 2, [3, 7], [30, 70])
    given = np.load(folder.parent / "3.npz")
    frame = dataset.frame(0)
    frame.check()
    # 16 bits over 60 m: half a step is a millimetre; intensities have 8 bits.
    assert np.abs(frame.points[:, :3] - given["points"][:, :3]).max() <= 60 / 32_767 / 2 + 1e-5
    assert np.abs(frame.points[:, 3] - given["points"][:, 3]).max() <= 0.5 / 255 + 1e-6
    assert np.array_equal(frame.images[0], given["image"]) and dataset.image_stamp(0, "front") == 4
    T_base_lidar = pose_matrix(0.2, 0, 1, 0, 5, 20)
    assert np.allclose(frame.T_grid_lidar, T_base_lidar)
    assert np.allclose(frame.cameras[0].T_camera_lidar, np.linalg.solve(pose_matrix(0.5, 0, 1, -90, 0, -90), T_base_lidar))
    assert np.allclose(frame.T_world_lidar, T_WORLD_BASE @ T_base_lidar)
    sensor, time = dataset.point_sources(0)
    assert set(sensor) == {0, 1} and -0.1 <= time.min() < time.max() <= 0
    assert np.array_equal(frame.origins.lidar, sensor) and np.array_equal(dataset.origins(0).lidar, sensor)
    rear = np.linalg.solve(T_base_lidar, pose_matrix(-1, 0, 1, 0, 0, 0))[:3, 3]
    assert np.allclose(frame.origins.positions, [np.zeros(3), rear])
    assert dataset.point_labels(0)[:4].tolist() == [0, 1, 2, 0] and dataset.moving(0)[:2].tolist() == [True, False]
    # Frame 1 has no image, pose or label.
    assert dataset.frame(1).images == [None] and dataset.pose(1) is None and dataset.image_file(1, "front") is None
    assert dataset.point_labels(1) is None and not dataset.has_truth(1) and dataset.masks(1) == {}


def test_truth_and_masks(folder):
    dataset = open_dataset(folder)
    truth = dataset.truth(0, RIG.grid.grid)
    assert truth[4, 4, 2] == 2 and (truth[0, 0] == 0).all() and (truth == 255).sum() == 8 * 8 * 4 - 5
    assert dataset.masks(0)["camera"].sum() == 1
    coarse = dataset.truth(0, RIG.grid.grid.coarser(2))
    assert coarse.shape == (4, 4, 2) and coarse[2, 2, 1] == 2


def test_another_class_list(folder):
    """By the names of this one; 'own' is not the name of any shipped list."""
    other = TaxonomyConfig.model_validate(
        {"name": "two", "free": "free", "classes": {"free": [0, 0, 0], "any": [1, 1, 1]}, "names": {"own": {"thing": "any"}}}
    )
    dataset = open_dataset(folder, classes=taxonomy.load(other))
    assert dataset.point_labels(0)[:3].tolist() == [0, 255, 1]
    assert dataset.truth(0, RIG.grid.grid)[4, 4, 2] == 1


def test_the_same_content_gives_the_same_bytes(tmp_path):
    points = np.random.default_rng(1).uniform(-5, 5, (100, 4)).astype(np.float32)
    for name in ("a", "b"):
        files.write_points(tmp_path / f"{name}.npz", points, np.zeros(100), np.zeros(100))
        files.write_voxels(tmp_path / f"{name}_v.npz", np.zeros((4, 4, 4), np.uint8), {})
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    assert (tmp_path / "a_v.npz").read_bytes() == (tmp_path / "b_v.npz").read_bytes()


def test_damage_is_named(folder):
    points = folder / "shards/00000/points/000003.npz"
    points.write_bytes(points.read_bytes()[:100])
    dataset = open_dataset(folder)
    with pytest.raises(DatasetError, match=r"000003\.npz is damaged"):
        dataset.frame(0)
    (folder / "shards/00000/front/000003.png").unlink()
    points.unlink()
    with pytest.raises(DatasetError, match=r"000003\.npz is missing"):
        dataset.points(0)
    (folder / "shards/00000/frames.json").write_text("{")
    with pytest.raises(DatasetError, match=r"frames\.json is no JSON"):
        open_dataset(folder)
    head = json.loads((folder / "sequence.json").read_text())
    (folder / "sequence.json").write_text(json.dumps(head | {"version": 9}))
    with pytest.raises(DatasetError, match="of version 9; known is occle-sequence 1"):
        open_dataset(folder)


def changed(file, **arrays):
    with np.load(file) as found:
        np.savez(file, **{name: found[name] for name in found.files} | arrays)


VOXELS = np.zeros((8, 8, 4), np.uint8)


@pytest.mark.parametrize(
    ("name", "arrays", "read", "said"),
    [
        ("points", {"intensity": np.zeros(499, np.uint8)}, "points", r"intensity is uint8 \(499,\), expected uint8 \(500,\)"),
        ("points", {"intensity": np.full(500, 0.5, np.float32)}, "points", "intensity is float32 .* expected uint8"),
        ("points", {"xyz": np.zeros((500, 3), np.float32)}, "points", "xyz is float32 .* expected whole numbers"),
        ("points", {"xyz": np.zeros((3, 500), np.int16)}, "points", r"xyz is int16 \(3, 500\)"),
        ("points", {"sensor": np.full(500, 2, np.uint8)}, "origins", "sensor is up to 2, but rig.yaml has 2 LiDARs"),
        ("points", {"sensor": np.zeros(3, np.uint8)}, "origins", r"sensor is uint8 \(3,\)"),
        (
            "labels",
            {"classes": np.zeros(499, np.uint8)},
            "point_labels",
            r"classes is .*\(499,\), expected .*\(500,\), as ",
        ),
        ("labels", {"moving": np.zeros(499, bool)}, "moving", r"moving is .*\(499,\), expected bool \(500,\)"),
        ("labels", {"classes": np.full(500, 40)}, "point_labels", r"classes holds \[40\], but the ids of own are 0 to 2, and 255"),
        ("voxels", {"classes": np.zeros((16, 8, 4), np.uint8)}, "truth", r"classes is uint8 \(16, 8, 4\), .*the grid of rig.yaml"),
        ("voxels", {"classes": VOXELS + 0.5}, "truth", "classes is float64 .* expected whole numbers"),
        ("voxels", {"classes": VOXELS + np.uint8(3)}, "truth", r"classes holds \[3\], but the ids of own are 0 to 2"),
        ("voxels", {"camera": np.zeros((4, 8, 8), bool)}, "masks", r"camera is bool \(4, 8, 8\), expected bool \(8, 8, 4\)"),
    ],
)
def test_arrays_that_people_write_are_checked(folder, name, arrays, read, said):
    """Anyone may write this layout: what does not fit is refused, never cut, spread or taken for unknown."""
    changed(folder / f"shards/00000/{name}/000003.npz", **arrays)
    dataset = open_dataset(folder)
    with pytest.raises(DatasetError, match=f"000003.npz: {said}"):
        dataset.truth(0, RIG.grid.grid) if read == "truth" else getattr(dataset, read)(0)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            lambda frames: [frame.update(stamp=frame["stamp"] / 10) for frame in frames],
            "entry 0 of frames needs a number",
        ),
        (lambda frames: frames[1].pop("number"), "entry 1 of frames needs a number"),
        (lambda frames: frames[0].update(images={"front": "front/000003.png"}), "entry 0 of frames needs .* images as camera"),
        (lambda frames: frames[1].update(number=3), "frame 3 of stamp 70 follows frame 3 of stamp 30; each number comes once"),
        (lambda frames: frames[1].update(stamp=20), "frame 7 of stamp 20 follows frame 3 of stamp 30; .* stamps ascend"),
    ],
)
def test_frames_that_people_write_are_checked(folder, change, said):
    file = folder / "shards/00000/frames.json"
    content = json.loads(file.read_text())
    change(content["frames"])
    file.write_text(json.dumps(content))
    with pytest.raises(DatasetError, match=f"frames.json: {said}"):
        open_dataset(folder)


def test_frames_come_by_number_and_may_name_no_images(folder):
    file = folder / "shards/00000/frames.json"
    content = json.loads(file.read_text())
    content["frames"].reverse()
    content["frames"][0].pop("images")
    file.write_text(json.dumps(content))
    dataset = open_dataset(folder)
    assert dataset.numbers == [3, 7] and dataset.image_file(0, "front") is not None and dataset.image_file(1, "front") is None


def test_voxels_without_a_grid_are_an_error(folder):
    files.write_head(folder, RIG.model_copy(update={"grid": None}), OWN, {})
    with pytest.raises(DatasetError, match=r"rig.yaml has no grid, so nobody knows where the cells of .* lie"):
        open_dataset(folder).truth(0, RIG.grid.grid)
