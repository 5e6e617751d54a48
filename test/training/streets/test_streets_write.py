# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""What the simulator writes: layouts, determinism, agreement of sensors and truth, and nothing half-written."""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from occle_train.streets import simulate
from occle_train.streets.shapes.boxes import quaternion
from occle_train.streets.shapes.classes import KITTI_CLASS, KITTI_MOVING, KITTI_RAW
from occle_train.streets.writing import nuscenes as write_nuscenes
from occle_train.streets.writing import semantickitti as write_semantickitti
from occle_train.streets.writing.nuscenes_tables import NAMES

from occle_core.geometry.grid import VoxelGrid
from occle_core.rig import read_rig

GRID = VoxelGrid((0, -25.6, -2.0), (256, 256, 32), 0.2)
"""Where today's release of SemanticKITTI (1.1) has its voxels."""


def digest(folder):
    return {
        str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(folder.rglob("*")) if p.is_file()
    }


@pytest.fixture(scope="module")
def kitti(tmp_path_factory):
    out = tmp_path_factory.mktemp("kitti")
    assert simulate(out, "kitti", drives=[3], frames=2, seed=5, scale=0.2, workers=1) == ["03"]
    return out / "sequences" / "03"


@pytest.fixture(scope="module")
def nuscenes(tmp_path_factory):
    out = tmp_path_factory.mktemp("nuscenes")
    assert simulate(out, "nuscenes", drives=1, frames=2, seed=5, scale=0.1, workers=1) == ["scene-0000"]
    return out


def read_kitti(folder, stem):
    points = np.fromfile(folder / "velodyne" / f"{stem}.bin", np.float32).reshape(-1, 4)
    labels = np.fromfile(folder / "labels" / f"{stem}.label", np.uint32)
    voxels = np.fromfile(folder / "voxels" / f"{stem}.label", np.uint16).reshape(256, 256, 32)
    bits = {
        s: np.unpackbits(np.fromfile(folder / "voxels" / f"{stem}.{s}", np.uint8)).reshape(256, 256, 32) == 1
        for s in ("bin", "invalid", "occluded")
    }
    return points, labels, voxels, bits


def matrices(folder):
    rows = dict(line.split(": ") for line in (folder / "calib.txt").read_text().splitlines())
    P2, Tr = (np.array(rows[k].split(), float).reshape(3, 4) for k in ("P2", "Tr"))
    return P2, np.vstack([Tr, [0, 0, 0, 1]])


def test_kitti_files_are_bit_identical_whatever_the_number_of_processes(kitti, tmp_path):
    simulate(tmp_path, "kitti", drives=[3], frames=2, seed=5, scale=0.2, workers=2)
    assert digest(tmp_path / "sequences" / "03") == digest(kitti)
    assert [p.name for p in tmp_path.iterdir()] == ["sequences"]


def test_kitti_scan_and_labels(kitti):
    points, labels, _, bits = read_kitti(kitti, "000000")
    assert len(points) == len(labels) and 100_000 < len(points) < 128_000 and np.isfinite(points).all()
    assert set(np.unique(labels & 0xFFFF)) <= set(KITTI_RAW.tolist()) | set(KITTI_MOVING.tolist())
    assert np.array_equal(bits["bin"], GRID.occupied(points))
    # Road lies about 1.73 m below the LiDAR close by.
    near = (labels & 0xFFFF == 40) & (np.linalg.norm(points[:, :2], axis=1) < 8)
    assert np.median(points[near, 2]) == pytest.approx(-1.73, abs=0.2)


def test_kitti_images_agree_with_the_projected_scan(kitti):
    points, labels, _, _ = read_kitti(kitti, "000001")
    image = cv2.imread(str(kitti / "image_2" / "000001.png"))
    semantic = cv2.imread(str(kitti / "semantic_2" / "000001.png"), cv2.IMREAD_UNCHANGED)
    assert image.shape == (75, 248, 3) and semantic.shape == (75, 248) and image.std() > 20
    P2, Tr = matrices(kitti)
    uvw = np.c_[points[:, :3], np.ones(len(points))] @ (P2 @ Tr).T
    u, v = np.rint(uvw[:, 0] / uvw[:, 2]).astype(int), np.rint(uvw[:, 1] / uvw[:, 2]).astype(int)
    inside = (uvw[:, 2] > 0) & (u >= 0) & (u < 248) & (v >= 0) & (v < 75)
    to_class = dict(zip(KITTI_RAW.tolist() + KITTI_MOVING.tolist(), KITTI_CLASS.tolist() * 2))
    classes = np.array([to_class[r] for r in (labels[inside] & 0xFFFF).tolist()])
    assert inside.sum() > 5000 and (semantic[v[inside], u[inside]] == classes).mean() > 0.85


