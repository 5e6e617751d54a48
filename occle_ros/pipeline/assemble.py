"""SyncedMessages messages -> Frame. A camera that cannot be used is left out with a reason; the frame goes on without it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
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
"""Holds the place of a camera whose calibration is not known; its image is None, so it is never projected into."""


@dataclass(frozen=True)
class AssembledFrame:
    """A Frame and what it had to go without.

    Args:
        frame: rectified images with their pinhole cameras, and the points.
        dropped_points: reason -> how many points were left out: what `points_from_cloud` says, and exclude_box.
        masked: camera -> reason: what `SyncedMessages.missing` and `CalibratedRig.unknown` say, unreadable_image or wrong_size.
        problems: camera -> what is wrong and what would mend it, for the reasons that somebody has to mend.
        notes: what a user should know once.
    """

    frame: Frame
    dropped_points: Mapping[str, int]
    masked: Mapping[str, str]
    problems: Mapping[str, str]
    notes: tuple[str, ...] = ()


def assemble(synced: SyncedMessages[Any], rig: CalibratedRig, config: NodeConfig) -> AssembledFrame:
    """The Frame of one scan (PointCloud2) and its images (Image or CompressedImage).

    Raises:
        ConversionError: the scan cannot be read.
        FrameError: none of its points is left.
    """
    points, dropped = read_scan(synced.scan, config, rig.T_grid_lidar)
    if dropped and not len(points):
        raise FrameError(f"no point of the scan is left: {describe_dropped(dropped)}")
    masked = {**rig.unknown, **synced.missing}
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
        if message is not None and (note := other_frame(name, message.header.frame_id, tf_frame))
    ]
    return AssembledFrame(frame, dropped, masked, problems, (*rig.notes, *notes))


def other_frame(name: str, image_frame: str, tf_frame: str) -> str:
    """What to say of a camera whose images and CameraInfo name different frames; "" where they agree or TF was not asked.

    Args:
        name: of the camera.
        image_frame: of the images' headers.
        tf_frame: of the CameraInfo that TF was asked for; "" where the extrinsics are given.
    """
    if not tf_frame or frame_name(image_frame) in ("", tf_frame):
        return ""
    return (
        f"the images of {name} are in frame {image_frame!r}, their CameraInfo is in {tf_frame!r}, whose place in TF is used; let "
        f"the driver name the optical frame in both, or set parameter cameras.{name}.T_camera_lidar"
    )


def read_scan(
    message: Any, config: NodeConfig, T_grid_lidar: NDArray[np.float64] | None, topic: str = ""
) -> tuple[NDArray[np.float32], dict[str, int]]:
    """A scan's points (N, 4) in the LiDAR's frame, and how many were left out by reason.

    Args:
        message: PointCloud2.
        config: the scale of its intensities, and the box of the robot's own body.
        T_grid_lidar: (4, 4); None where it is not known: then nothing is left out for that box.
        topic: where it came from, for the errors; empty: lidar.topic.

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
    """What was left out of a scan, in words."""
    words = {"not_finite": "not finite", "no_return": "no returns (0, 0, 0)", "exclude_box": "in lidar.exclude_box"}
    return ", ".join(f"{number} {words[reason]}" for reason, number in dropped.items())
