# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Scans of a frame's LiDARs: decoded, without the robot's body, compensated for motion and merged."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from occle_core.frame import RayOrigins
from occle_core.geometry.trajectory import PoseGapError
from occle_core.sensors.clouds import LidarScan, intensity_problem, scan_from_cloud
from occle_core.sensors.merge import SensorScan, merge_scans, time_span
from occle_core.sensors.messages import ConversionError
from occle_core.sensors.returns import inside_box
from occle_core.sensors.transforms import frame_name
from occle_ros.calibration.files import CalibrationError
from occle_ros.calibration.lidars import LidarPoses
from occle_ros.config.node_config import MAIN_LIDAR, NodeConfig
from occle_ros.sync.lidar_led import MILLISECOND, SyncedMessages


@dataclass(frozen=True, eq=False)
class MergedScan:
    """Points of all LiDARs of a frame, in the main LiDAR's frame at the frame's stamp.

    Args:
        points: (N, 4).
        dropped: reason -> number of points that were left out.
        masked: further LiDAR -> reason: no_transform or unreadable_scan.
        problems: masked LiDAR -> problem and remedy.
        deskew: why the scans are not compensated for motion: no_time (the points have no times), bad_time (they cannot be
            used) or no_pose; "" where they are, or nothing is to be done.
        deskew_problem: the same as a problem and its remedy.
        found: what was recognised in the scans, to log once.
        origins: where the rays to the points begin; None: at the main LiDAR.
        intensities: LiDAR -> problem and remedy, where its intensities are not 0 to 1.
    """

    points: NDArray[np.float32]
    dropped: Mapping[str, int]
    masked: Mapping[str, str] = field(default_factory=dict)
    problems: Mapping[str, str] = field(default_factory=dict)
    deskew: str = ""
    deskew_problem: str = ""
    found: tuple[str, ...] = ()
    origins: RayOrigins | None = None
    intensities: Mapping[str, str] = field(default_factory=dict)


def read_scans(
    synced: SyncedMessages[Any, Any],
    config: NodeConfig,
    T_grid_lidar: NDArray[np.float64] | None,
    poses: LidarPoses | None,
    main_frame: str,
) -> MergedScan:
    """Read and merge the scans of a frame.

    Args:
        synced: the main LiDAR's scan may be missing where there are others.
        config: of the LiDARs.
        T_grid_lidar: (4, 4) of the main LiDAR.
        poses: for motion compensation and mountings; None: neither, for a single LiDAR.
        main_frame: name of the main LiDAR's frame.

    Raises:
        ConversionError: no scan can be read.
    """
    scans: list[SensorScan] = []
    times: dict[str, LidarScan] = {}
    dropped: Counter[str] = Counter()
    masked: dict[str, str] = {}
    problems: dict[str, str] = {}
    further: list[tuple[str, Any]] = [(name, each) for name, each in zip(config.lidar_names, synced.lidars) if each is not None]
    for name, message in [(MAIN_LIDAR, synced.scan), *further] if synced.scan is not None else further:
        T_main_own: NDArray[np.float64] | None = None
        try:
            if name != MAIN_LIDAR and poses is not None:
                T_main_own = poses.mounting(name, main_frame, message.header.frame_id, synced.stamp)
            scan, body = _read(name, message, config, T_grid_lidar, T_main_own)
        except CalibrationError as error:
            masked[name], problems[name] = "no_transform", str(error)
            continue
        except ConversionError as error:
            if not further or (name != MAIN_LIDAR and not scans and name == further[-1][0]):
                raise
            masked[name], problems[name] = "unreadable_scan", str(error)
            continue
        dropped.update(body)
        times[name] = scan
        offset = 0 if name == MAIN_LIDAR else round(config.lidars[name].time_offset_ms * MILLISECOND)
        own = scan.times
        first, last = (own.first, own.last) if own else (0.0, 0.0)
        scans.append(SensorScan(scan.points, scan.stamp + offset, own.offsets if own else None, first, last, T_main_own))
        if name == MAIN_LIDAR and poses is not None and len(scan.points):
            poses.add_scan(scans[-1])
    if not scans:
        raise ConversionError("no scan of the frame can be used: " + "; ".join(problems.values()))
    points, why, problem = _compensated(scans, times, synced.stamp, config, poses, main_frame)
    found = tuple(f"the points' times of {name}: {scan.times.text}" for name, scan in times.items() if scan.times)
    found += tuple(
        f"the scans of {name} are in the frame of the main LiDAR's, {main_frame!r}: they are taken as they are; if each driver has "
        f"just the same default frame_id, give them different ones, or set parameter lidars.{name}.T_lidar"
        for name, message in further
        if poses is not None and frame_name(message.header.frame_id) == main_frame and not config.lidars[name].T_lidar
    )
    intensities = {name: wrong for name, scan in times.items() if (wrong := scan_intensity_problem(scan.points, config, name))}
    return MergedScan(points, dict(dropped), masked, problems, why, problem, found, _origins(scans), intensities)


