# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Pictures as files of JPEG and PNG."""

from __future__ import annotations

import cv2
import numpy as np

from occle_core.sensors.image_files import ImageFileError, decode_image

SAMPLING = {444: cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444, 422: cv2.IMWRITE_JPEG_SAMPLING_FACTOR_422}


def picture(height: int, width: int, noise: float = 0.0, seed: int = 0) -> np.ndarray:
    """(H, W, 3) uint8, smooth, with noise of this many grey levels."""
    rng = np.random.default_rng(seed)
    v, u = np.mgrid[0:height, 0:width] / max(height, width)
    waves = np.stack([127 + 100 * np.sin(3 * u + 2 * v + phase) for phase in rng.uniform(0, 6, 3)], -1)
    return np.clip(waves + rng.normal(0, 1, waves.shape) * noise, 0, 255).astype(np.uint8)


def jpeg(image: np.ndarray, sampling: int = 420, **options: int) -> bytes:
    flags = [cv2.IMWRITE_JPEG_QUALITY, options.pop("quality", 90)]
    if sampling != 420:
        flags += [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, SAMPLING[sampling]]
    for name, value in options.items():
        flags += [getattr(cv2, f"IMWRITE_JPEG_{name.upper()}"), value]
    return cv2.imencode(".jpg", image, flags)[1].tobytes()


def png(image: np.ndarray) -> bytes:
    return cv2.imencode(".png", image)[1].tobytes()


def decoded(data: bytes, halved: bool = False) -> np.ndarray | None:
    try:
        return decode_image(data, halved)
    except ImageFileError:
        return None
