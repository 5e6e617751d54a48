# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Tiny data sets on disk for tests, written from the formats' descriptions and not with the readers' code."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np

from occle_core.datasets.semantickitti import SemanticKittiDataset
from occle_core.datasets.semantickitti_voxels import VoxelFolder

CALIB = """P0: 700 0 600 0 0 700 180 0 0 0 1 0
P2: 7.070912e+02 0 6.018873e+02 4.688783e+01 0 7.070912e+02 1.831104e+02 1.178601e-01 0 0 1 6.203223e-03
Tr: 0 -1 0 0.01 0 0 -1 -0.07 1 0 0 -0.33
"""

CAMERAS = ("CAM_FRONT", "CAM_FRONT_RIGHT", "CAM_FRONT_LEFT", "CAM_BACK", "CAM_BACK_LEFT", "CAM_BACK_RIGHT")


def write_semantickitti(folder: Path, scans: list[np.ndarray], raw_labels: list[np.ndarray], size=(124, 38)) -> Path:
    """A sequence folder that drives 1 m forward per scan, without voxels."""
    for name in ("velodyne", "image_2", "labels", "voxels"):
        (folder / name).mkdir(parents=True)
    for i, (scan, labels) in enumerate(zip(scans, raw_labels)):
        scan.astype("<f4").tofile(folder / "velodyne" / f"{i:06d}.bin")
        (labels.astype("<u4") | np.uint32(i + 1) << 16).tofile(folder / "labels" / f"{i:06d}.label")
        image = np.zeros((size[1], size[0], 3), np.uint8)
        image[:, :, 2] = 200  # blue, green, red: red
        cv2.imwrite(str(folder / "image_2" / f"{i:06d}.png"), image)
    (folder / "calib.txt").write_text(CALIB)
    (folder / "times.txt").write_text("".join(f"{0.1 * i:e}\n" for i in range(len(scans) + 5)))
    # In camera axes forward is z.
    (folder / "poses.txt").write_text("".join(f"1 0 0 0 0 1 0 0 0 0 1 {i}\n" for i in range(len(scans) + 5)))
    return folder


def voxel_bits(dataset: SemanticKittiDataset, i: int, suffix: str) -> np.ndarray:
    """(256, 256, 32) bool of a frame's voxels/NNNNNN.`suffix`, whichever release wrote it."""
    voxels = VoxelFolder(dataset.folder / "voxels", [f"{number:06d}" for number in dataset.numbers], dataset.points)
    return voxels.placed(voxels.bits(i, suffix), suffix != "bin")


def write_voxels(folder: Path, frame: int, raw: np.ndarray, invalid: np.ndarray) -> None:
    """voxels/NNNNNN.label and .invalid from (256, 256, 32) arrays, bit by bit."""
    raw.astype("<u2").tofile(folder / "voxels" / f"{frame:06d}.label")
    bits = invalid.reshape(-1, 8)
    (bits @ np.array([128, 64, 32, 16, 8, 4, 2, 1])).astype(np.uint8).tofile(folder / "voxels" / f"{frame:06d}.invalid")


def write_nuscenes(
    root: Path, frames: list[dict], scene="scene-0103", lidarseg: list[np.ndarray] | None = None, suffix="png", size=(16, 9)
) -> Path:
    """Tables of one scene. Each frame: token, timestamp_us, points (N, 5), lidar2ego, ego2global and cams, poses as q_wxyz and t
    like in the extract of real calibrations; boxes as (category, attributes, translation, size w l h, yaw)."""
    tables = {name: [] for name in ("sample", "sample_data", "ego_pose", "calibrated_sensor", "sensor", "sample_annotation")}
    tables |= {name: [] for name in ("instance", "category", "attribute", "lidarseg")}
    tables["scene"] = [{"token": "s0", "name": scene, "first_sample_token": frames[0]["token"], "nbr_samples": len(frames)}]
    tables["sensor"] = [{"token": f"sensor-{name}", "channel": name} for name in ("LIDAR_TOP", *CAMERAS)]
    for i, frame in enumerate(frames):
        token = frame["token"]
        neighbour = [frames[j]["token"] if 0 <= j < len(frames) else "" for j in (i - 1, i + 1)]
        tables["sample"].append({"token": token, "scene_token": "s0", "prev": neighbour[0], "next": neighbour[1], "timestamp": 0})
        lidar = {"sensor2ego": frame["lidar2ego"], "ego2global": frame["ego2global"], "timestamp_us": frame["timestamp_us"]}
        for channel, sensor in {"LIDAR_TOP": lidar, **frame["cams"]}.items():
            file = f"samples/{channel}/{token}.{'pcd.bin' if channel == 'LIDAR_TOP' else suffix}"
            (root / file).parent.mkdir(parents=True, exist_ok=True)
            if channel == "LIDAR_TOP":
                frame["points"].astype("<f4").tofile(root / file)
            else:
                v, u = np.mgrid[: size[1], : size[0]]
                cv2.imwrite(str(root / file), (np.dstack([u, v, u + v]) + 50).astype(np.uint8))
            key = f"{token}-{channel}"
            for table, pose in (("ego_pose", sensor["ego2global"]), ("calibrated_sensor", sensor["sensor2ego"])):
                row = {"token": f"{table}-{key}", "translation": list(pose["t"]), "rotation": list(pose["q_wxyz"])}
                if table == "calibrated_sensor":
                    row |= {"sensor_token": f"sensor-{channel}", "camera_intrinsic": sensor.get("K", [])}
                tables[table].append(row)
            row = {
                "token": key,
                "sample_token": token,
                "filename": file,
                "timestamp": sensor.get("timestamp_us", 5),
                "is_key_frame": True,
            }
            row |= {
                "ego_pose_token": f"ego_pose-{key}",
                "calibrated_sensor_token": f"calibrated_sensor-{key}",
                "width": size[0],
                "height": size[1],
            }
            # A sweep between the keyframes must not be taken for one.
            tables["sample_data"] += [row, row | {"token": key + "-sweep", "is_key_frame": False, "filename": "sweeps/none"}]
        for n, (category, attributes, translation, size, yaw) in enumerate(frame.get("boxes", [])):
            names = {name: f"attribute-{name}" for name in attributes}
            tables["attribute"] += [{"token": t, "name": name} for name, t in names.items()]
            tables["category"].append({"token": f"category-{category}", "name": category})
            tables["instance"].append({"token": f"i-{token}-{n}", "category_token": f"category-{category}"})
            box = {"token": f"a-{token}-{n}", "sample_token": token, "instance_token": f"i-{token}-{n}", "translation": translation}
            box |= {"size": size, "rotation": [np.cos(yaw / 2), 0, 0, np.sin(yaw / 2)], "attribute_tokens": list(names.values())}
            tables["sample_annotation"].append(box)
        if lidarseg is not None:
            (root / "lidarseg").mkdir(exist_ok=True)
            lidarseg[i].astype(np.uint8).tofile(root / "lidarseg" / f"{i}.bin")
            tables["lidarseg"].append({"token": f"{i}", "sample_data_token": f"{token}-LIDAR_TOP", "filename": f"lidarseg/{i}.bin"})
    (root / "v1.0-mini").mkdir()
    for name, rows in tables.items():
        if name != "lidarseg" or lidarseg is not None:
            (root / "v1.0-mini" / f"{name}.json").write_text(json.dumps(rows))
    return root
