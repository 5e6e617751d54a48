# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Frames with a part of the sensors' data taken away, to measure what that part gives a network."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from occle_core.frame import Frame

DegradeName = Literal["nothing", "images", "colours", "intensity"]
Degradation = Callable[[Frame], Frame]


def keep(frame: Frame) -> Frame:
    """The frame as it is."""
    return frame


def without_images(frame: Frame) -> Frame:
    """Every camera masked."""
    return replace(frame, images=[None] * len(frame.images))


def without_colours(frame: Frame) -> Frame:
    """Gray images."""
    return replace(frame, images=[None if image is None else _gray(image) for image in frame.images])


def without_intensity(frame: Frame) -> Frame:
    """Every point with the mean intensity of its scan."""
    points = frame.points.copy()
    if len(points):
        points[:, 3] = points[:, 3].mean()
    return replace(frame, points=points)


DEGRADATIONS: dict[DegradeName, Degradation] = {
    "nothing": keep,
    "images": without_images,
    "colours": without_colours,
    "intensity": without_intensity,
}


def _gray(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.asarray(cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB), np.uint8)
