# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Viewing rays of a camera's pixels, through any lens."""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from occle_train.streets.sensors.rigs import RigCamera

_STEPS = 20


@lru_cache(maxsize=8)
def pixel_rays(camera: RigCamera) -> NDArray[np.float64]:
    """(height * width, 3) unit vectors through the pixel centres, row by row, in the camera's frame; kept, not to be changed."""
    u, v = np.meshgrid(np.arange(camera.width, dtype=np.float64), np.arange(camera.height, dtype=np.float64))
    lens = camera.lens
    if lens is not None and lens.model == "equidistant":
        return _fisheye(np.stack([u, v], -1).reshape(-1, 2), camera.K, lens.distortion)
    if lens is not None and any(lens.distortion):
        flat = _undistorted(np.stack([u, v], -1).reshape(-1, 2), camera.K, np.array(lens.distortion))
        rays = np.column_stack([flat, np.ones(len(flat))])
    else:
        rays = np.stack([u, v, np.ones_like(u)], -1).reshape(-1, 3) @ np.linalg.inv(camera.K).T
    return np.asarray(rays / np.linalg.norm(rays, axis=1)[:, None])


def _undistorted(pixels: NDArray[np.float64], K: NDArray[np.float64], d: NDArray[np.float64]) -> NDArray[np.float64]:
    """x/z and y/z of pixels: OpenCV's five steps, refined until they project back."""
    flat = cv2.undistortPoints(pixels.reshape(-1, 1, 2), K, d).reshape(-1, 2)
    for _ in range(_STEPS):
        back, _ = cv2.projectPoints(np.column_stack([flat, np.ones(len(flat))]), np.zeros(3), np.zeros(3), K, d)
        flat = flat + (pixels - back.reshape(-1, 2)) / (K[0, 0], K[1, 1])
    return np.asarray(flat, np.float64)


def _fisheye(pixels: NDArray[np.float64], K: NDArray[np.float64], d: tuple[float, ...]) -> NDArray[np.float64]:
    """Kannala-Brandt inverted by Newton's method; angles of 90 degrees and more to the axis are kept."""
    x, y = (pixels[:, 0] - K[0, 2]) / K[0, 0], (pixels[:, 1] - K[1, 2]) / K[1, 1]
    bent = np.hypot(x, y)
    theta = bent.copy()
    for _ in range(_STEPS):
        t2 = theta * theta
        value = theta * (1 + t2 * (d[0] + t2 * (d[1] + t2 * (d[2] + t2 * d[3]))))
        slope = 1 + t2 * (3 * d[0] + t2 * (5 * d[1] + t2 * (7 * d[2] + t2 * 9 * d[3])))
        theta = np.clip(theta - (value - bent) / np.where(np.abs(slope) < 1e-6, 1.0, slope), 0, np.pi)
    share = np.sin(theta) / np.maximum(bent, 1e-12)
    return np.column_stack([x * share, y * share, np.cos(theta)])
