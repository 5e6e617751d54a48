# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""The JSON tables of a nuScenes dataset: read, extend by a scene, remove a scene, write."""

from __future__ import annotations

import json
from hashlib import md5
from pathlib import Path
from typing import Any

import numpy as np

from occle_train.streets.writing.data_files import write_image

VERSION = "v1.0-mini"
Record = dict[str, Any]
Tables = dict[str, list[Record]]

NAMES = (
    "attribute",
    "calibrated_sensor",
    "category",
    "ego_pose",
    "instance",
    "lidarseg",
    "log",
    "map",
    "sample",
    "sample_annotation",
    "sample_data",
    "scene",
    "sensor",
    "visibility",
)
"""The thirteen tables of nuScenes and lidarseg's."""

CATEGORIES = (
    "noise",
    "animal",
    "human.pedestrian.adult",
    "human.pedestrian.child",
    "human.pedestrian.construction_worker",
    "human.pedestrian.personal_mobility",
    "human.pedestrian.police_officer",
    "human.pedestrian.stroller",
    "human.pedestrian.wheelchair",
    "movable_object.barrier",
    "movable_object.debris",
    "movable_object.pushable_pullable",
    "movable_object.trafficcone",
    "static_object.bicycle_rack",
    "vehicle.bicycle",
    "vehicle.bus.bendy",
    "vehicle.bus.rigid",
    "vehicle.car",
    "vehicle.construction",
    "vehicle.emergency.ambulance",
    "vehicle.emergency.police",
    "vehicle.motorcycle",
    "vehicle.trailer",
    "vehicle.truck",
    "flat.driveable_surface",
    "flat.other",
    "flat.sidewalk",
    "flat.terrain",
    "static.manmade",
    "static.other",
    "static.vegetation",
    "vehicle.ego",
)
"""nuScenes-lidarseg's classes in the order of their indices."""

ATTRIBUTES = (
    "vehicle.moving",
    "vehicle.stopped",
    "vehicle.parked",
    "cycle.with_rider",
    "cycle.without_rider",
    "pedestrian.sitting_lying_down",
    "pedestrian.standing",
    "pedestrian.moving",
)

MAP_FILE = "maps/simulated.png"


def read(out: Path) -> Tables:
    """The dataset's tables, or those of an empty dataset where there is none yet."""
    folder = out / VERSION
    if folder.exists():
        return {name: json.loads((folder / f"{name}.json").read_text()) for name in NAMES}
    tables: Tables = {name: [] for name in NAMES}
    tables["category"] = [{"token": _token(n), "name": n, "description": "", "index": i} for i, n in enumerate(CATEGORIES)]
    tables["attribute"] = [{"token": _token(n), "name": n, "description": ""} for n in ATTRIBUTES]
    levels = ("v0-40", "v40-60", "v60-80", "v80-100")
    tables["visibility"] = [
        {"token": str(i + 1), "level": n, "description": f"visibility of {n[1:]} %"} for i, n in enumerate(levels)
    ]
    tables["map"] = [{"token": _token("map"), "log_tokens": [], "category": "semantic_prior", "filename": MAP_FILE}]
    return tables


def add_scene(tables: Tables, scene: Record, frames: list[Record]) -> None:
    """Append a scene and everything that belongs to it; `scene` and `frames` are what the writer of frames recorded."""
    tables["log"].append(
        {
            "token": scene["log_token"],
            "logfile": scene["name"],
            "vehicle": "simulated",
            "date_captured": "2020-09-13",
            "location": "simulated",
        }
    )
    tables["map"][0]["log_tokens"].append(scene["log_token"])
    tokens = [f["token"] for f in frames]
    tables["scene"].append(
        {
            "token": scene["token"],
            "log_token": scene["log_token"],
            "nbr_samples": len(frames),
            "first_sample_token": tokens[0],
            "last_sample_token": tokens[-1],
            "name": scene["name"],
            "description": scene["description"],
        }
    )
    for sensor in scene["sensors"]:
        channel = {"token": _token(sensor["channel"]), "channel": sensor["channel"], "modality": sensor["modality"]}
        if channel not in tables["sensor"]:
            tables["sensor"].append(channel)
        calibrated = {k: sensor[k] for k in ("token", "translation", "rotation", "camera_intrinsic")}
        tables["calibrated_sensor"].append({**calibrated, "sensor_token": channel["token"]})
    data = [{d["calibrated_sensor_token"]: d["token"] for d in f["data"]} for f in frames]
    for i, frame in enumerate(frames):
        before, after = _neighbours(tokens, i)
        stamp = frame["timestamp"]
        tables["sample"].append(
            {"token": frame["token"], "timestamp": stamp, "prev": before, "next": after, "scene_token": scene["token"]}
        )
        for d in frame["data"]:
            before, after = _neighbours([x[d["calibrated_sensor_token"]] for x in data], i)
            tables["sample_data"].append(
                {**d, "sample_token": frame["token"], "timestamp": stamp, "is_key_frame": True, "prev": before, "next": after}
            )
            tables["ego_pose"].append({"token": d["ego_pose_token"], **frame["ego_pose"]})
        tables["lidarseg"].append(frame["lidarseg"])
    _add_annotations(tables, frames)


