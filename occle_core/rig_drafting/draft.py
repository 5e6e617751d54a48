# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Draft of a rig file: topics, frames, lenses, poses, beams, ground and grid of a recording, and the questions that are left."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from occle_core.bags.bag_file import BagFile, open_bag
from occle_core.bags.storage import BagError
from occle_core.datasets.recordings.bag_index import CLOUD, COMPRESSED, INFO, ODOMETRY, BagIndex, index_bag, read_message
from occle_core.datasets.recordings.resolve import lens_of
from occle_core.rig import CameraRig, LidarRig, Rig
from occle_core.rig_drafting.beams import measure_beams
from occle_core.rig_drafting.names import camera_infos, image_topics, sensor_names
from occle_core.rig_drafting.placement import place_grid, pose_sensors
from occle_core.sensors.clouds import MAX_INTENSITY, full_intensity, scan_from_cloud
from occle_core.sensors.images import image_from_message
from occle_core.sensors.messages import ConversionError
from occle_core.sensors.transforms import TransformError, frame_name

SCANS = 8
"""Scans of each LiDAR that are looked at, over the whole recording."""
BASES = ("base_link", "base_footprint", "base", "chassis", "body", "vehicle")
ODOMETRIES = ("odom", "odometry", "local", "camera_init", "map", "world")


@dataclass
class Draft:
    """A drafted rig.

    Args:
        rig: what could be found.
        facts: what was measured, a line each.
        questions: what only a person knows, a line each, with the field to fill in.
    """

    rig: Rig
    facts: list[str] = field(default_factory=list)
    questions: list[str] = field(default_factory=list)


def draft_rig(bag: Path, name: str = "") -> Draft:
    """Draft the rig of a recording.

    Args:
        bag: a rosbag2 folder, or an mcap, db3 or ROS 1 file.
        name: of the rig; empty: the bag's.

    Raises:
        BagError: the bag cannot be read, or has no LiDAR.
    """
    with open_bag(bag) as reader:
        kinds = {each.topic: each.msgtype for each in reader.connections if each.msgcount}
    clouds = [topic for topic, kind in kinds.items() if kind == CLOUD]
    if not clouds:
        there = ", ".join(f"{topic} ({kind})" for topic, kind in sorted(kinds.items())) or "none"
        raise BagError(
            f"{bag} has no sensor_msgs/msg/PointCloud2, which every rig needs; record the LiDAR's topic. Its topics: {there}"
        )
    images, notes = image_topics(kinds)
    infos = [topic for topic, kind in kinds.items() if kind == INFO]
    odometry = [topic for topic, kind in kinds.items() if kind == ODOMETRY]
    index = index_bag(bag, [*clouds, *images], infos, odometry)
    draft = Draft(Rig.model_validate({"lidars": {"lidar": {"topic": "x"}}}), notes)
    with open_bag(bag) as reader:
        lidars, scans = _lidars(bag, reader, index, clouds, draft)
        cameras, baselines = _cameras(bag, reader, index, images, infos, draft)
    base, odom = _frames(index, lidars, odometry, draft)
    lidars, cameras, questions = pose_sensors(index.transforms, base, lidars, cameras, baselines, scans)
    draft.questions += questions
    grid, ground_z, found, questions = place_grid(lidars, scans)
    draft.facts += found
    draft.questions += questions
    fields: dict[str, Any] = {"name": name or bag.resolve().name.split(".")[0], "base_frame": base, "odometry": odom,
                              "lidars": lidars, "cameras": cameras, "grid": grid, "ground_z": ground_z}  # fmt: skip
    draft.rig = Rig.model_validate({key: value for key, value in fields.items() if value is not None})
    draft.questions.append(
        "classes: which class list? semantickitti, occ3d_nuscenes, warehouse, or a file of your own; left out: the network's"
    )
    return draft


def _lidars(
    bag: Path, reader: BagFile, index: BagIndex, topics: list[str], draft: Draft
) -> tuple[dict[str, LidarRig], dict[str, NDArray[np.float32]]]:
    """LiDARs, the one with most points first, and their points over the recording."""
    found: list[tuple[int, str, LidarRig, NDArray[np.float32]]] = []
    names = sensor_names(topics, "lidar")
    for topic in topics:
        entry = index.topics[topic]
        rows = np.unique(np.linspace(0, len(entry.places) - 1, SCANS).round().astype(int))
        messages = [read_message(bag, reader.read(entry.places[row]), CLOUD, topic) for row in rows]
        try:
            decoded = [scan_from_cloud(message, 1.0, topic) for message in messages]
            beams = measure_beams(messages, topic)
        except (ConversionError, ValueError) as error:
            draft.facts.append(f"{topic} is left out: {error}")
            continue
        rate = 1e9 / float(np.median(np.diff(entry.stamps))) if len(entry.stamps) > 1 and np.diff(entry.stamps).any() else 10.0
        points = np.concatenate([scan.points for scan in decoded])
        scale = _intensity_scale(points)
        shown = next(scan for scan in decoded if len(scan.points))  # measure_beams refuses scans without any
        draft.facts.append(f"{topic}: {len(points) // len(decoded)} points at {rate:.1f} Hz; {beams.text}")
        draft.facts.append(
            f"{topic}: {shown.times.text if shown.times else shown.time_problem or 'no times of points: scans are not compensated'}"
        )
        if not beams.is_certain:
            draft.questions.append(f"lidars.{names[topic]}.beams: which pattern has this LiDAR? It matters for simulate only")
        values: dict[str, Any] = {
            "topic": topic,
            "frame": messages[0].header.frame_id,
            "rate_hz": round(rate, 2),
            "beams": beams.table,
        }
        if scale != 1.0:
            values["intensity_scale"] = scale
        found.append((len(points), names[topic], LidarRig.model_validate(values), points))
    if not found:
        raise BagError(f"{bag}: no LiDAR can be used: {'; '.join(draft.facts)}")
    found.sort(key=lambda each: -each[0])
    return {name: lidar for _, name, lidar, _ in found}, {name: points for _, name, _, points in found}


