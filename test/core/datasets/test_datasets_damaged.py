# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Damaged, empty, foreign and unreadable files: every reader says which file it is, in one line, and raises nothing else."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from pathlib import Path

import cv2
import numpy as np
import pytest
from dataset_files import CALIB, CAMERAS, write_nuscenes, write_semantickitti, write_voxels

from occle_core.datasets import DatasetError, open_dataset
from occle_core.geometry.grid import OCC3D_NUSCENES, SEMANTICKITTI

IDENTITY = {"q_wxyz": [1, 0, 0, 0], "t": [0, 0, 0]}
MATRIX = np.eye(4).tolist()


def semantickitti(root: Path) -> Path:
    rng = np.random.default_rng(0)
    folder = write_semantickitti(root / "00", [rng.uniform(1, 9, (20, 4)) for _ in range(2)], [np.full(20, 10)] * 2)
    write_voxels(folder, 0, np.zeros((256, 256, 32), np.uint16), np.zeros((256, 256, 32), bool))
    np.zeros(262_144, np.uint8).tofile(folder / "voxels" / "000000.bin")
    return folder


def kitti(root: Path) -> Path:
    folder = root / "2011_09_26" / "2011_09_26_drive_0001_sync"
    for sensor, name in (("velodyne_points", "bin"), ("image_02", "png")):
        (folder / sensor / "data").mkdir(parents=True)
        (folder / sensor / "timestamps.txt").write_text("2011-09-26 13:02:25.951199337\n")
        if name == "bin":
            np.full((5, 4), 3.5, "<f4").tofile(folder / sensor / "data" / "0000000000.bin")
        else:
            cv2.imwrite(str(folder / sensor / "data" / "0000000000.png"), np.zeros((6, 8, 3), np.uint8))
    (folder.parent / "calib_cam_to_cam.txt").write_text(f"R_rect_00: 1 0 0 0 1 0 0 0 1\nP_rect_02: {CALIB.split('P2: ')[1]}")
    (folder.parent / "calib_velo_to_cam.txt").write_text("R: 0 -1 0 0 0 -1 1 0 0\nT: 0 0 0\n")
    return folder


def kitti360(root: Path) -> Path:
    folder = root / "data_2d_raw" / "2013_05_28_drive_0006_sync"
    for name in (folder / "image_00" / "data_rect", folder / "voxels", root / "calibration", folder / "velodyne_points" / "data"):
        name.mkdir(parents=True)
    cv2.imwrite(str(folder / "image_00" / "data_rect" / "000000.png"), np.zeros((20, 60, 3), np.uint8))
    np.full((4, 4), 2.5, "<f4").tofile(folder / "velodyne_points" / "data" / "0000000004.bin")
    np.zeros(SEMANTICKITTI.size, np.uint8).tofile(folder / "voxels" / "000000.invalid")
    np.zeros(SEMANTICKITTI.size, "<u2").tofile(folder / "voxels" / "000000.label")
    (root / "calibration" / "perspective.txt").write_text(
        "R_rect_00: 1 0 0 0 1 0 0 0 1\nP_rect_00: 552 0 30 0 0 552 10 0 0 0 1 0\n"
    )
    (root / "calibration" / "calib_cam_to_velo.txt").write_text("0 0 1 0.8 -1 0 0 0.3 0 -1 0 -0.2")
    (folder / "cam0_to_world.txt").write_text("".join(f"{n} 1 0 0 0 0 1 0 0 0 0 1 0 0 0 0 1\n" for n in (1, 4)))
    return folder


def nuscenes(root: Path) -> Path:
    cams = {name: {"K": np.eye(3).tolist(), "sensor2ego": IDENTITY, "ego2global": IDENTITY} for name in CAMERAS}
    frame = {"token": "t0", "timestamp_us": 3, "points": np.full((9, 5), 4.0), "lidar2ego": IDENTITY, "ego2global": IDENTITY}
    boxes = [("vehicle.car", ["vehicle.moving"], [5, 0, 1], [2, 4, 1.5], 0)]
    write_nuscenes(root, [frame | {"cams": cams, "boxes": boxes}], lidarseg=[np.ones(9)])
    (root / "gts" / "scene-0103" / "t0").mkdir(parents=True)
    shape = OCC3D_NUSCENES.shape
    arrays = {"semantics": np.full(shape, 17, np.uint8), "mask_camera": np.ones(shape, np.uint8)}
    np.savez_compressed(root / "gts" / "scene-0103" / "t0" / "labels.npz", **arrays)
    return root


def infos(root: Path) -> Path:
    np.full((9, 5), 4.0, "<f4").tofile(root / "scan.bin")
    cv2.imwrite(str(root / "front.png"), np.zeros((6, 8, 3), np.uint8))
    camera = {"img_path": "front.png", "cam_intrinsic": np.eye(3).tolist(), "lidar2cam": MATRIX, "timestamp_us": 1}
    info = {"scene": "s", "timestamp_us": 1, "lidar2ego": MATRIX, "ego2global": MATRIX, "lidar_path": "scan.bin"}
    (root / "infos.json").write_text(json.dumps([info | {"cams": {"CAM_FRONT": camera}}]))
    return root


