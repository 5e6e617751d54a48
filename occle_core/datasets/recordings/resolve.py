# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""A rig file completed by a recording: poses from TF, lenses from CameraInfo, poses of the base over time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from occle_core.datasets.base import DatasetError
from occle_core.datasets.recordings.bag_index import BagIndex
from occle_core.geometry.trajectory import Trajectory
from occle_core.rig import CameraRig, Rig
from occle_core.rig.description import COEFFICIENTS, LensRig
from occle_core.rig.pose import pose_rows
from occle_core.sensors.camera_info import is_rectified, lens_from_info
from occle_core.sensors.messages import ConversionError
from occle_core.sensors.transforms import TransformError, frame_name


def resolve_rig(rig: Rig, index: BagIndex, frames: dict[str, str], bag: Path, rig_file: Path) -> Rig:
    """The rig with pose and lens of every sensor.

    Args:
        rig: as read.
        index: of the bag.
        frames: topic -> frame_id of its messages.
        bag, rig_file: for the errors.

    Raises:
        DatasetError: a pose or a lens that neither the rig file nor the bag has; the message names the field.
    """
    lidars = {}
    for name, lidar in rig.lidars.items():
        if lidar.pose is None:
            frame = lidar.frame or frames.get(lidar.topic, "")
            T = _from_tf(index, rig.base_frame, frame, f"lidars.{name}.pose", bag, rig_file)
            lidar = lidar.model_copy(update={"pose": pose_rows(T)})
        lidars[name] = lidar
    cameras = {}
    for name, camera in rig.cameras.items():
        camera, baseline = _with_lens(name, camera, index, bag, rig_file)
        if camera.pose is None:
            info = index.infos.get(camera.info_topic)
            frame = camera.frame or (info.header.frame_id if info is not None else frames.get(camera.topic, ""))
            T = _from_tf(index, rig.base_frame, frame, f"cameras.{name}.pose", bag, rig_file)
            camera = camera.model_copy(update={"pose": pose_rows(T @ np.linalg.inv(baseline))})
        cameras[name] = camera
    return rig.model_copy(update={"lidars": lidars, "cameras": cameras})


def base_trajectory(rig: Rig, index: BagIndex, lidar_frame: str = "") -> tuple[Trajectory | None, str]:
    """Poses of the base frame over time, and why there are none, or what they may be of instead.

    Args:
        rig: of `resolve_rig`.
        index: of the bag.
        lidar_frame: of the leading LiDAR's scans.
    """
    T_child_base: NDArray[np.float64] = np.eye(4)
    problem = ""
    if rig.odometry.topic:
        if rig.odometry.topic not in index.odometry:
            return (
                None,
                f"there is no nav_msgs/Odometry on {rig.odometry.topic}: frames have no poses; set odometry.topic or .frame",
            )
        buffer, world, base = index.odometry[rig.odometry.topic]
        T_child_base, problem = _base_on(frame_name(base), rig, index, frame_name(lidar_frame))
    else:
        buffer, world, base = index.transforms, rig.odometry.frame, rig.base_frame
    stamps, poses = [], []
    for stamp in buffer.times(world, base):
        try:
            poses.append(buffer.lookup(world, base, stamp))
            stamps.append(stamp)
        except TransformError:
            continue
    if not stamps:
        return None, (
            f"TF has no motion of {rig.base_frame!r} in {rig.odometry.frame!r}: frames have no poses, scans are not compensated; "
            "set odometry.topic (nav_msgs/Odometry) or odometry.frame in the rig file"
        )
    return Trajectory(stamps, np.stack(poses) @ T_child_base), problem


def _base_on(child: str, rig: Rig, index: BagIndex, lidar_frame: str) -> tuple[NDArray[np.float64], str]:
    """T_child_base of the frame that odometry is of, and what to know where it had to be taken for the base frame."""
    base, T_base_lidar = frame_name(rig.base_frame), rig.lead.T_base_lidar
    if child in ("", base):
        return np.eye(4), ""
    try:
        if not index.transforms.moves(child, base):
            return index.transforms.lookup(child, base), ""
    except TransformError:
        pass
    if child == lidar_frame and T_base_lidar is not None:  # LiDAR odometry
        return np.asarray(np.linalg.inv(T_base_lidar), np.float64), ""
    return np.eye(4), (
        f"{rig.odometry.topic} is odometry of {child!r}, and no fixed transform leads from there to base_frame {base!r}: it is "
        f"taken for the base frame; record /tf_static, or give base_frame: {child} and the sensors' poses in it"
    )


def lens_of(info: Any, topic: str) -> tuple[LensRig, int, int, NDArray[np.float64]]:
    """Lens, width and height of a CameraInfo, and the offset (4, 4) of a stereo pair's second camera.

    Raises:
        ConversionError: as `lens_from_info`.
    """
    lens = lens_from_info(info, is_rectified(topic))
    offset, d = np.eye(4), tuple[float, ...]()
    if lens.maps is None:
        P = lens.P
        offset[:3, 3] = np.linalg.solve(P[:, :3], P[:, 3])
        K, model = P[:, :3] / P[2, 2], "pinhole"
    else:
        K, model = np.asarray(info.k, np.float64).reshape(3, 3), str(info.distortion_model).replace("fisheye", "equidistant")
        d = tuple(float(v) for v in info.d)
        counts = COEFFICIENTS[model]
        while d and d[-1] == 0 and len(d) not in counts:
            d = d[:-1]
        d = d if len(d) in counts else (*d, *(0.0,) * (min(c for c in counts if c >= len(d)) - len(d)))
    values = {"model": model, "fx": K[0, 0], "fy": K[1, 1], "cx": K[0, 2], "cy": K[1, 2], "distortion": d}
    return LensRig.model_validate(values), lens.width, lens.height, offset


def _with_lens(name: str, camera: CameraRig, index: BagIndex, bag: Path, rig_file: Path) -> tuple[CameraRig, NDArray[np.float64]]:
    if camera.lens is not None:
        return camera, np.eye(4)
    info = index.infos.get(camera.info_topic)
    if info is None:
        raise DatasetError(
            f"{bag} has no CameraInfo on {camera.info_topic}: give cameras.{name}.lens, width and height in {rig_file}, or correct "
            f"cameras.{name}.info_topic"
        )
    try:
        lens, width, height, offset = lens_of(info, camera.topic)
    except ConversionError as error:
        raise DatasetError(f"{bag}: {camera.info_topic}: {error}; or give cameras.{name}.lens in {rig_file}") from error
    return camera.model_copy(update={"lens": lens, "width": width, "height": height}), offset


def _from_tf(index: BagIndex, base: str, frame: str, field: str, bag: Path, rig_file: Path) -> NDArray[np.float64]:
    try:
        return index.transforms.lookup(base, frame_name(frame))
    except TransformError as error:
        raise DatasetError(f"{bag}: {error}; give {field} in {rig_file}, or record /tf_static") from error