def test_kitti_truth_holds_the_scan_and_its_masks_nest(kitti):
    points, labels, voxels, bits = read_kitti(kitti, "000000")
    ijk, inside = GRID.index(points)
    at = tuple(ijk[inside].T)
    around = np.zeros_like(voxels, bool)
    for shift in np.ndindex(3, 3, 3):
        around |= np.roll(voxels > 0, np.array(shift) - 1, (0, 1, 2))
    assert around[at].mean() > 0.99 and (voxels[at] > 0).mean() > 0.75
    same = (voxels[at] == (labels[inside] & 0xFFFF))[voxels[at] > 0]
    assert same.mean() > 0.85
    assert not (bits["invalid"] & ~bits["occluded"]).any()
    assert (~bits["invalid"])[at].mean() > 0.97 and 0.05 < bits["invalid"].mean() < 0.6
    assert 0.02 < (voxels > 0).mean() < 0.15


def test_kitti_poses_carry_one_scan_into_the_truth_of_another(kitti):
    _, _, voxels, _ = read_kitti(kitti, "000000")
    points, labels, _, _ = read_kitti(kitti, "000001")
    _, Tr = matrices(kitti)
    poses = [
        np.vstack([np.array(r.split(), float).reshape(3, 4), [0, 0, 0, 1]]) for r in (kitti / "poses.txt").read_text().splitlines()
    ]
    assert len(poses) == 2 and np.allclose(poses[0], np.eye(4), atol=1e-9) and 0.2 < poses[1][2, 3] < 1.5
    T = np.linalg.inv(Tr) @ np.linalg.inv(poses[0]) @ poses[1] @ Tr
    still = (labels & 0xFFFF) < 252
    moved = points[still, :3] @ T[:3, :3].T + T[:3, 3]
    ijk, inside = GRID.index(moved)
    around = np.zeros_like(voxels, bool)
    for axis in range(3):
        for step in (-1, 0, 1):
            around |= np.roll(voxels > 0, step, axis)
    assert around[tuple(ijk[inside].T)].mean() > 0.98
    times = [float(t) for t in (kitti / "times.txt").read_text().split()]
    assert times == pytest.approx([0, 0.1])


OFFICIAL_FIELDS = {
    "attribute": "token name description",
    "calibrated_sensor": "token sensor_token translation rotation camera_intrinsic",
    "category": "token name description index",
    "ego_pose": "token timestamp rotation translation",
    "instance": "token category_token nbr_annotations first_annotation_token last_annotation_token",
    "lidarseg": "token sample_data_token filename",
    "log": "token logfile vehicle date_captured location",
    "map": "token log_tokens category filename",
    "sample": "token timestamp prev next scene_token",
    "sample_annotation": "token sample_token instance_token visibility_token attribute_tokens translation size rotation prev next "
    "num_lidar_pts num_radar_pts",
    "sample_data": "token sample_token ego_pose_token calibrated_sensor_token timestamp fileformat is_key_frame height width "
    "filename prev next",
    "scene": "token log_token nbr_samples first_sample_token last_sample_token name description",
    "sensor": "token channel modality",
    "visibility": "token level description",
}


def tables_of(out):
    return {p.stem: json.loads(p.read_text()) for p in (out / "v1.0-mini").glob("*.json")}