def _cameras(
    bag: Path, reader: BagFile, index: BagIndex, topics: list[str], infos: list[str], draft: Draft
) -> tuple[dict[str, CameraRig], dict[str, NDArray[np.float64]]]:
    """Cameras, and of each the offset (4, 4) of a stereo pair's second camera from the frame that its CameraInfo names."""
    cameras: dict[str, CameraRig] = {}
    baselines: dict[str, NDArray[np.float64]] = {}
    names = sensor_names(topics, "camera")
    for topic, info_topic in camera_infos(topics, infos).items():
        kind, entry = index.kinds[topic], index.topics[topic]
        message = read_message(bag, reader.read(entry.places[0]), kind, topic)
        try:
            image = image_from_message(message, topic)
        except ConversionError as error:
            draft.facts.append(f"{topic} is left out: {error}")
            continue
        name = names[topic]
        frame = message.header.frame_id
        values: dict[str, Any] = {"topic": topic, "compressed": kind == COMPRESSED, "frame": frame}
        baselines[name] = np.eye(4)
        height, width = image.shape[:2]
        text = f"{topic}: {width} x {height}"
        info = index.infos.get(info_topic)
        if info is not None:
            try:
                lens, wide, high, baselines[name] = lens_of(info, topic)
            except ConversionError as error:
                draft.questions.append(f"cameras.{name}.lens: {error}")
            else:
                values |= {"info_topic": info_topic, "lens": lens, "width": wide, "height": high, "frame": info.header.frame_id}
                text += f", {lens.model} by {info_topic}"
                if (wide, high) != (width, height):
                    draft.questions.append(
                        f"cameras.{name}: images are {width} x {height}, {info_topic} is for {wide} x {high}; calibrate again"
                    )
                # Both cameras of a stereo pair name the first one's frame.
                if frame and frame_name(frame) != frame_name(info.header.frame_id) and np.array_equal(baselines[name], np.eye(4)):
                    draft.questions.append(
                        f"cameras.{name}: its images are in frame {frame}, {info_topic} is in {info.header.frame_id}: is that the "
                        "CameraInfo of this camera? Its lens and frame were taken"
                    )
        if "lens" not in values:
            # A guess that everything can be tried with, and that `occle rig check` shows to be one.
            values |= {
                "width": width,
                "height": height,
                "lens": {"fx": width, "fy": width, "cx": (width - 1) / 2, "cy": (height - 1) / 2},
            }
            why = "no CameraInfo" if info is None else "no usable CameraInfo"
            draft.questions.append(
                f"cameras.{name}.lens: {why}; calibrate the lens (camera_calibration): fx, fy = the width is a guess"
            )
        draft.facts.append(text)
        cameras[name] = CameraRig.model_validate(values)
    return cameras, baselines


def _frames(index: BagIndex, lidars: dict[str, LidarRig], odometry: list[str], draft: Draft) -> tuple[str, dict[str, str] | None]:
    """The base frame, and the odometry."""
    lead = frame_name(next(iter(lidars.values())).frame)
    parents = {
        child: parent for parent, _, child in (link.partition(" -> ") for link in str(index.transforms).split(", ")) if child
    }
    known = {*parents, *parents.values()}
    # A robot that stands still does not move in its odometry's frame either.
    bodies = [frame for frame in sorted(known) if frame == lead or _last(frame) not in ODOMETRIES]
    fixed = [frame for frame in bodies if _connects(index, frame, lead) and not index.transforms.moves(frame, lead)]
    children = [frame_name(child) for _, _, child in index.odometry.values() if child]
    top = lead
    while top in parents and parents[top] in fixed:
        top = parents[top]
    named = [frame for base in BASES for frame in fixed if _last(frame) == base]
    base = next((frame for frame in (*named, *children) if frame in fixed), top if known else (children or ["base_link"])[0])
    if not known:
        draft.questions.append("record /tf_static (robot_state_publisher) next time, or measure the poses below by hand")
    if odometry:
        draft.facts.append(f"motion by {odometry[0]}")
        return base, {"topic": odometry[0]}
    if own := sorted({topic.rpartition("/")[0] for topic in index.tf} - {""}):
        draft.facts.append(f"TF by {', '.join(sorted(index.tf))}: launch the node with namespace:={own[0].lstrip('/')}")
    worlds = [frame for odom in ODOMETRIES for frame in sorted(known) if _last(frame) == odom]
    moving = [frame for frame in worlds if index.transforms.times(frame, base)]
    if moving:
        draft.facts.append(f"motion by TF: {moving[0]} -> {base}")
        return base, {"frame": moving[0]}
    draft.questions.append(
        "odometry.topic: there is no nav_msgs/Odometry and no motion in TF; record one of them, or frames have no poses (labels "
        "cannot be accumulated)"
    )
    return base, None


def _last(frame: str) -> str:
    """Name of a frame without the robot's: of `robot1/base_link` base_link."""
    return frame.rpartition("/")[2]


def _connects(index: BagIndex, one: str, other: str) -> bool:
    try:
        index.transforms.lookup(one, other)
    except TransformError:
        return False
    return True


def _intensity_scale(points: NDArray[np.float32]) -> float:
    highest = float(np.percentile(points[:, 3], 99.9)) if len(points) else 0.0
    return 1 / full_intensity(highest) if highest > MAX_INTENSITY else 1.0
