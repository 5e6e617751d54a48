# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Image and CompressedImage -> RGB arrays. Encodings are those of REP 118 and sensor_msgs/image_encodings.hpp."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from occle_core.sensors import image_files
from occle_core.sensors.messages import ConversionError

# OpenCV names a Bayer pattern by its second row's second and third pixel, ROS by the first row and the second: RGGB is BayerBG.
_TO_RGB: dict[str, tuple[int, int | None]] = {
    "rgb8": (3, None),
    "bgr8": (3, cv2.COLOR_BGR2RGB),
    "rgba8": (4, cv2.COLOR_RGBA2RGB),
    "bgra8": (4, cv2.COLOR_BGRA2RGB),
    "mono8": (1, cv2.COLOR_GRAY2RGB),
    "bayer_rggb8": (1, cv2.COLOR_BayerBG2RGB),
    "bayer_bggr8": (1, cv2.COLOR_BayerRG2RGB),
    "bayer_gbrg8": (1, cv2.COLOR_BayerGR2RGB),
    "bayer_grbg8": (1, cv2.COLOR_BayerGB2RGB),
    "yuv422": (2, cv2.COLOR_YUV2RGB_UYVY),
    "uyvy": (2, cv2.COLOR_YUV2RGB_UYVY),
    "yuv422_yuy2": (2, cv2.COLOR_YUV2RGB_YUY2),
    "yuyv": (2, cv2.COLOR_YUV2RGB_YUY2),
}
"""Encoding -> bytes a pixel, and how OpenCV makes RGB of it."""


def halved_on_arrival(message: Any, size: tuple[int, int], needed: tuple[int, int] | None) -> bool:
    """True if an image is to be decoded at half its size: a JPEG of the calibrated size, whose half is at least what is needed.

    Args:
        message: Image or CompressedImage.
        size: (width, height) of the calibration.
        needed: (width, height) that the network resizes images to; None: it is never halved.
    """
    # Half of a colour mosaic is none.
    is_file = hasattr(message, "format") and not message.format.startswith("bayer_")
    return is_file and image_files.halved_size(size, needed) is not None and image_files.jpeg_size(bytes(message.data)) == size


def image_from_message(message: Any, topic: str = "the image", halved: bool = False) -> NDArray[np.uint8]:
    """Image or CompressedImage -> (H, W, 3) uint8 RGB.

    Args:
        message: an Image encoded as rgb8, bgr8, rgba8, bgra8, mono8, bayer_{rggb,bggr,gbrg,grbg}8, yuv422 (uyvy) or
            yuv422_yuy2 (yuyv), rows may be padded; or a CompressedImage with a JPEG or PNG of 8 bits a channel.
            An unpadded rgb8 image shares the message's memory.
        topic: where it came from, for the errors.
        halved: see `halved_on_arrival`.

    Raises:
        ConversionError: another encoding or format, or truncated data.
    """
    if hasattr(message, "format"):
        return decode_image(message.data, message.format, topic, halved)
    bytes_a_pixel, conversion = _known(message.encoding, topic)
    row = message.width * bytes_a_pixel
    needed = (message.height - 1) * message.step + row if message.height else 0
    raw = np.frombuffer(message.data, np.uint8)
    if not row or not message.height or message.step < row or len(raw) < needed:
        raise ConversionError(
            f"{topic}: the {message.encoding} image's data does not fit its header: {message.width} x {message.height} pixels "
            f"with step {message.step} need {needed} bytes, it has {len(raw)}"
        )
    shape: tuple[int, ...] = (message.height, message.width)
    strides: tuple[int, ...] = (message.step, bytes_a_pixel)
    if bytes_a_pixel > 1:
        shape, strides = (*shape, bytes_a_pixel), (*strides, 1)
    pixels = np.ndarray(shape, np.uint8, raw.data, 0, strides)
    return np.ascontiguousarray(pixels) if conversion is None else _to_rgb(pixels, message.encoding, topic)


def decode_image(data: Any, declared: str, topic: str = "the image", halved: bool = False) -> NDArray[np.uint8]:
    """JPEG or PNG bytes -> (H, W, 3) uint8 RGB, stored orientation.

    Args:
        data: the file's bytes.
        declared: the message's `format`. image_transport writes "<encoding of the Image>; jpeg compressed <what was encoded>":
            where the latter is rgb8 the file's channels are swapped, and a bayer_* mosaic is stored as it is, in grey.
        topic: where it came from, for the errors.
        halved: decode a JPEG at half its size.

    Raises:
        ConversionError: another format, more than 8 bits a channel, or the file is cut off or damaged.
    """
    raw = bytes(data)
    original, _, stored = declared.partition(";")
    if not raw.startswith((b"\xff\xd8", b"\x89PNG\r\n\x1a\n")):
        raise ConversionError(
            f"{topic}: compressed images of format {declared!r} that begin with {raw[:4].hex(' ') or 'nothing'} cannot be read "
            f"({len(raw)} bytes); publish JPEG or PNG (image_transport: parameter <image topic>.compressed.format)"
        )
    if image_files.png_bits(raw) == 16:
        raise ConversionError(f"{topic}: {_too_deep(f'format {declared!r}, a PNG of 16 bits a channel')}")
    try:
        decoded = image_files.decode_image(raw, halved)
    except image_files.ImageFileError as error:
        raise ConversionError(
            f"{topic}: the compressed image ({declared!r}, {len(raw)} bytes) is cut off or damaged ({error}); see whether the "
            "link loses data (cable, network) and whether the driver's buffer is large enough"
        ) from error
    if decoded.ndim == 2:
        encoding = original if original.startswith("bayer_") else "mono8"
        _known(encoding, topic)
        return _to_rgb(decoded, encoding, topic)
    return _to_rgb(decoded, "bgr8", topic) if "compressed rgb" in stored else decoded


def _known(encoding: str, topic: str) -> tuple[int, int | None]:
    known = _TO_RGB.get(encoding)
    if known is not None:
        return known
    if "16" in encoding or encoding.startswith(("32", "64")):
        raise ConversionError(f"{topic}: {_too_deep(f'encoding {encoding!r}')}")
    hint = " (8UC3 does not say whether it is bgr8 or rgb8)" if encoding == "8UC3" else ""
    raise ConversionError(
        f"{topic}: images encoded as {encoding!r} cannot be read{hint}; set the driver's encoding (or pixel format) to one of "
        f"{', '.join(_TO_RGB)}"
    )


def _too_deep(what: str) -> str:
    depth = " (that is how depth images come: name the colour image's topic)" if what.rstrip("'").endswith("C1") else ""
    return (
        f"{what} has more than 8 bits a channel, the network reads colour or grey images of 8{depth}; set the driver's encoding "
        "(or pixel format) to rgb8, bgr8, mono8 or bayer_*8, or name another topic in parameter cameras.<name>.topic"
    )


def _to_rgb(pixels: NDArray[np.uint8], encoding: str, topic: str) -> NDArray[np.uint8]:
    conversion = _TO_RGB[encoding][1]
    assert conversion is not None
    height, width = pixels.shape[:2]
    if encoding.startswith("bayer_") and min(height, width) < 4:
        raise ConversionError(f"{topic}: a {encoding} image of {width} x {height} pixels is too small for its colours")
    if _TO_RGB[encoding][0] == 2 and width % 2:
        raise ConversionError(f"{topic}: a {encoding} image has an even width (two pixels share their colour), this has {width}")
    return np.asarray(cv2.cvtColor(pixels, conversion), np.uint8)