def remove_scene(tables: Tables, name: str) -> set[str]:
    """Take a scene out of the tables; returns the names of the files that belonged to it."""
    scenes = [s for s in tables["scene"] if s["name"] == name]
    if not scenes:
        return set()
    gone = {s["token"] for s in scenes}
    logs = {s["log_token"] for s in scenes}
    samples = {s["token"] for s in tables["sample"] if s["scene_token"] in gone}
    data = [d for d in tables["sample_data"] if d["sample_token"] in samples]
    data_tokens = {d["token"] for d in data}
    files = {d["filename"] for d in data} | {s["filename"] for s in tables["lidarseg"] if s["sample_data_token"] in data_tokens}
    drop = {
        "scene": gone,
        "log": logs,
        "sample": samples,
        "sample_data": data_tokens,
        "ego_pose": {d["ego_pose_token"] for d in data},
        "calibrated_sensor": {d["calibrated_sensor_token"] for d in data},
        "lidarseg": {s["token"] for s in tables["lidarseg"] if s["sample_data_token"] in data_tokens},
        "sample_annotation": {a["token"] for a in tables["sample_annotation"] if a["sample_token"] in samples},
        "instance": {a["instance_token"] for a in tables["sample_annotation"] if a["sample_token"] in samples},
    }
    for table, dead in drop.items():
        tables[table] = [r for r in tables[table] if r["token"] not in dead]
    for record in tables["map"]:
        record["log_tokens"] = [t for t in record["log_tokens"] if t not in logs]
    return files


def write(out: Path, tables: Tables, scratch: Path) -> None:
    """Write all tables and the (empty) map mask; the tables appear together, by renaming a folder made in `scratch`."""
    mask = out / MAP_FILE
    if not mask.exists():
        mask.parent.mkdir(parents=True, exist_ok=True)
        write_image(mask, np.zeros((100, 100), np.uint8))
    fresh, target = scratch / "tables", out / VERSION
    fresh.mkdir()
    for name in NAMES:
        (fresh / f"{name}.json").write_text(json.dumps(sorted(tables[name], key=lambda r: _order(name, r)), indent=0))
    if target.exists():
        target.rename(scratch / "tables-before")
    fresh.rename(target)


def _add_annotations(tables: Tables, frames: list[Record]) -> None:
    tracks: dict[str, list[tuple[Record, Record]]] = {}
    for frame in frames:
        for a in frame["annotations"]:
            tracks.setdefault(a["instance_token"], []).append((frame, a))
    for instance, track in tracks.items():
        tokens = [a["token"] for _, a in track]
        tables["instance"].append(
            {
                "token": instance,
                "category_token": _token(track[0][1]["category"]),
                "nbr_annotations": len(track),
                "first_annotation_token": tokens[0],
                "last_annotation_token": tokens[-1],
            }
        )
        for k, (frame, a) in enumerate(track):
            before, after = _neighbours(tokens, k)
            tables["sample_annotation"].append(
                {
                    "token": a["token"],
                    "sample_token": frame["token"],
                    "instance_token": instance,
                    "visibility_token": "4",
                    "attribute_tokens": [_token(a["attribute"])] if a["attribute"] else [],
                    "translation": a["translation"],
                    "size": a["size"],
                    "rotation": a["rotation"],
                    "prev": before,
                    "next": after,
                    "num_lidar_pts": a["num_lidar_pts"],
                    "num_radar_pts": 0,
                }
            )


def _neighbours(tokens: list[str], i: int) -> tuple[str, str]:
    return tokens[i - 1] if i else "", tokens[i + 1] if i + 1 < len(tokens) else ""


def _order(table: str, record: Record) -> tuple[str, str]:
    """Scenes by name and samples by time, so that the tables do not depend on which process finished first."""
    if table == "category":
        return f"{record['index']:03d}", ""
    first = record.get("name") or str(record.get("timestamp", ""))
    return str(first), str(record["token"])


def _token(name: str) -> str:
    return md5(name.encode()).hexdigest()
