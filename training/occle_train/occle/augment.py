# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Augmentation of the geometric branch's inputs in three strengths (OccLE, Sec. 3.3.2 and Table 1). The geometry stays as it is."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from pydantic import Field

from occle_core.config import Config
from occle_core.frame import Frame


class OccleAugment(Config):
    """Strengths, each 0 where the table has no sign. The paper gives signs, not numbers: the numbers are ours."""

    brightness_jitter: float = Field(0.0, ge=0, lt=1, description="largest relative change of brightness and contrast (weak)")
    hsv_jitter: float = Field(
        0.0, ge=0, le=0.5, description="largest relative change of saturation and value; a tenth of it is hue's (weak)"
    )
    max_motion_blur: int = Field(0, ge=0, description="longest motion blur, pixels (middle)")
    weather_prob: float = Field(0.0, ge=0, le=1, description="probability of fog, rain or snow (middle)")
    max_cutout: float = Field(0.0, ge=0, le=0.5, description="largest side of a removed rectangle, share of the image (strong)")
    point_dropout_prob: float = Field(0.0, ge=0, le=1, description="probability that points are dropped")
    max_point_dropout: float = Field(0.0, ge=0, lt=1, description="largest share of points dropped then")
    min_point_sampling: float = Field(1.0, gt=0, le=1, description="least share of a voxel's points that the voxelisation samples")


TEACHER = OccleAugment(brightness_jitter=0.1, hsv_jitter=0.1, point_dropout_prob=0.2, max_point_dropout=0.1, min_point_sampling=0.9)
"""Table 1's first row: one sign each for brightness, HSV, point dropout and voxelisation."""

STUDENT = OccleAugment(
    brightness_jitter=0.3,
    hsv_jitter=0.3,
    max_motion_blur=9,
    weather_prob=0.3,
    max_cutout=0.3,
    point_dropout_prob=0.6,
    max_point_dropout=0.3,
    min_point_sampling=0.5,
)
"""Table 1's second row: three signs, two for motion blur and weather, one for cutout."""


def student_augment(middle: bool = True, strong: bool = True, full: OccleAugment = STUDENT) -> OccleAugment:
    """The student's augmentation with only some of Table 5's degrees; the weak ones are always there."""
    parts = {"max_motion_blur": middle, "weather_prob": middle, "max_cutout": strong}
    return full.model_copy(update={name: 0 for name, wanted in parts.items() if not wanted})


def augment_frame(frame: Frame, config: OccleAugment, rng: Generator) -> Frame:
    """The frame with disturbed images and points."""
    images = [None if image is None else augment_image(image, config, rng) for image in frame.images]
    return replace(frame, images=images, points=drop_points(frame.points, config, rng), origins=None)


def max_points(most: int, config: OccleAugment, rng: Generator) -> int:
    """Draw the largest number of points per voxel: `most`, or down to the least share of it."""
    return max(1, round(most * rng.uniform(config.min_point_sampling, 1)))


def drop_points(points: NDArray[np.float32], config: OccleAugment, rng: Generator) -> NDArray[np.float32]:
    """Points (N, 4), some left out, in random order: the voxelisation's even picking then is a random sample (Sec. 3.2)."""
    order = rng.permutation(len(points))
    if rng.random() < config.point_dropout_prob:
        order = order[: len(points) - int(len(points) * rng.uniform(0, config.max_point_dropout))]
    return points[order]


def augment_image(image: NDArray[np.uint8], config: OccleAugment, rng: Generator) -> NDArray[np.uint8]:
    """One image (H, W, 3) uint8 RGB."""
    value = image.astype(np.float32)
    if config.brightness_jitter:
        contrast, shift = (1 + rng.uniform(-config.brightness_jitter, config.brightness_jitter, 2)).astype(np.float32)
        value = (value - value.mean()) * contrast + value.mean() * shift
    if config.hsv_jitter:
        value = _shift_hsv(value, config.hsv_jitter, rng)
    if config.max_motion_blur > 1:
        value = _motion_blur(value, int(rng.integers(1, config.max_motion_blur + 1)), rng.uniform(0, np.pi))
    if rng.random() < config.weather_prob:
        value = (_fog, _rain, _snow)[rng.integers(3)](value, rng)
    if config.max_cutout:
        value = _cutout(value, config.max_cutout, rng)
    return np.asarray(value.clip(0, 255), np.uint8)


def _shift_hsv(value: NDArray[np.float32], strength: float, rng: Generator) -> NDArray[np.float32]:
    hsv = cv2.cvtColor(value.clip(0, 255) / np.float32(255), cv2.COLOR_RGB2HSV)
    hue, saturation, lightness = rng.uniform(-strength, strength, 3)
    hsv[..., 0] = (hsv[..., 0] + 36 * hue) % 360
    hsv[..., 1:] = (hsv[..., 1:] * (1 + np.array([saturation, lightness], np.float32))).clip(0, 1)
    return np.asarray(cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB) * np.float32(255), np.float32)


def _motion_blur(value: NDArray[np.float32], length: int, angle: float) -> NDArray[np.float32]:
    kernel = np.zeros((length, length), np.float32)
    middle = (length - 1) / 2
    for t in np.linspace(-middle, middle, 4 * length):
        kernel[round(middle + t * np.sin(angle)), round(middle + t * np.cos(angle))] = 1
    return np.asarray(cv2.filter2D(value, -1, kernel / kernel.sum()), np.float32)


def _fog(value: NDArray[np.float32], rng: Generator) -> NDArray[np.float32]:
    """Thicker towards the image's upper half, where things are far away."""
    thickness = rng.uniform(0.2, 0.6) * np.linspace(1, 0.4, len(value), dtype=np.float32)[:, None, None]
    return np.asarray(value * (1 - thickness) + 200 * thickness, np.float32)


def _rain(value: NDArray[np.float32], rng: Generator) -> NDArray[np.float32]:
    drops: NDArray[np.float32] = (rng.random(value.shape[:2]) < rng.uniform(0.002, 0.01)).astype(np.float32)
    streaks = _motion_blur(drops, 11, np.pi / 2 + rng.uniform(-0.3, 0.3)) * 11
    return np.asarray(value * 0.85 + 90 * streaks.clip(0, 1)[..., None], np.float32)


def _snow(value: NDArray[np.float32], rng: Generator) -> NDArray[np.float32]:
    flakes = (rng.random(value.shape[:2]) < rng.uniform(0.001, 0.006)).astype(np.float32)
    soft = cv2.GaussianBlur(cv2.dilate(flakes, np.ones((3, 3), np.uint8)), (0, 0), 1)[..., None]
    return np.asarray(value * (1 - soft) + 240 * soft, np.float32)


def _cutout(value: NDArray[np.float32], share: float, rng: Generator) -> NDArray[np.float32]:
    height, width = (max(1, round(n * rng.uniform(share / 3, share))) for n in value.shape[:2])
    top, left = (int(rng.integers(0, n - m + 1)) for n, m in zip(value.shape[:2], (height, width)))
    value = value.copy()
    value[top : top + height, left : left + width] = 0
    return value
