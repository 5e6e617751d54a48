# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Image and CompressedImage messages."""

from __future__ import annotations

from array import array

import numpy as np
from numpy.typing import NDArray
from sensor_msgs.msg import CompressedImage, Image

from occle_core.sensors.messages import ConversionError
from occle_ros.messages.common import bytes_of, header


def message_from_image(image: NDArray[np.uint8], stamp: int, frame_id: str) -> Image:
    """Image rgb8 of an array (H, W, 3) uint8 RGB."""
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise ConversionError(f"an image must be (H, W, 3) uint8, not {image.shape} {image.dtype}")
    height, width = image.shape[:2]
    return Image(header=header(stamp, frame_id), height=height, width=width, encoding="rgb8", step=3 * width, data=bytes_of(image))


def compressed_message(data: bytes, image_format: str, stamp: int, frame_id: str) -> CompressedImage:
    """CompressedImage of an encoded image ("jpeg" or "png")."""
    return CompressedImage(header=header(stamp, frame_id), format=image_format, data=array("B", data))