def scans_alone(root: Path) -> Path:
    for name in ("lidar", "labels16"):
        (root / name).mkdir()
    np.full((9, 4), 4.0, "<f4").tofile(root / "lidar" / "00.bin")
    np.ones(9, np.uint8).tofile(root / "labels16" / "00.label")
    frame = {"frame": 0, "n_points": 9, "timestamp_us": 1, "lidar2ego": MATRIX, "ego2global": MATRIX}
    frame |= {"boxes_token": ["a"], "boxes_category16": [4], "boxes_lidar": [[1, 2, 0, 1, 2, 1, 0]]}
    (root / "frames.json").write_text(json.dumps([frame]))
    return root


LAYOUTS = (semantickitti, kitti, kitti360, nuscenes, infos, scans_alone)
NEVER_READ = {"000001.label", "000001.png", "000001.bin"}


def may_pass(file: Path, damage: str, layout) -> bool:
    """Whether the damage leaves something that could be data: no reader can know better."""
    if file.parent.name == "voxels":
        return damage == "noise"
    if file.suffix == ".txt":
        return damage == "without its end" or (damage, file.name) == ("half", "times.txt")
    numbers = {"noise": file.suffix == ".label", "half": file.suffix == ".bin" and layout is kitti360}
    return numbers.get(damage, False)


def use(path: Path) -> None:
    """Everything that can be asked of a frame."""
    dataset = open_dataset(path)
    dataset.frame(0).check()
    dataset.points(0), dataset.pose(0), dataset.point_labels(0), dataset.moving(0), dataset.masks(0)
    dataset.truth(0, OCC3D_NUSCENES if dataset.kind == "nuscenes" else SEMANTICKITTI)


def damages(content: bytes) -> dict[str, bytes | None]:
    noise = np.random.default_rng(0).integers(0, 256, max(64, len(content)), np.uint8).tobytes()
    return {
        "empty": b"",
        "one byte": content[:1],
        "half": content[: len(content) // 2],
        "without its end": content[:-1],
        "another's": b"<html><body>404 Not Found</body></html>\n",
        "noise": noise,
        "a folder": None,
    }


def put(file: Path, content: bytes | None) -> None:
    file.unlink(missing_ok=True)
    if content is None:
        file.mkdir()
    else:
        file.write_bytes(content)


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.__name__)
def test_damaged_files_are_named_in_one_line(layout, tmp_path):
    path = layout(tmp_path)
    use(path)
    files = [file for file in sorted(tmp_path.rglob("*")) if file.is_file() and file.name not in NEVER_READ]
    for file in files:
        whole = file.read_bytes()
        for damage, content in damages(whole).items():
            put(file, content)
            try:
                use(path)
                assert may_pass(file, damage, layout), f"{file.name}, {damage}: accepted"
            except DatasetError as error:
                said = str(error)
                about_the_root = said.startswith(f"{path} is not a data set")
                assert about_the_root or (file.name in said and "\n" not in said), f"{file.name}, {damage}: {said}"
            finally:
                if file.is_dir():
                    file.rmdir()
                file.write_bytes(whole)
    use(path)


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.__name__)
def test_files_that_must_not_be_read_are_named(layout):
    """As another user of the machine: modes do not bind root."""
    root = Path(tempfile.mkdtemp(prefix="occle-modes-"))
    root.chmod(0o755)
    try:
        path = layout(root)
        files = [file for file in sorted(root.rglob("*")) if file.is_file() and file.name not in NEVER_READ]
        for file in files:
            file.chmod(0o000)
            assert (said := as_nobody(path)).startswith("DatasetError") and file.name in said, (file.name, said)
            assert "permission denied" in said and "\n" not in said
            file.chmod(0o644)
    finally:
        shutil.rmtree(root)


def as_nobody(path: Path) -> str:
    """What `use` raises in a process of an unprivileged user."""
    reading, writing = os.pipe()
    if not (child := os.fork()):
        try:
            if os.geteuid() == 0:
                os.setuid(65534)
            use(path)
            said = "nothing"
        except BaseException as error:
            said = f"{type(error).__name__}: {error}"
        os.write(writing, said.encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        said = pipe.read().decode()
    os.waitpid(child, 0)
    return said


def test_a_truth_cut_at_any_length_is_refused(tmp_path):
    path = nuscenes(tmp_path)
    (file,) = tmp_path.rglob("labels.npz")
    whole = file.read_bytes()
    for length in [*range(0, 100), *range(100, len(whole), 97), *range(len(whole) - 60, len(whole))]:
        file.write_bytes(whole[:length])
        os.utime(file, ns=(0, length + 1))
        with pytest.raises(DatasetError, match=r"labels\.npz"):
            open_dataset(path).truth(0, OCC3D_NUSCENES)


def test_a_table_cut_at_any_length_is_refused(tmp_path):
    path = nuscenes(tmp_path)
    file = tmp_path / "v1.0-mini" / "calibrated_sensor.json"
    whole = file.read_text()
    for length in range(len(whole)):
        file.write_text(whole[:length])
        os.utime(file, ns=(0, length + 1))
        with pytest.raises(DatasetError, match=r"calibrated_sensor\.json"):
            open_dataset(path)


def test_a_byte_order_mark_is_no_damage(tmp_path):
    """Windows' editors put one before a text."""
    path = kitti(tmp_path)
    expected = open_dataset(path)
    for file in [*path.glob("*/timestamps.txt"), *path.parent.glob("*.txt")]:
        file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes().replace(b"\n", b"\r\n"))
    use(path)
    assert open_dataset(path).stamps == expected.stamps
