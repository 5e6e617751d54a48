# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Writes a drive as one scene of a nuScenes dataset with Occ3D truth and nuScenes-lidarseg labels."""

from __future__ import annotations

import json
from hashlib import md5
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from occle_train.streets.drive import Drive, DriveFrame
from occle_train.streets.sensors import truth
from occle_train.streets.shapes.boxes import Box, quaternion
from occle_train.streets.shapes.classes import LIDARSEG, OCC3D_CLASS
from occle_train.streets.writing import nuscenes_tables
from occle_train.streets.writing.data_files import write_array, write_image
from occle_train.streets.writing.nuscenes_tables import VERSION, Record

FREE = 17
INTENSITY = 40.0
"""nuScenes intensity (0..255) of a surface that the simulator gives 1."""
RECORDS = "records"
"""Folder of per-frame and per-scene records that `publish` turns into the dataset's tables."""


def write_frame(folder: Path, drive: Drive, i: int) -> None:
    """Write sample i into a scene's folder.

    samples/CAM_*/*.jpg; semantic/CAM_*/*.png with Occ3D class ids per pixel (255: sky); samples/LIDAR_TOP/*.pcd.bin float32
    x, y, z, intensity 0..255, ring; lidarseg/VERSION/*_lidarseg.bin uint8; gts/SCENE/TOKEN/labels.npz; and the frame's records.
    """
    frame = drive.frame(i)
    sample, stamp = _token(drive, "sample", i), _stamp(drive, i)
    record: Record = {"token": sample, "timestamp": stamp, "data": [], "annotations": []}
    classes = np.append(OCC3D_CLASS, np.full(256 - len(OCC3D_CLASS), 255, np.uint8))
    for camera, view in zip(drive.rig.cameras, frame.views):
        name = f"{scene_name(drive)}__{camera.name}__{stamp}"
        image = _place(folder, f"samples/{camera.name}/{name}.jpg")
        write_image(image, view.rgb, [cv2.IMWRITE_JPEG_QUALITY, 93])
        write_image(_place(folder, f"semantic/{camera.name}/{name}.png"), classes[view.cls])
        record["data"].append(_data(drive, i, camera.name, f"samples/{camera.name}/{name}.jpg", camera.width, camera.height))
    lidar_file = f"samples/LIDAR_TOP/{scene_name(drive)}__LIDAR_TOP__{stamp}.pcd.bin"
    scan = frame.scan
    strength = np.round(np.minimum(scan.points[:, 3:] * np.float32(INTENSITY), 255))
    rows = np.hstack([scan.points[:, :3], strength, scan.ring[:, None]])
    write_array(_place(folder, lidar_file), rows.astype("<f4"))
    record["data"].append(_data(drive, i, "LIDAR_TOP", lidar_file, 0, 0))
    seg_file = f"lidarseg/{VERSION}/{_token(drive, 'LIDAR_TOP', i)}_lidarseg.bin"
    write_array(_place(folder, seg_file), np.append(LIDARSEG, np.zeros(256 - len(LIDARSEG), np.uint8))[scan.cls])
    record["lidarseg"] = {
        "token": _token(drive, "LIDAR_TOP", i),
        "sample_data_token": _token(drive, "LIDAR_TOP", i),
        "filename": seg_file,
    }
    record["ego_pose"] = {
        "timestamp": stamp,
        "rotation": quaternion(frame.T_world_base[:3, :3]),
        "translation": frame.T_world_base[:3, 3].tolist(),
    }
    hits = np.bincount(scan.inst, minlength=65536)
    record["annotations"] = [_annotation(drive, i, box, int(hits[box.instance])) for box in drive.boxes(i) if hits[box.instance]]
    _write_truth(_place(folder, f"gts/{scene_name(drive)}/{sample}/labels.npz"), frame)
    _dump(_place(folder, f"{RECORDS}/frame-{i:06d}.json"), record)


