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
from occle_core.geometry.affine import transform_points
from occle_core.rig import CameraRig, LidarRig, Rig
from occle_core.rig.description import GridRig
from occle_core.rig.pose import pose_rows
from occle_core.rig_drafting.beams import measure_beams
from occle_core.rig_drafting.ground import GroundPlane, find_ground
from occle_core.rig_drafting.names import camera_infos, image_topics, sensor_names
from occle_core.sensors.clouds import MAX_INTENSITY, full_intensity, scan_from_cloud
from occle_core.sensors.images import image_from_message
from occle_core.sensors.messages import ConversionError
from occle_core.sensors.transforms import TransformError, frame_name

SCANS = 8
"""Scans of each LiDAR that are looked at, over the whole recording."""
BASES = ("base_link", "base_footprint", "base", "chassis", "body", "vehicle")
ODOMETRIES = ("odom", "odometry", "local", "camera_init", "map", "world")
TILTED = 15.0
"""Degrees between TF's up and the ground's normal from which one of them is wrong."""


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
    lidars, cameras = _poses(index, base, lidars, cameras, baselines, scans, draft)
    grid, ground_z = _grid(lidars, scans, draft)
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
    fixed = [frame for frame in known if _connects(index, frame, lead) and not index.transforms.times(frame, lead)]
    children = [frame_name(child) for _, _, child in index.odometry.values() if child]
    top = lead
    while top in parents and parents[top] in fixed:
        top = parents[top]
    base = next((frame for frame in (*BASES, *children) if frame in fixed), top if known else (children or ["base_link"])[0])
    if not known:
        draft.questions.append("record /tf_static (robot_state_publisher) next time, or measure the poses below by hand")
    if odometry:
        draft.facts.append(f"motion by {odometry[0]}")
        return base, {"topic": odometry[0]}
    moving = [frame for frame in ODOMETRIES if frame in known and index.transforms.times(frame, base)]
    if moving:
        draft.facts.append(f"motion by TF: {moving[0]} -> {base}")
        return base, {"frame": moving[0]}
    draft.questions.append(
        "odometry.topic: there is no nav_msgs/Odometry and no motion in TF; record one of them, or frames have no poses (labels "
        "cannot be accumulated)"
    )
    return base, None


def _connects(index: BagIndex, one: str, other: str) -> bool:
    try:
        index.transforms.lookup(one, other)
    except TransformError:
        return False
    return True


def _poses(
    index: BagIndex,
    base: str,
    lidars: dict[str, LidarRig],
    cameras: dict[str, CameraRig],
    baselines: dict[str, NDArray[np.float64]],
    scans: dict[str, NDArray[np.float32]],
    draft: Draft,
) -> tuple[dict[str, LidarRig], dict[str, CameraRig]]:
    """Poses from TF; of LiDARs without one, roll, pitch and height by the ground."""
    posed_lidars, posed_cameras = {}, {}
    for name, lidar in lidars.items():
        try:
            T = np.asarray(index.transforms.lookup(base, frame_name(lidar.frame)))
        except TransformError:
            ground = find_ground(scans[name])
            T = np.eye(4) if ground is None else ground.levelled()
            seen = "nothing is known" if ground is None else f"the ground gives height {ground.height:.2f} m, roll and pitch"
            draft.questions.append(
                f"lidars.{name}.pose: no TF from {base} to {lidar.frame}; {seen}; measure x, y and yaw in {base}"
            )
        posed_lidars[name] = lidar.model_copy(update={"pose": pose_rows(T)})
        same = [other for other in lidars if frame_name(lidars[other].frame) == frame_name(lidar.frame)]
        if name != same[0]:
            draft.questions.append(
                f"lidars.{name}.pose: its scans are in the frame of {same[0]}, {lidar.frame}, so it has the same pose; right only "
                "where the drivers transform their points, not where each has the same default frame_id"
            )
    for name, camera in cameras.items():
        try:
            T = np.asarray(index.transforms.lookup(base, frame_name(camera.frame)))
        except TransformError:
            draft.questions.append(
                f"cameras.{name}.pose: no TF from {base} to {camera.frame}; measure x, y, z, roll, pitch, yaw of the optical frame "
                "(-90, 0, -90 looks ahead), then `occle rig check`"
            )
            posed_cameras[name] = camera
            continue
        posed_cameras[name] = camera.model_copy(update={"pose": pose_rows(T @ np.linalg.inv(baselines[name]))})
    return posed_lidars, posed_cameras


def _grid(lidars: dict[str, LidarRig], scans: dict[str, NDArray[np.float32]], draft: Draft) -> tuple[GridRig, float]:
    """A grid around what the LiDARs see, the ground in the middle of a layer of cells; and the ground's height."""
    points = np.concatenate(
        [transform_points(np.array(lidars[name].pose), each[:, :3].astype(np.float64)) for name, each in scans.items()]
    )
    height = float(np.array(next(iter(lidars.values())).pose)[2, 3])
    ground = find_ground(points - [0, 0, height])
    ground_z = height - ground.height if ground else 0.0
    if ground is None:
        draft.questions.append("ground_z: no ground plane was found; how high above the ground is the base frame?")
    else:
        _report_ground(ground, ground_z, draft)
    near = float(np.percentile(np.hypot(points[:, 0], points[:, 1]), 90))
    resolution, half = (0.4, 25.6) if near > 18 else (0.2, 12.8) if near > 6 else (0.1, 6.4)
    ahead = float(np.mean(points[:, 0] > 0))
    low = -half if ahead < 0.9 else 0.0
    across = round(2 * half / resolution)
    origin = (low, -half, round(ground_z - 2.5 * resolution, 3))
    grid = GridRig(origin=origin, shape=(across, across, 16), resolution=resolution)
    draft.facts.append(
        f"grid: {grid.shape[0]} x {grid.shape[1]} x {grid.shape[2]} cells of {resolution} m; 90 % of the points within {near:.0f} m"
    )
    return grid, round(ground_z, 3)


def _report_ground(ground: GroundPlane, ground_z: float, draft: Draft) -> None:
    tilt = ground.tilt(np.array([0, 0, 1.0]))
    draft.facts.append(f"ground: {ground.share:.0%} of the near points, at z = {ground_z:.2f} m, {tilt:.1f} degrees off level")
    if tilt > TILTED:
        draft.questions.append(
            f"the ground is {tilt:.0f} degrees off the base frame's horizon: is a LiDAR tilted or upside down, and TF does not "
            "say so? Correct lidars.<name>.pose"
        )


def _intensity_scale(points: NDArray[np.float32]) -> float:
    highest = float(np.percentile(points[:, 3], 99.9)) if len(points) else 0.0
    return 1 / full_intensity(highest) if highest > MAX_INTENSITY else 1.0