def test_nuscenes_tables_have_the_official_fields_and_link_up(nuscenes):
    tables = tables_of(nuscenes)
    assert set(tables) == set(OFFICIAL_FIELDS)
    tokens = {name: {r["token"] for r in rows} for name, rows in tables.items()}
    for name, rows in tables.items():
        assert rows and len(tokens[name]) == len(rows)
        for row in rows:
            assert set(row) == set(OFFICIAL_FIELDS[name].split()), name
            for field, value in row.items():
                if field.endswith("_token") and field[:-6] in tokens:
                    assert value in tokens[field[:-6]], (name, field)
            for field in ("prev", "next"):
                assert not row.get(field) or row[field] in tokens[name]
    files = [r["filename"] for n in ("sample_data", "lidarseg", "map") for r in tables[n]]
    assert all((nuscenes / f).is_file() for f in files) and len(tables["sample_data"]) == 14


def test_nuscenes_boxes_hold_the_points_of_their_class(nuscenes):
    tables = tables_of(nuscenes)
    channel = {
        c["token"]: next(s["channel"] for s in tables["sensor"] if s["token"] == c["sensor_token"])
        for c in tables["calibrated_sensor"]
    }
    data = next(d for d in tables["sample_data"] if channel[d["calibrated_sensor_token"]] == "LIDAR_TOP")
    points = np.fromfile(nuscenes / data["filename"], np.float32).reshape(-1, 5)
    seg = np.fromfile(nuscenes / "lidarseg" / "v1.0-mini" / f"{data['token']}_lidarseg.bin", np.uint8)
    assert len(points) == len(seg) == 32 * 1084 and points[:, 3].min() >= 0 and points[:, 3].max() <= 255
    assert set(points[:, 4].tolist()) <= set(range(32))
    world = points[:, :3].astype(float)
    for token, table in ((data["calibrated_sensor_token"], "calibrated_sensor"), (data["ego_pose_token"], "ego_pose")):
        row = next(r for r in tables[table] if r["token"] == token)
        world = world @ rotation(row["rotation"]).T + row["translation"]
    names = {c["token"]: c["name"] for c in tables["category"]}
    index = {c["name"]: c["index"] for c in tables["category"]}
    kind = {i["token"]: names[i["category_token"]] for i in tables["instance"]}
    checked = 0
    for a in tables["sample_annotation"]:
        if a["sample_token"] == data["sample_token"] and a["num_lidar_pts"] > 20:
            local = (world - a["translation"]) @ rotation(a["rotation"])
            width, length, height = a["size"]
            inside = (np.abs(local) < np.array([length, width, height]) / 2 + 0.1).all(1)
            assert (seg[inside] == index[kind[a["instance_token"]]]).sum() > 0.6 * a["num_lidar_pts"]
            checked += 1
    assert checked >= 3


def test_nuscenes_truth_and_images(nuscenes):
    files = list((nuscenes / "gts" / "scene-0000").glob("*/labels.npz"))
    assert len(files) == 2
    with np.load(files[0]) as z:
        semantics, lidar, camera = z["semantics"], z["mask_lidar"], z["mask_camera"]
    assert semantics.shape == lidar.shape == camera.shape == (200, 200, 16) and semantics.dtype == np.uint8
    assert semantics.max() == 17 and 0.03 < (semantics != 17).mean() < 0.25
    assert set(np.unique(lidar)) == {0, 1} and set(np.unique(camera)) == {0, 1}
    # The vehicle stands on driveable ground, about z = 0 in the ego frame.
    under = semantics[95:105, 98:102, 1:4]
    assert ((under == 11).any(axis=2)).mean() > 0.8
    images = sorted((nuscenes / "samples").glob("CAM_*/*.jpg"))
    assert len(images) == 12 and all(cv2.imread(str(p)).shape == (90, 160, 3) for p in images)


def test_a_scene_of_the_same_name_is_replaced_by_the_same_files(nuscenes, tmp_path):
    before = digest(nuscenes)
    simulate(nuscenes, "nuscenes", drives=1, frames=2, seed=5, scale=0.1, workers=1)
    assert digest(nuscenes) == before


def rotation(q):
    """Rotation matrix by conjugating the basis with the quaternion, Hamilton product by product."""

    def product(a, b):
        w = a[0] * b[0] - np.dot(a[1:], b[1:])
        return np.array([w, *(a[0] * np.array(b[1:]) + b[0] * np.array(a[1:]) + np.cross(a[1:], b[1:]))])

    conjugate = np.array([q[0], -q[1], -q[2], -q[3]])
    return np.stack([product(product(q, [0, *e]), conjugate)[1:] for e in np.eye(3)], 1)


