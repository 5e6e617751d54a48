# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""A frame as the ROS messages that its sensors send, built without ROS."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from occle_core.frame import Frame


def messages_of(frame: Frame, jpeg: bool, size: tuple[int, int] | None = None) -> tuple[Any, tuple[Any, ...], Frame]:
    """A scan and images as ROS messages look, and the frame whose cameras they are of.

    Args:
        frame: with an image of every camera.
        jpeg: compressed images; else raw ones.
        size: (width, height) that images are resized to first.
    """
    if size is not None:
        images: list[NDArray[np.uint8] | None] = []
        for image in frame.images:
            images.append(None if image is None else cv2.resize(image, size, interpolation=cv2.INTER_CUBIC).astype(np.uint8))
        frame = replace(frame, images=images, cameras=[camera.resized(*size) for camera in frame.cameras])
    header = SimpleNamespace(frame_id="lidar", stamp=SimpleNamespace(sec=0, nanosec=0))
    fields = [SimpleNamespace(name=name, offset=4 * n, datatype=7, count=1) for n, name in enumerate(("x", "y", "z", "intensity"))]
    points = np.ascontiguousarray(frame.points)
    scan = SimpleNamespace(
        header=header, height=1, width=len(points), fields=fields, is_bigendian=False, point_step=16,
        row_step=16 * len(points), data=points.tobytes(), is_dense=True,
    )  # fmt: skip
    return scan, tuple(_image_message(image, jpeg, header) for image in frame.images), frame


def _image_message(image: Any, jpeg: bool, header: Any) -> Any:
    if image is None:
        return None
    if jpeg:
        data = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 90])[1].tobytes()
        return SimpleNamespace(header=header, format="jpeg", data=data)
    height, width = image.shape[:2]
    data = np.ascontiguousarray(image).tobytes()
    return SimpleNamespace(header=header, encoding="rgb8", width=width, height=height, step=3 * width, is_bigendian=0, data=data)
