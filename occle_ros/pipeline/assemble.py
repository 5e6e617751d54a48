"""Conversion of synchronised messages to a Frame; cameras that cannot be used are masked with a reason."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from occle_core.frame import Frame, FrameError
from occle_core.geometry.camera import Camera
from occle_core.sensors.clouds import points_from_cloud
from occle_core.sensors.images import image_from_message
from occle_core.sensors.messages import ConversionError
from occle_core.sensors.returns import inside_box
from occle_core.sensors.transforms import frame_name
from occle_ros.calibration.rig import CalibratedRig
from occle_ros.config.node_config import NodeConfig
from occle_ros.sync.lidar_led import SyncedMessages

_NO_CAMERA = Camera(np.eye(3), np.eye(4), 1, 1)
"""Placeholder of a camera without calibration; its image is None, so nothing is projected into it."""


@dataclass(frozen=True)
class AssembledFrame:
    """Frame with the record of what could not be used.

    Args:
        frame: rectified images with their pinhole cameras, and the points.
        masked: camera -> reason: those of `SyncedMessages` and `CalibratedRig`, unreadable_image or wrong_size.
        dropped_points: reason -> number of points: those of `points_from_cloud`, and exclude_box.
        problems: masked camera -> problem and remedy, where there is a remedy.
        image_frames: frame_id of each image; "" where there is no image.
        pose_problem: problem and remedy, if the network needs the scan's pose and it is not known.
        notes: messages to log once.
    """

    frame: Frame
    masked: Mapping[str, str]
    dropped_points: Mapping[str, int] = field(default_factory=dict)
    problems: Mapping[str, str] = field(default_factory=dict)
    image_frames: tuple[str, ...] = ()
    pose_problem: str = ""
    notes: tuple[str, ...] = ()


def assemble(synced: SyncedMessages[Any, Any], rig: CalibratedRig, config: NodeConfig) -> AssembledFrame:
    """Assemble the Frame of one scan (PointCloud2) and its images (Image or CompressedImage).

    Raises:
        ConversionError: the scan cannot be read.
        FrameError: no point is left.
    """
    points, dropped = read_scan(synced.scan, config, rig.T_grid_lidar)
    if dropped and not len(points):
        raise FrameError(f"no point of the scan is left: {describe_dropped(dropped)}")
    masked = {**rig.masked, **synced.masked}
    problems = dict(rig.problems)
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
    frame = Frame(synced.stamp, points, images, cameras, rig.T_grid_lidar, rig.T_world_lidar)
    notes = [
        note
        for name, message, tf_frame in zip(config.camera_names, synced.images, rig.tf_frames)
        if message is not None and (note := frame_mismatch(name, message.header.frame_id, tf_frame))
    ]
    image_frames = tuple("" if message is None else message.header.frame_id for message in synced.images)
    return AssembledFrame(frame, masked, dropped, problems, image_frames, rig.pose_problem, (*rig.notes, *notes))


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


def read_scan(
    message: Any, config: NodeConfig, T_grid_lidar: NDArray[np.float64] | None, topic: str = ""
) -> tuple[NDArray[np.float32], dict[str, int]]:
    """Points (N, 4) of a scan in the LiDAR frame, and the number of dropped ones by reason.

    Args:
        message: PointCloud2.
        config: intensity scale, and box of the robot's own body.
        T_grid_lidar: (4, 4); None where it is not known: the box is then not applied.
        topic: for error messages; empty: lidar.topic.

    Raises:
        ConversionError: the scan cannot be read.
    """
    points, dropped = points_from_cloud(message, config.lidar.intensity_scale, topic or config.lidar.topic)
    if config.lidar.exclude_box and T_grid_lidar is not None:
        body = inside_box(points, T_grid_lidar, config.lidar.exclude_box)
        if number := int(np.count_nonzero(body)):
            points, dropped = np.compress(~body, points, axis=0), {**dropped, "exclude_box": number}
    return points, dropped


def describe_dropped(dropped: Mapping[str, int]) -> str:
    """Dropped points of a scan as text."""
    words = {"not_finite": "not finite", "no_return": "no returns (0, 0, 0)", "exclude_box": "in lidar.exclude_box"}
    return ", ".join(f"{number} {words[reason]}" for reason, number in dropped.items())
