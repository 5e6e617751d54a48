# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""rig.yaml: what it accepts, what it says of the rest, and that writing and reading agree."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import yaml
from scipy.spatial.transform import Rotation

from occle_core.rig import Rig, RigError, read_rig, write_rig
from occle_core.rig.files import read_taxonomy
from occle_core.rig.pose import pose_matrix, roll_pitch_yaw

LIDARS = {"top": {"topic": "/points", "pose": [0.1, 0, 1.7, 0, 2, 10]}}
CAMERA = {"topic": "/image", "info_topic": "/info"}
LENS = {"fx": 1, "fy": 1, "cx": 0, "cy": 0}


def written(tmp_path: Path, **fields) -> Path:
    file = tmp_path / "rig.yaml"
    file.write_text(yaml.safe_dump({"lidars": LIDARS, **fields}))
    return file


def test_poses_are_those_of_ros():
    """Roll, pitch and yaw about fixed axes in this order: scipy's extrinsic xyz."""
    rng = np.random.default_rng(3)
    for angles in rng.uniform(-179, 179, (50, 3)):
        T = pose_matrix(1, 2, 3, *angles)
        assert np.allclose(T[:3, :3], Rotation.from_euler("xyz", angles, degrees=True).as_matrix(), atol=1e-12)
        assert T[:3, 3].tolist() == [1, 2, 3]
        assert np.allclose(pose_matrix(0, 0, 0, *roll_pitch_yaw(T[:3, :3]))[:3, :3], T[:3, :3], atol=1e-9)
    for pitch in (90, -90):  # gimbal lock
        R = pose_matrix(0, 0, 0, 20, pitch, 50)[:3, :3]
        assert np.allclose(pose_matrix(0, 0, 0, *roll_pitch_yaw(R))[:3, :3], R, atol=1e-7)
    ahead = pose_matrix(0, 0, 0, -90, 0, -90)[:3, :3]
    assert np.allclose(ahead @ [0, 0, 1], [1, 0, 0], atol=1e-12) and np.allclose(ahead @ [1, 0, 0], [0, -1, 0], atol=1e-12)


def test_the_three_forms_of_a_pose_are_one(tmp_path):
    six = [0.1, 0.0, 1.7, 0.0, 2.0, 10.0]
    rows = pose_matrix(*six).tolist()
    rigs = [
        read_rig(written(tmp_path, lidars={"top": {"topic": "/p", "pose": pose}})) for pose in (six, rows, np.ravel(rows).tolist())
    ]
    assert rigs[0].lead.T_base_lidar is not None
    assert all(np.array_equal(rig.lead.T_base_lidar, rows) for rig in rigs)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"lidars": {}}, "lidars: .*at least 1"),
        ({"lidars": {"a b": {"topic": "/p"}}}, r"lidars\.a b"),
        ({"lidars": {"top": {"topik": "/p"}}}, r"lidars\.top\.topic is missing; .*lidars\.top\.topik; did you mean topic\?"),
        ({"lidars": {"top": {"topic": "/p", "pose": [1, 2]}}}, r"lidars\.top\.pose: needs 4x4 numbers by rows, or x, y, z"),
        ({"lidars": {"top": {"topic": "/p", "pose": np.diag([1, 1, -1, 1]).tolist()}}}, "is not a rotation with a translation"),
        ({"lidars": {"top": {"topic": "/p", "pose": "up"}}}, r"lidars\.top\.pose: needs 4x4"),
        ({"lidars": {"top": {"topic": "/p", "exclude_box": [0, 0, 0, 1, 1, 0]}}}, "lowest corner"),
        ({"lidars": {"top": {"topic": "/p", "beams": {"elevations": []}}}}, r"lidars\.top\.beams\.elevations"),
        ({"lidars": {"top": {"topic": "/p", "stamp": "begin"}}}, r"lidars\.top\.stamp: .*'start'"),
        ({"cameras": {"left": {"topic": "/i"}}}, r"cameras\.left: has no intrinsics: give info_topic, or lens"),
        ({"cameras": {"left": {**CAMERA, "lens": LENS}}}, "lens is for an image size"),
        (
            {"cameras": {"left": {**CAMERA, "width": 4, "height": 4, "lens": {**LENS, "model": "equidistant"}}}},
            r"cameras\.left\.lens: equidistant has 4 coefficients of distortion, not 0",
        ),
        ({"cameras": {"left": {**CAMERA, "topic": "/points"}}}, "two sensors have the topic /points"),
        (
            {"lidars": {"top": {"topic": "/p"}}, "cameras": {"left": {**CAMERA, "pose": [0, 0, 0, 0, 0, 0]}}},
            r"cameras\.left\.pose needs lidars\.top\.pose",
        ),
        ({"grid": {"origin": [0, 0, 0], "shape": [1, 2, 0], "resolution": 0.4}}, r"grid\.shape\.2"),
        ({"gird": {}}, "there is no field gird; did you mean grid"),
        ({"version": 2}, "version: .*1"),
    ],
)  # fmt: skip
def test_faults_are_one_line_that_names_the_field(tmp_path, fields, message):
    with pytest.raises(RigError, match=message) as caught:
        read_rig(written(tmp_path, **fields))
    assert "\n" not in str(caught.value) and str(tmp_path) in str(caught.value)