def write_sequence_files(folder: Path, drive: Drive) -> None:
    """Write the scene's records: calibration and names."""
    sensors = [_sensor(drive, "LIDAR_TOP", "lidar", drive.rig.T_base_lidar, [])]
    sensors += [_sensor(drive, c.name, "camera", c.T_base_camera, c.K.tolist()) for c in drive.rig.cameras]
    scene: Record = {
        "token": _token(drive, "scene", 0),
        "log_token": _token(drive, "log", 0),
        "name": scene_name(drive),
        "description": f"simulated {drive.scene.title}",
        "sensors": sensors,
    }
    _dump(_place(folder, f"{RECORDS}/scene.json"), scene)


def is_simulated(out: Path) -> bool:
    """Whether all scenes of a data set's tables are the simulator's."""
    return all(str(scene.get("description", "")).startswith("simulated ") for scene in nuscenes_tables.read(out)["scene"])


def publish(out: Path, folder: Path) -> str:
    """Move a complete scene into the dataset and add it to the tables; a scene of the same name is replaced.

    Returns:
        The scene's name.
    """
    scene: Record = json.loads((folder / RECORDS / "scene.json").read_text())
    frames: list[Record] = [json.loads(p.read_text()) for p in sorted((folder / RECORDS).glob("frame-*.json"))]
    tables = nuscenes_tables.read(out)
    stale = nuscenes_tables.remove_scene(tables, scene["name"])
    nuscenes_tables.add_scene(tables, scene, frames)
    for source in sorted(p for p in folder.rglob("*") if p.is_file() and p.parent.name != RECORDS):
        target = out / source.relative_to(folder)
        target.parent.mkdir(parents=True, exist_ok=True)
        source.replace(target)
    nuscenes_tables.write(out, tables, scratch=folder)
    kept = {r["filename"] for name in ("sample_data", "lidarseg") for r in tables[name]}
    for name in stale - kept:
        (out / name).unlink(missing_ok=True)
    return str(scene["name"])


def scene_name(drive: Drive) -> str:
    """Name of the scene, like nuScenes' own."""
    return f"scene-{drive.number:04d}"


def _write_truth(path: Path, frame: DriveFrame) -> None:
    voxels = frame.truth
    semantics = np.full(voxels.cls.shape, FREE, np.uint8)
    full = voxels.cls != truth.EMPTY
    semantics[full] = OCC3D_CLASS[voxels.cls[full]]
    np.savez_compressed(
        path, semantics=semantics, mask_lidar=voxels.seen_now.astype(np.uint8), mask_camera=voxels.seen_by_camera.astype(np.uint8)
    )


def _data(drive: Drive, i: int, channel: str, filename: str, width: int, height: int) -> Record:
    return {
        "token": _token(drive, channel, i),
        "calibrated_sensor_token": _token(drive, f"calibrated {channel}", 0),
        "filename": filename,
        "fileformat": "jpg" if width else "pcd",
        "width": width,
        "height": height,
        "ego_pose_token": _token(drive, f"pose {channel}", i),
    }


def _annotation(drive: Drive, i: int, box: Box, points: int) -> Record:
    return {
        "token": _token(drive, f"annotation {box.instance}", i),
        "instance_token": _token(drive, "instance", box.instance),
        "category": box.category,
        "translation": box.centre.tolist(),
        "size": box.size.tolist(),
        "rotation": quaternion(box.rotation),
        "attribute": box.attribute,
        "num_lidar_pts": points,
    }


def _sensor(drive: Drive, channel: str, modality: str, T: NDArray[np.float64], intrinsic: list[Any]) -> Record:
    return {
        "token": _token(drive, f"calibrated {channel}", 0),
        "channel": channel,
        "modality": modality,
        "translation": T[:3, 3].tolist(),
        "rotation": quaternion(T[:3, :3]),
        "camera_intrinsic": intrinsic,
    }


def _stamp(drive: Drive, i: int) -> int:
    return 1_600_000_000_000_000 + drive.number * 1_000_000_000 + round(float(drive.times[i]) * 1e6)


def _token(drive: Drive, kind: str, number: int) -> str:
    return md5(f"{drive.seed}/{drive.number}/{kind}/{number}".encode()).hexdigest()


def _place(folder: Path, name: str) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def _dump(path: Path, record: Record) -> None:
    path.write_text(json.dumps(record))
