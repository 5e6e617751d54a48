# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Writes a drive as a SemanticKITTI sequence folder."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from occle_train.streets.drive import Drive, DriveFrame
from occle_train.streets.sensors import truth
from occle_train.streets.shapes.classes import KITTI_CLASS, KITTI_MOVING, KITTI_RAW
from occle_train.streets.writing.data_files import write_array, write_image

FOLDERS = ("image_2", "velodyne", "labels", "voxels", "semantic_2")


def write_frame(folder: Path, drive: Drive, i: int) -> None:
    """Write frame i into a sequence folder.

    image_2/*.png; velodyne/*.bin float32 x, y, z, intensity; labels/*.label uint32 (instance << 16 | raw class);
    voxels/*.{bin,label,invalid,occluded}; semantic_2/*.png with SemanticKITTI class ids per pixel (255: sky or no class).
    """
    frame = drive.frame(i)
    for name in FOLDERS:
        (folder / name).mkdir(parents=True, exist_ok=True)
    stem = f"{i:06d}"
    view = frame.views[0]
    write_image(folder / "image_2" / f"{stem}.png", view.rgb, [cv2.IMWRITE_PNG_COMPRESSION, 1])
    classes = np.append(KITTI_CLASS, np.zeros(256 - len(KITTI_CLASS), np.uint8) + 255)
    write_image(folder / "semantic_2" / f"{stem}.png", classes[view.cls])
    scan = frame.scan
    write_array(folder / "velodyne" / f"{stem}.bin", scan.points.astype("<f4"))
    raw = np.where(scan.moving, KITTI_MOVING[scan.cls], KITTI_RAW[scan.cls]).astype(np.uint32)
    write_array(folder / "labels" / f"{stem}.label", (raw | (scan.inst.astype(np.uint32) << 16)).astype("<u4"))
    _write_voxels(folder / "voxels", stem, drive, frame)


def write_sequence_files(folder: Path, drive: Drive) -> None:
    """Write calib.txt, poses.txt (camera 0 in the first camera 0 frame, as KITTI does) and times.txt."""
    camera = drive.rig.cameras[0]
    # P2 carries camera 2's offset from camera 0, Tr the LiDAR's pose in camera 0.
    offset = np.array([0.0598, -0.0004, 0.0027])
    T_camera2_camera0 = np.eye(4)
    T_camera2_camera0[:3, 3] = offset
    T_camera2_lidar = np.linalg.inv(camera.T_base_camera) @ drive.rig.T_base_lidar
    Tr = np.linalg.inv(T_camera2_camera0) @ T_camera2_lidar
    rows = []
    for name, baseline in (
        ("P0", np.zeros(3)),
        ("P1", np.array([-0.537, 0, 0])),
        ("P2", offset),
        ("P3", np.array([-0.4717, 0, 0])),
    ):
        rows.append(f"{name}: {_numbers(np.hstack([camera.K, (camera.K @ baseline)[:, None]]))}")
    rows.append(f"Tr: {_numbers(Tr[:3])}")
    (folder / "calib.txt").write_text("\n".join(rows) + "\n")
    T_base_camera0 = drive.rig.T_base_lidar @ np.linalg.inv(Tr)
    first = np.linalg.inv(drive.base_pose(0) @ T_base_camera0)
    poses = [first @ drive.base_pose(i) @ T_base_camera0 for i in range(drive.frames)]
    (folder / "poses.txt").write_text("".join(_numbers(T[:3]) + "\n" for T in poses))
    (folder / "times.txt").write_text("".join(f"{t:.6e}\n" for t in drive.times))


def _write_voxels(folder: Path, stem: str, drive: Drive, frame: DriveFrame) -> None:
    voxels, grid = frame.truth, drive.rig.grid
    raw = np.zeros(grid.shape, np.uint16)
    full = voxels.cls != truth.EMPTY
    own = voxels.cls[full]
    raw[full] = np.where(voxels.moving[full], KITTI_MOVING[own], KITTI_RAW[own])
    write_array(folder / f"{stem}.label", raw.astype("<u2"))
    known, seen_now = voxels.known, voxels.seen_now
    for suffix, bits in (("bin", grid.occupied(frame.scan.points)), ("invalid", ~known), ("occluded", ~seen_now)):
        write_array(folder / f"{stem}.{suffix}", np.packbits(bits.ravel()))


def _numbers(matrix: NDArray[np.float64]) -> str:
    return " ".join(f"{v:.12e}" for v in matrix.ravel())
