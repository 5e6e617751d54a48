"""Conversion of synchronised messages to a Frame; cameras that cannot be used are masked with a reason."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from occle_core.frame import Frame, FrameError
from occle_core.geometry.camera import Camera
from occle_core.sensors.images import image_from_message
from occle_core.sensors.messages import ConversionError
from occle_core.sensors.transforms import frame_name
from occle_ros.calibration.lidars import LidarPoses
from occle_ros.calibration.rig import CalibratedRig
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


def assemble(
    synced: SyncedMessages[Any, Any], rig: CalibratedRig, config: NodeConfig, poses: LidarPoses | None = None, frame: str = ""
) -> AssembledFrame:
    """Assemble the Frame of a scan (PointCloud2), those of further LiDARs, and its images (Image or CompressedImage).

    Args:
        synced: the messages.
        rig: geometry at their time.
        config: the node's configuration.
        poses: for motion compensation and further LiDARs; None: points stay as they were measured.
        frame: the main LiDAR's.

    Raises:
        ConversionError: the scan cannot be read.
        FrameError: no point is left.
    """
    scan = read_scans(synced, config, rig.T_grid_lidar, poses, frame)
    if scan.dropped and not len(scan.points):
        raise FrameError(f"no point of the scan is left: {describe_dropped(scan.dropped)}")
    masked = {**rig.masked, **scan.masked, **synced.masked}
    problems = {**rig.problems, **scan.problems}
    images = []
    for name, message, lens in zip(config.camera_names, synced.images, rig.lenses):
        image = None
        topic = config.cameras[name].topic
        if message is not None and lens is not None:
            try:
                recorded = image_from_message(message, topic)
                if recorded.shape[:2] != (lens.height, lens.width):
                    masked[name] = "wrong_size"
                image = lens.rectify(recorded, topic)
            except ConversionError as error:
                masked.setdefault(name, "unreadable_image")
                problems[name] = str(error)
        images.append(image)
    cameras = [camera or _NO_CAMERA for camera in rig.cameras]
    assembled = Frame(synced.stamp, scan.points, images, cameras, rig.T_grid_lidar, rig.T_world_lidar)
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
    )


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