@pytest.mark.parametrize("text", [b"", b"[", b"- 1", b"\xff\xfe\x00", b"!!python/object:os.system {}"])
def test_files_that_are_no_rig(tmp_path, text):
    file = tmp_path / "rig.yaml"
    file.write_bytes(text)
    with pytest.raises(RigError, match=r"rig\.yaml") as caught:
        read_rig(file)
    assert "\n" not in str(caught.value)
    with pytest.raises(RigError, match="drafts one from a recording"):
        read_rig(tmp_path / "nowhere.yaml")


def test_what_is_written_is_read(tmp_path):
    lens = {"model": "equidistant", "fx": 210, "fy": 211, "cx": 319.5, "cy": 239.5, "distortion": [0.02, -0.004, 0.001, 0]}
    rig = Rig.model_validate(
        {
            "name": "no",  # YAML 1.1 would read a bare no as false
            "lidars": {
                "top": {"topic": "/p", "pose": [0.4, 0.2, 0.9, 0, 12, 5], "beams": {"elevations": [-5.5, 0, 5]}, "stamp": "end"},
                "rear": {"topic": "/q", "pose": pose_matrix(1, 2, 3, 10.123456789, 20.3, 33.3).tolist(), "time_field": "t"},
            },
            "cameras": {"fish": {"topic": "/i", "width": 640, "height": 480, "lens": lens, "pose": [0.5, 0, 1, -100, 0, -90]}},
            "grid": {"origin": [-12.8, -12.8, -1], "shape": [128, 128, 16], "resolution": 0.2},
        }
    )
    file = tmp_path / "new" / "rig.yaml"
    write_rig(rig, file, ["a comment", ""])
    read = read_rig(file.parent)
    assert np.allclose(read.lidars["rear"].T_base_lidar, rig.lidars["rear"].T_base_lidar, atol=1e-6)
    assert read.model_dump(exclude={"lidars": {"rear": {"pose"}}}) == rig.model_dump(exclude={"lidars": {"rear": {"pose"}}})
    assert file.read_text().startswith("# a comment\n#\nname:")
    assert "rate_hz" not in file.read_text()  # what was not given is not written


def test_classes_are_shipped_or_a_file_beside_the_rig(tmp_path):
    file = written(tmp_path, classes="occ3d_nuscenes")
    assert read_taxonomy(read_rig(file), file).name == "occ3d_nuscenes"
    file = written(tmp_path, classes="own.yaml")
    with pytest.raises(RigError, match=r"no taxonomy is called 'own.yaml'.*and there is no file .*own\.yaml"):
        read_taxonomy(read_rig(file), file)
    (tmp_path / "own.yaml").write_text("name: own\nclasses: {free: [0, 0, 0], thing: [1, 2, 3]}\nfree: free\nvoxels: {1: 1}\n")
    assert read_taxonomy(read_rig(file), file).names == ("free", "thing")


@pytest.mark.parametrize(
    "file", sorted((Path(__file__).resolve().parents[3] / "config" / "rigs").glob("*.yaml")), ids=lambda f: f.stem
)
def test_the_shipped_rigs_are_rigs(file):
    assert read_rig(file).name == file.stem
