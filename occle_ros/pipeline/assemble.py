# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Conversion of synchronised messages to a Frame; cameras that cannot be used are masked with a reason."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from occle_core.frame import Frame, FrameError
from occle_core.geometry.camera import Camera
from occle_core.sensors.camera_info import Lens
from occle_core.sensors.images import halved_on_arrival, image_from_message
from occle_core.sensors.messages import ConversionError
from occle_core.sensors.transforms import frame_name
from occle_ros.calibration.calibrated_rig import CalibratedRig
from occle_ros.calibration.lidars import LidarPoses
from occle_ros.config.node_config import NodeConfig
from occle_ros.pipeline.scans import describe_dropped, read_scans
from occle_ros.sync.lidar_led import SyncedMessages

_NO_CAMERA = Camera(np.eye(3), np.eye(4), 1, 1)
"""Placeholder of a camera without calibration; its image is None, so nothing is projected into it."""


@dataclass(frozen=True)
class AssembledFrame:
    """Frame with the record of what could not be used.

    Args:
        frame: rectified images with their pinhole cameras, and the points.
        masked: camera or LiDAR -> reason: those of `SyncedMessages`, `CalibratedRig` and `MergedScan`, unreadable_image or
            wrong_size.
        dropped_points: reason -> number of points: those of `points_from_cloud`, and exclude_box.
        problems: masked camera or LiDAR -> problem and remedy, where there is a remedy.
        image_frames: frame_id of each image; "" where there is no image.
        pose_problem: problem and remedy, if the network needs the scan's pose and it is not known.
        notes: messages to log once.
        deskew: why the scans are not compensated for motion, as `MergedScan.deskew`.
        deskew_problem: the same as a problem and its remedy.
        found: what was recognised in the scans, to log once.
        warnings: subject -> problem and remedy, to log once a subject; the numbers in it differ from frame to frame.
    """

    frame: Frame
    masked: Mapping[str, str]
    dropped_points: Mapping[str, int] = field(default_factory=dict)
    problems: Mapping[str, str] = field(default_factory=dict)
    image_frames: tuple[str, ...] = ()
    pose_problem: str = ""
    notes: tuple[str, ...] = ()
    deskew: str = ""
    deskew_problem: str = ""
    found: tuple[str, ...] = ()
    warnings: Mapping[str, str] = field(default_factory=dict)


def assemble(
    synced: SyncedMessages[Any, Any],
    rig: CalibratedRig,
    config: NodeConfig,
    poses: LidarPoses | None = None,
    frame: str = "",
    image_size: tuple[int, int] | None = None,
    mapped: Callable[..., Iterable[Any]] = map,
) -> AssembledFrame:
    """Assemble the Frame of a scan (PointCloud2), those of further LiDARs, and its images (Image or CompressedImage).

    Args:
        synced: the messages.
        rig: geometry at their time.
        config: the node's configuration.
        poses: for motion compensation and further LiDARs; None: points stay as they were measured.
        frame: the main LiDAR's.
        image_size: (width, height) of images that is enough: JPEGs of at least twice that are decoded at half their size, and
            their cameras are those of the halved images. None: images as they are sent.
        mapped: `map`, or a thread pool's, which decodes the cameras in parallel.

    Raises:
        ConversionError: the scan cannot be read.
        FrameError: no point is left.
    """
    scan = read_scans(synced, config, rig.T_grid_lidar, poses, frame)
    if scan.dropped and not len(scan.points):
        raise FrameError(f"no point of the scan is left: {describe_dropped(scan.dropped)}")
    masked = {**rig.masked, **scan.masked, **synced.masked}
    problems = {**rig.problems, **scan.problems}
    images: list[NDArray[np.uint8] | None] = []
    cameras = []
    topics = [config.cameras[name].topic for name in config.camera_names]
    decoded = mapped(partial(_decode, needed=image_size), synced.images, rig.lenses, topics)
    for name, (image, reason, problem), camera in zip(config.camera_names, decoded, rig.cameras):
        if reason:
            masked.setdefault(name, reason)
            problems[name] = problem
        images.append(image)
        is_halved = camera is not None and image is not None and image.shape[1] != camera.width
        cameras.append(_NO_CAMERA if camera is None else camera.resized(*image.shape[1::-1]) if is_halved else camera)
    assembled = Frame(synced.stamp, scan.points, images, cameras, rig.T_grid_lidar, rig.T_world_lidar, origins=scan.origins)
    notes = [
        note
        for name, message, tf_frame in zip(config.camera_names, synced.images, rig.tf_frames)
        if message is not None and (note := frame_mismatch(name, message.header.frame_id, tf_frame))
    ]
    image_frames = tuple("" if message is None else message.header.frame_id for message in synced.images)
    return AssembledFrame(
        assembled,
        masked,
        scan.dropped,
        problems,
        image_frames,
        rig.pose_problem,
        (*rig.notes, *notes),
        scan.deskew,
        scan.deskew_problem,
        scan.found,
        {f"intensity:{name}": f"{name}: {problem}" for name, problem in scan.intensities.items()},
    )


def _decode(
    message: Any, lens: Lens | None, topic: str, needed: tuple[int, int] | None
) -> tuple[NDArray[np.uint8] | None, str, str]:
    """One camera's rectified image; the reason and the problem where it cannot be used."""
    if message is None or lens is None:
        return None, "", ""
    reason = "unreadable_image"
    try:
        halved = halved_on_arrival(message, (lens.width, lens.height), needed)
        lens = lens.halved if halved else lens
        recorded = image_from_message(message, topic, halved)
        if recorded.shape[:2] != (lens.height, lens.width):
            reason = "wrong_size"
        return lens.rectify(recorded, topic), "", ""
    except ConversionError as error:
        return None, reason, str(error)


def frame_mismatch(name: str, image_frame: str, tf_frame: str) -> str:
    """Note about a camera whose images and CameraInfo are in different frames; "" if they agree or TF is not used.

    Args:
        name: of the camera.
        image_frame: frame_id of the images.
        tf_frame: frame_id of the CameraInfo, looked up in TF; "" where the extrinsics are given.
    """
    if not tf_frame or frame_name(image_frame) in ("", tf_frame):
        return ""
    return (
        f"the images of {name} are in frame {image_frame!r}, their CameraInfo is in {tf_frame!r}, which is looked up in TF; let "
        f"the driver set the optical frame in both, or set parameter cameras.{name}.T_camera_lidar"
    )
