"""Collected messages -> Frame. A camera that cannot be used is left out with a reason; the frame goes on without it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from occle_core.camera import Camera
from occle_core.frame import Frame
from occle_ros.calibration import Rig
from occle_ros.clouds import points_from_cloud
from occle_ros.config import NodeConfig
from occle_ros.images import image_from_message
from occle_ros.messages import ConversionError
from occle_ros.sync import Collected

_NO_CAMERA = Camera(np.eye(3), np.eye(4), 1, 1)
"""Holds the place of a camera whose calibration is not known; its image is None, so it is never projected into."""


@dataclass(frozen=True)
class Assembled:
    """A Frame and what it had to go without.

    Args:
        frame: rectified images with their pinhole cameras, and the points.
        dropped_points: points that were left out because they are NaN or infinite.
        masked: camera -> reason: what `Collected.missing` and `Rig.unknown` say, unreadable_image or wrong_size.
        problems: camera -> what is wrong and what would mend it, for the reasons that somebody has to mend.
    """

    frame: Frame
    dropped_points: int
    masked: Mapping[str, str]
    problems: Mapping[str, str]


def assemble(collected: Collected[Any], rig: Rig, config: NodeConfig) -> Assembled:
    """The Frame of one scan (PointCloud2) and its images (Image or CompressedImage).

    Raises:
        ConversionError: the scan cannot be read.
    """
    points, dropped = points_from_cloud(collected.scan, config.lidar.intensity_scale, config.lidar.topic)
    masked = {**rig.unknown, **collected.missing}
    problems = dict(rig.problems)
    images = []
    for name, message, lens in zip(config.camera_names, collected.images, rig.lenses):
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
    frame = Frame(collected.stamp, points, images, cameras, rig.T_grid_lidar, rig.T_world_lidar)
    return Assembled(frame, dropped, masked, problems)