def test_quaternions_stand_for_their_rotation():
    rng = np.random.default_rng(0)
    for _ in range(20):
        R = np.linalg.qr(rng.normal(size=(3, 3)))[0]
        R *= np.sign(np.linalg.det(R))
        assert np.allclose(rotation(np.array(quaternion(R))), R, atol=1e-12)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"rig": "lorry"}, "lorry"),
        ({"drives": 0}, "drives"),
        ({"drives": [1, 1]}, "drives"),
        ({"frames": 0}, "frames"),
        ({"scale": 5.0}, "scale"),
        ({"seed": -1}, "seed"),
        ({"every": 0}, "every"),
    ],
)
def test_wrong_arguments_are_refused_before_anything_is_written(tmp_path, wrong, message):
    with pytest.raises(ValueError, match=message):
        simulate(tmp_path / "out", **{"rig": "kitti", "frames": 1, **wrong})
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("there", "rig"), [("sequence.json", "kitti"), ("scene.json", "kitti"), ("velodyne", "nuscenes")])
def test_a_folder_of_another_layout_is_refused(tmp_path, there, rig):
    """Readers look for one layout of a folder: they would find the older one's sequences alone, or the newer one's."""
    out = tmp_path / "out"
    if there == "velodyne":
        (out / "sequences" / "00" / there).mkdir(parents=True)
    else:
        (out / "v1.0-mini").mkdir(parents=True)
        (out / "v1.0-mini" / there).write_text(
            '[{"token": "s", "name": "scene-0000", "first_sample_token": "t", "nbr_samples": 1}]'
        )
    with pytest.raises(ValueError, match=r"holds a data set of another layout, .*choose another folder"):
        simulate(out, rig, frames=1)
    assert len(list(out.iterdir())) == 1


@pytest.mark.parametrize(("rig", "writer"), [("kitti", write_semantickitti), ("nuscenes", write_nuscenes)])
def test_a_failed_run_leaves_nothing_behind(tmp_path, monkeypatch, rig, writer):
    def full_disk(folder, drive, i):
        (folder / "half.bin").write_bytes(b"1")
        raise OSError("no space left on device")

    monkeypatch.setattr(writer, "write_frame", full_disk)
    monkeypatch.setattr(sys.modules["occle_train.streets.simulate"], "Drive", lambda *_: None)
    with pytest.raises(OSError, match="no space"):
        simulate(tmp_path, rig, drives=1, frames=1, workers=1)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("rig", ["kitti", "nuscenes"])
def test_recordings_are_not_replaced_by_simulated_drives(tmp_path, rig):
    """Sequences of the same name are: SemanticKITTI has a sequence 00 too, and nuScenes tables of this version."""
    out = tmp_path / "out"
    there = out / ("sequences/00/velodyne/000000.bin" if rig == "kitti" else "v1.0-mini/scene.json")
    there.parent.mkdir(parents=True)
    there.write_text('[{"token": "s", "name": "scene-0061", "first_sample_token": "t", "description": "Parked truck"}]')
    if rig == "nuscenes":
        for name in NAMES:
            (there.parent / f"{name}.json").touch()
            if name != "scene":
                (there.parent / f"{name}.json").write_text("[]")
    before = there.read_text()
    with pytest.raises(ValueError, match=r"(sequences/00|v1.0-mini) was not simulated, and would be replaced"):
        simulate(out, rig, frames=1, workers=1)
    assert there.read_text() == before


def test_a_recorded_sequence_is_not_replaced_by_a_simulated_one(tmp_path):
    (tmp_path / "00").mkdir()
    (tmp_path / "00" / "sequence.json").write_text('{"format": "occle-sequence", "version": 1, "source": {"bag": "00"}}')
    (tmp_path / "00" / "rig.yaml").write_text("")
    with pytest.raises(ValueError, match="00 was not simulated"):
        simulate(tmp_path, read_rig(Path(__file__).resolve().parents[3] / "examples/own_rig/rig.yaml"), frames=1, workers=1)
