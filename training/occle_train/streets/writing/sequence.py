# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Writes a drive of a described rig as an occle sequence."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from occle_core import taxonomy
from occle_core.atomic_file import write_json
from occle_core.datasets.recordings import sequence_files as files
from occle_core.datasets.recordings.sequence import HEAD, read_json
from occle_core.geometry.affine import transform_points
from occle_core.rig import Rig
from occle_core.taxonomy import IGNORE, Taxonomy, TaxonomyConfig
from occle_train.streets.drive import Drive
from occle_train.streets.scenes.scene import SceneKind
from occle_train.streets.sensors import lidar, truth
from occle_train.streets.sensors.described_rig import scaled_rig
from occle_train.streets.shapes.classes import KITTI_CLASS, OCC3D_CLASS, WAREHOUSE_CLASS

SHARD = "shards/00000"
FIRST_STAMP = 1_000_000_000
"""Nanoseconds of frame 0."""
_STREET = {"semantickitti": KITTI_CLASS, "occ3d_nuscenes": OCC3D_CLASS}
_SITE = {"warehouse": WAREHOUSE_CLASS}


def class_table(classes: Taxonomy, kind: SceneKind) -> NDArray[np.uint8]:
    """(256,) internal class -> class id, 255 where there is none.

    Args:
        classes: of the labels.
        kind: of the place: a street has SemanticKITTI's and Occ3D-nuScenes' classes, a hall or yard those of warehouse.

    Raises:
        ValueError: another class list, without names of theirs.
    """
    named = _STREET if kind == "street" else _SITE
    table = np.full(256, IGNORE, np.uint8)
    if classes.name in named:
        table[: len(KITTI_CLASS)] = named[classes.name]
        return table
    for name, own in named.items():
        try:
            table[: len(own)] = classes.table_from(taxonomy.load(name))[own]
            return table
        except ValueError as error:
            problem = error
    listed = " and ".join(f"{name}'s" for name in named)
    raise ValueError(f"the simulator's classes of a {kind} are {listed}: {problem}")


def write_frame(folder: Path, drive: Drive, i: int, rig: Rig, classes: str | TaxonomyConfig) -> None:
    """Write frame i into the sequence's shard."""
    frame, shard, stem = drive.frame(i), folder / SHARD, f"{i:06d}"
    table = class_table(taxonomy.load(classes), drive.kind)
    stamp = FIRST_STAMP + round(float(drive.times[i]) * 1e9)
    images = {}
    for camera, view in zip(drive.rig.cameras, frame.views):
        (shard / camera.name).mkdir(parents=True, exist_ok=True)
        (shard / "semantic" / camera.name).mkdir(parents=True, exist_ok=True)
        image = cv2.imencode(".jpg", view.rgb[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 95])[1]
        (shard / camera.name / f"{stem}.jpg").write_bytes(image.tobytes())
        semantic = cv2.imencode(".png", table[view.cls])[1]
        (shard / "semantic" / camera.name / f"{stem}.png").write_bytes(semantic.tobytes())
        images[camera.name] = {"file": f"{camera.name}/{stem}.jpg", "stamp": stamp}
    points, sensor, cls, moving = _merged(drive, (frame.scan, *frame.others))
    files.write_points(shard / "points" / f"{stem}.npz", points, sensor, np.zeros(len(points), np.float32))
    files.write_labels(shard / "labels" / f"{stem}.npz", table[cls], moving)
    voxels = frame.truth
    labels = np.full(voxels.cls.shape, taxonomy.load(classes).free, np.uint8)
    full = voxels.cls != truth.EMPTY
    labels[full] = table[voxels.cls[full]]
    labels[~voxels.known] = IGNORE
    files.write_voxels(shard / "voxels" / f"{stem}.npz", labels, {"camera": voxels.seen_by_camera, "lidar": voxels.seen_now})
    T = drive.base_pose(i) @ drive.rig.T_base_grid
    write_json(shard / f"{stem}.json", {"number": i, "stamp": stamp, "T_world_base": T, "images": images})


def write_sequence_files(folder: Path, drive: Drive, rig: Rig, scale: float, classes: str | TaxonomyConfig) -> None:
    """Write sequence.json and rig.yaml."""
    source = {"simulator": "streets", "seed": drive.seed, "drive": drive.number, "frames": drive.frames}
    if drive.kind != "street":
        source["scene"] = drive.kind
    files.write_head(folder, scaled_rig(rig, scale), classes, source)


def finish(folder: Path) -> None:
    """Join what the processes wrote of each frame."""
    parts = sorted((folder / SHARD).glob("[0-9]*.json"))
    files.write_frames(folder / SHARD, [json.loads(part.read_text("utf-8")) for part in parts])
    for part in parts:
        part.unlink()


def is_simulated(folder: Path) -> bool:
    """Whether a folder is a sequence of the simulator."""
    if not (folder / HEAD).is_file():
        return False
    source = read_json(folder / HEAD).get("source")
    return isinstance(source, dict) and "simulator" in source


def _merged(
    drive: Drive, scans: tuple[lidar.SimulatedScan, ...]
) -> tuple[NDArray[np.float32], NDArray[np.uint8], NDArray[np.uint8], NDArray[np.bool_]]:
    """Points of all LiDARs in the leading one's frame, their LiDARs' numbers, internal classes and motion."""
    points = []
    for scan, (_, T) in zip(scans, drive.rig.lidars):
        T_lead_lidar = np.asarray(np.linalg.solve(drive.rig.T_base_lidar, T), np.float64)
        moved = transform_points(T_lead_lidar, scan.points[:, :3].astype(np.float64))
        points.append(np.column_stack([moved, scan.points[:, 3]]).astype(np.float32))
    sensor = np.repeat(np.arange(len(scans), dtype=np.uint8), [len(scan.points) for scan in scans])
    cls, moving = (np.concatenate([getattr(scan, name) for scan in scans]) for name in ("cls", "moving"))
    return np.concatenate(points), sensor, cls, moving