def read_scan(
    message: Any, config: NodeConfig, T_grid_lidar: NDArray[np.float64] | None, topic: str = "", name: str = MAIN_LIDAR
) -> tuple[NDArray[np.float32], dict[str, int]]:
    """Points (N, 4) of a scan in its LiDAR's frame, as they were measured, and the number of dropped ones by reason.

    Args:
        message: PointCloud2.
        config: intensity scale, and box of the robot's own body.
        T_grid_lidar: (4, 4) of this LiDAR; None where it is not known: the box is then not applied.
        topic: for error messages; empty: the LiDAR's.
        name: of the LiDAR.

    Raises:
        ConversionError: the scan cannot be read.
    """
    scan, dropped = _read(name, message, config, T_grid_lidar, None, topic)
    return scan.points, dropped


def scan_intensity_problem(points: NDArray[np.float32], config: NodeConfig, name: str = MAIN_LIDAR) -> str | None:
    """The remedy for a LiDAR's intensities, where they are not 0 to 1; None where they are.

    Args:
        points: (N, 4) of the LiDAR's scan.
        config: with its intensity scale.
        name: of the LiDAR.
    """
    if name == MAIN_LIDAR:
        return intensity_problem(points, config.lidar.intensity_scale)
    return intensity_problem(points, config.lidars[name].intensity_scale, f"lidars.{name}")


def describe_dropped(dropped: Mapping[str, int]) -> str:
    """Dropped points of a scan as text."""
    words = {"not_finite": "not finite", "no_return": "no returns (0, 0, 0)", "exclude_box": "in lidar.exclude_box"}
    return ", ".join(f"{number} {words[reason]}" for reason, number in dropped.items())


def _read(
    name: str,
    message: Any,
    config: NodeConfig,
    T_grid_lidar: NDArray[np.float64] | None,
    T_main_own: NDArray[np.float64] | None,
    topic: str = "",
) -> tuple[LidarScan, dict[str, int]]:
    """A LiDAR's scan without the points on the robot's body, and the dropped ones by reason."""
    own = config.lidar if name == MAIN_LIDAR else config.lidars[name]
    scan = scan_from_cloud(message, own.intensity_scale, topic or own.topic, own.time_field, own.stamp)
    dropped = dict(scan.dropped)
    boxes = dict.fromkeys(box for box in (config.lidar.exclude_box, own.exclude_box) if box)
    if not boxes or T_grid_lidar is None:
        return scan, dropped
    # Before motion is compensated: the body moves with the sensor.
    T_grid_own = T_grid_lidar if T_main_own is None else T_grid_lidar @ T_main_own
    body = np.logical_or.reduce([inside_box(scan.points, T_grid_own, box) for box in boxes])
    if number := int(np.count_nonzero(body)):
        dropped["exclude_box"] = number
        scan = scan.without(body)
    return scan, dropped


def _origins(scans: list[SensorScan]) -> RayOrigins | None:
    """Where the rays of merged scans begin, in the main LiDAR's frame; None where all begin there."""
    if all(scan.T_body_sensor is None for scan in scans):
        return None
    positions = [np.zeros(3) if scan.T_body_sensor is None else scan.T_body_sensor[:3, 3] for scan in scans]
    return RayOrigins(np.array(positions), np.repeat(np.arange(len(scans), dtype=np.uint8), [len(scan.points) for scan in scans]))


def _compensated(
    scans: list[SensorScan],
    times: Mapping[str, LidarScan],
    reference: int,
    config: NodeConfig,
    poses: LidarPoses | None,
    main_frame: str,
) -> tuple[NDArray[np.float32], str, str]:
    """Merged points, and why motion is not compensated, in a word and in words."""
    if poses is None or config.lidar.deskew == "off":
        return merge_scans(scans, reference), "", ""
    why, problem = "", ""
    if unusable := [f"the points' times of {name}: {scan.time_problem}" for name, scan in times.items() if scan.time_problem]:
        why, problem = "bad_time", unusable[0]
    elif config.lidar.deskew != "auto" and any(scan.offsets is None and len(scan.points) for scan in scans):
        why = "no_time"
        problem = f"lidar.deskew is {config.lidar.deskew}, but the points have no times; name their field in lidar.time_field"
    if all(scan.offsets is None and scan.stamp == reference for scan in scans):
        return merge_scans(scans, reference), why, problem
    try:
        trajectory = poses.trajectory(main_frame, *time_span(scans, reference))
        return merge_scans(scans, reference, trajectory), why, problem
    except (CalibrationError, PoseGapError) as error:
        return merge_scans(scans, reference), "no_pose", _with_remedy(str(error), config, poses.source)


def _with_remedy(problem: str, config: NodeConfig, source: str) -> str:
    """Problem of missing poses, with the remedy of their source."""
    remedies = {
        "tf": f"publish the robot's motion in TF (frame {config.tf.world_frame!r}, parameter tf.world_frame), or name an odometry "
        "topic in lidar.odometry_topic; lidar.deskew:=off says that nothing is to be done",
        "odometry": f"check {config.lidar.odometry_topic} and TF, or set lidar.deskew to another source",
    }
    return f"{problem}; {remedies[source]}" if source in remedies else problem


def lidar_frame(synced: SyncedMessages[Any, Any], config: NodeConfig, before: str, file_frame: str) -> str:
    """Name of the main LiDAR's frame, also where its scan is missing.

    Args:
        synced: the frame's messages.
        config: tf.lidar_frame comes first.
        before: frame_id of its last scan, "" before the first.
        file_frame: lidar_frame of the calibration file, "" without.
    """
    if synced.scan is not None:
        return str(synced.scan.header.frame_id)
    return config.tf.lidar_frame or before or file_frame or frame_name(synced.lead.header.frame_id)
