# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""CameraInfo -> lens: the pinhole camera of the rectified image, and the maps that rectify it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from occle_core.geometry.camera import Camera
from occle_core.rig.description import COEFFICIENTS, LensRig
from occle_core.sensors.messages import ConversionError

_COEFFICIENTS = {model: counts for model, counts in COEFFICIENTS.items() if model != "pinhole"}
_COEFFICIENTS["fisheye"] = COEFFICIENTS["equidistant"]  # another name of it
_LARGEST = 16_384


@dataclass(frozen=True, eq=False)
class Lens:
    """Rectification of one camera: its images as those of a pinhole camera.

    Args:
        P: (3, 4) projection of the rectified image, pixels.
        width: of the image, pixels.
        height: of the image, pixels.
        maps: OpenCV's fixed-point maps from rectified to recorded pixels; None where the images are rectified already.
        name: for the errors.
        distortion: model, coefficients and K that the maps were made of.
    """

    P: NDArray[np.float64]
    width: int
    height: int
    maps: tuple[NDArray[Any], NDArray[Any]] | None
    name: str
    distortion: tuple[str, tuple[float, ...], NDArray[np.float64]] | None = None

    @cached_property
    def halved(self) -> Lens:
        """The lens for images of half the size; both sides are even. A pixel's centre u lies at (u + 0.5) / 2 - 0.5 there."""
        scale = np.array([[0.5, 0, -0.25], [0, 0.5, -0.25], [0, 0, 1]])
        P, size = scale @ self.P, (self.width // 2, self.height // 2)
        if self.distortion is None:
            return Lens(P, *size, None, self.name)
        model, d, K = self.distortion
        return _distorted(P, *size, self.name, model, d, scale @ K)

    def camera(self, T_camera_lidar: NDArray[np.float64], own_frame: bool = False) -> Camera:
        """The pinhole camera of the rectified images.

        Args:
            T_camera_lidar: (4, 4), maps LiDAR points into the frame that CameraInfo's header names.
            own_frame: that frame is known to be this very camera's. Else it is of a stereo pair's first camera, if any, and
                P's fourth column leads from there to this camera.

        Raises:
            ConversionError: there is no such camera.
        """
        P = np.hstack([self.P[:, :3], np.zeros((3, 1))]) if own_frame else self.P
        try:
            return Camera.from_projection(P, T_camera_lidar, self.width, self.height)
        except ValueError as error:
            raise ConversionError(f"{self.name}: {error}") from error

    def rectify(self, image: NDArray[np.uint8], topic: str = "the image") -> NDArray[np.uint8]:
        """A recorded image (H, W, 3) -> the pinhole camera's image of the same size; black where nothing was recorded.

        Raises:
            ConversionError: the image has another size than the calibration.
        """
        if image.shape[:2] != (self.height, self.width):
            raise ConversionError(
                f"{topic} is {image.shape[1]} x {image.shape[0]}, but {self.name} is for {self.width} x {self.height}; calibrate "
                "at the size that is published, or publish the size that was calibrated"
            )
        return image if self.maps is None else np.asarray(cv2.remap(image, *self.maps, cv2.INTER_LINEAR), np.uint8)


def lens_from_info(message: Any, rectified: bool = False) -> Lens:
    """CameraInfo -> Lens. Maps are computed once per content and shared.

    An image without distortion is rectified: the whole 3x4 P counts (K where a driver leaves P empty). A distorted image is
    rectified into the camera's own frame, by K and d, and gets P's focal lengths and principal point (K's where P is empty):
    R and P's fourth column are about a stereo pair's common picture, which nobody makes here. Coefficients behind the model's
    own are ignored where they are 0.

    Args:
        message: of the images' topic.
        rectified: the images went through image_proc already, which leaves d as it was: then d does not count.

    Raises:
        ConversionError: not calibrated, of an unknown distortion model, binned or cropped, without a size, or the rotation R
            of a rectified image is not the identity.
    """
    name = f"CameraInfo of {message.header.frame_id!r}"
    width, height = int(message.width), int(message.height)
    if not (0 < width <= _LARGEST and 0 < height <= _LARGEST):
        raise ConversionError(f"{name}: the image size must be positive and at most {_LARGEST}, not {width} x {height}")
    roi = message.roi
    cropped = roi.x_offset or roi.y_offset or roi.width not in (0, width) or roi.height not in (0, height)
    if message.binning_x > 1 or message.binning_y > 1 or cropped:
        raise ConversionError(f"{name} is binned or cropped (roi); publish the calibration of the image that is sent")
    K = np.asarray(message.k, np.float64).reshape(3, 3)
    P = np.asarray(message.p, np.float64).reshape(3, 4)
    if not P.any():
        P = np.hstack([K, np.zeros((3, 1))])
    if not _is_projection(P):
        raise ConversionError(
            f"{name} is not calibrated: its P is {P.tolist()}; run `ros2 run camera_calibration cameracalibrator`, or give "
            "K, width and height in the calibration file and set the camera's info_topic to ''"
        )
    if rectified or not np.any(message.d):
        R = np.asarray(message.r, np.float64).reshape(3, 3)
        if R.any() and not np.allclose(R, np.eye(3), atol=1e-9):
            raise ConversionError(
                f"{name} has a rotation R (a stereo pair's), and the frame of its rectified image is unknown; name the "
                "topic of the raw image in parameter cameras.<name>.topic, it is rectified here"
            )
        return Lens(P, width, height, None, name)
    model, d = message.distortion_model, _coefficients(message)
    if len(d) not in _COEFFICIENTS.get(model, ()) or not np.isfinite(d).all():
        known = ", ".join(f"{other} ({' or '.join(map(str, counts))})" for other, counts in _COEFFICIENTS.items())
        raise ConversionError(
            f"{name} has {len(d)} coefficients {list(d)} of distortion model {model!r}; finite ones of these are known: "
            f"{known}. Rectify the images with image_proc and name the rectified topic, or calibrate with one of these models"
        )
    if not _is_projection(np.hstack([K, np.zeros((3, 1))])):
        raise ConversionError(f"{name} is not calibrated: its K is {K.tolist()}")
    P = np.hstack([P[:, :3], np.zeros((3, 1))])
    return _distorted(P, width, height, name, model, d, K)


def lens_from_rig(lens: LensRig, width: int, height: int, name: str) -> Lens:
    """Lens of a rig file -> Lens; the rectified image keeps focal lengths and principal point.

    Args:
        lens: the intrinsics.
        width: of the image, pixels.
        height: of the image, pixels.
        name: of the camera, for the errors.
    """
    P = np.hstack([lens.K, np.zeros((3, 1))])
    name = f"the lens of {name} in the rig file"
    if not lens.is_distorted:
        return Lens(P, width, height, None, name)
    return _distorted(P, width, height, name, lens.model, lens.distortion, lens.K)


def is_rectified(topic: str) -> bool:
    """True for the topic names of images that image_proc has rectified: image_rect, image_rect_color, rectified/...

    Their CameraInfo still holds the raw image's distortion, so only the name distinguishes them.
    """
    return re.search(r"(^|[/_])rect(ified)?([/_]|$)", topic) is not None


def calibration_key(message: Any) -> tuple[Any, ...]:
    """Hashable contents of a CameraInfo without its time, to detect changes."""
    roi = message.roi
    numbers = tuple(tuple(float(value) for value in getattr(message, field)) for field in ("k", "d", "r", "p"))
    crop = (message.binning_x, message.binning_y, roi.x_offset, roi.y_offset, roi.width, roi.height)
    return (*numbers, message.distortion_model, message.width, message.height, message.header.frame_id, crop)


def _coefficients(message: Any) -> tuple[float, ...]:
    """The distortion coefficients, without zeros behind a number that the model can have: drivers fill up to 8 or 14."""
    d = tuple(float(value) for value in message.d)
    counts = [count for count in _COEFFICIENTS.get(message.distortion_model, ()) if count < len(d) and not any(d[count:])]
    return d[: max(counts)] if counts and len(d) not in _COEFFICIENTS[message.distortion_model] else d


def _is_projection(P: NDArray[np.float64]) -> bool:
    return bool(np.isfinite(P).all() and P[0, 0] > 0 and P[1, 1] > 0 and P[2, 2] > 0)


def _distorted(
    P: NDArray[np.float64], width: int, height: int, name: str, model: str, d: tuple[float, ...], K: NDArray[np.float64]
) -> Lens:
    maps = _maps(model, d, tuple(K.flat), tuple(P[:, :3].flat), width, height)
    return Lens(P, width, height, maps, name, (model, d, K))


@lru_cache(maxsize=32)
def _maps(
    model: str, d: tuple[float, ...], K: tuple[float, ...], new_K: tuple[float, ...], width: int, height: int
) -> tuple[NDArray[Any], NDArray[Any]]:
    undistort = cv2.fisheye.initUndistortRectifyMap if model in ("equidistant", "fisheye") else cv2.initUndistortRectifyMap
    matrices = (np.reshape(K, (3, 3)), np.array(d), np.eye(3), np.reshape(new_K, (3, 3)))
    first, second = undistort(*matrices, (width, height), cv2.CV_16SC2)
    return first, second
