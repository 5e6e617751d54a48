# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Augmentation of labelled frames: the grid is mirrored or rotated, the images and the scan are disturbed.

Turning the grid instead of the sensors (T_grid_lidar and the truth change, points and cameras do not) keeps images,
calibration, points and voxels consistent by construction. Shifting, scaling and rotating an image changes its calibration with it.
"""

from __future__ import annotations

import math
from dataclasses import replace

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from pydantic import Field

from occle_core.config import Config
from occle_core.frame import Frame
from occle_core.geometry.camera import Camera
from occle_core.geometry.grid import VoxelGrid
from occle_core.taxonomy import IGNORE
from occle_train.data.scan_mixing import thin_beams


class AugmentConfig(Config):
    """Strengths of the augmentation."""

    flip_prob: float = Field(0.5, ge=0, le=1, description="probability of mirroring along each axis the grid is symmetric in")
    rot90_prob: float = Field(
        0.5, ge=0, le=1, description="probability of a rotation by 90 degrees where the grid is square and centred"
    )
    camera_dropout_prob: float = Field(0.2, ge=0, le=1, description="probability that a camera is masked")
    max_point_dropout: float = Field(0.3, ge=0, le=1, description="largest share of points that is dropped")
    intensity_dropout_prob: float = Field(0.25, ge=0, le=1, description="probability that all intensities are set to their mean")
    intensity_jitter: float = Field(0.4, ge=0, description="largest relative change of the intensities' scale")
    color_jitter: float = Field(0.5, ge=0, description="largest relative change of brightness, contrast and saturation")
    grayscale_prob: float = Field(0.15, ge=0, le=1, description="probability that an image loses its colours")
    blur_prob: float = Field(0.3, ge=0, le=1, description="probability that an image is blurred or gets noise")
    max_image_shift: float = Field(0, ge=0, le=0.5, description="largest shift of an image, share of its width and height")
    max_image_scale: float = Field(0, ge=0, lt=1, description="largest relative change of an image's scale")
    max_image_rotation: float = Field(0, ge=0, le=45, description="largest rotation of an image about its centre, degrees")
    max_yaw: float = Field(0, ge=0, le=180, description="largest rotation of the grid about z, degrees")
    scan_mix_prob: float = Field(
        0,
        ge=0,
        le=1,
        description="probability that a sector of scan and target is another frame's; such frames have no image",
    )
    beam_thinning_prob: float = Field(0, ge=0, le=1, description="probability that every second or fewer of the beams are kept")
    max_beam_thinning: int = Field(4, ge=2, description="largest n, drawn from 2 on, of the every n-th beam that is kept then")
    max_voxel_dropout: float = Field(0, ge=0, le=1, description="largest share of truth voxels made unknown")


def augment(
    frame: Frame, truth: NDArray[np.uint8], grid: VoxelGrid, config: AugmentConfig, rng: Generator
) -> tuple[Frame, NDArray[np.uint8]]:
    """A disturbed frame and its truth (X, Y, Z), or several (X, Y, Z, K), which follow every change of the grid.

    The truth may be labels or occupancy: 255 is unknown in both. Labels of the images' pixels belong to the images and cameras
    as they came in; only `T_grid_lidar` of what is returned is needed to compare them with the rotated grid.
    """
    transform, truth = _flip_grid(truth, grid, config, rng)
    if config.max_yaw:
        rotation = _about_z(math.radians(rng.uniform(-config.max_yaw, config.max_yaw)))
        transform, truth = rotation @ transform, _resampled(truth, grid, rotation)
    images = [
        None if image is None or rng.random() < config.camera_dropout_prob else _disturb_image(image, config, rng)
        for image in frame.images
    ]
    thinned = np.ones(len(frame.points), np.bool_)
    if config.beam_thinning_prob and rng.random() < config.beam_thinning_prob:
        thinned = thin_beams(frame.points, config.max_beam_thinning, rng)
    points, kept = _disturb_points(frame.points[thinned], config, rng)
    ages = None if frame.ages is None else frame.ages[thinned][kept]
    cameras = list(frame.cameras)
    if config.max_image_shift or config.max_image_scale or config.max_image_rotation:
        for number, image in enumerate(images):
            if image is not None:
                images[number], cameras[number] = _move_image(image, cameras[number], config, rng)
    if config.max_voxel_dropout:
        dropped = rng.random(truth.shape[:3], np.float32) < rng.uniform(0, config.max_voxel_dropout)
        truth = np.where(dropped.reshape(*dropped.shape, *(1,) * (truth.ndim - 3)), np.uint8(IGNORE), truth)
    moved = transform @ frame.T_grid_lidar
    return replace(frame, points=points, ages=ages, origins=None, images=images, cameras=cameras, T_grid_lidar=moved), truth


def _flip_grid(
    truth: NDArray[np.uint8], grid: VoxelGrid, config: AugmentConfig, rng: Generator
) -> tuple[NDArray[np.float64], NDArray[np.uint8]]:
    transform = np.eye(4)
    centred = [abs(grid.origin[axis] + grid.upper[axis]) < 1e-6 for axis in (0, 1)]
    for axis in (0, 1):
        if centred[axis] and rng.random() < config.flip_prob:
            truth = np.flip(truth, axis)
            mirror = np.eye(4)
            mirror[axis, axis] = -1
            transform = mirror @ transform
    if all(centred) and grid.shape[0] == grid.shape[1] and rng.random() < config.rot90_prob:
        truth = np.rot90(truth, 1, (0, 1))
        quarter = np.eye(4)
        quarter[:2, :2] = [[0, -1], [1, 0]]
        transform = quarter @ transform
    return transform, np.ascontiguousarray(truth)


def _about_z(angle: float) -> NDArray[np.float64]:
    rotation = np.eye(4)
    rotation[:2, :2] = [[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]]
    return rotation


def _resampled(truth: NDArray[np.uint8], grid: VoxelGrid, rotation: NDArray[np.float64]) -> NDArray[np.uint8]:
    """The truth seen in the rotated grid: every cell takes what lies at its centre, unknown beyond the truth's border."""
    columns = np.stack(np.meshgrid(np.arange(grid.shape[0]), np.arange(grid.shape[1]), [0], indexing="ij"), -1).reshape(-1, 3)
    # A rotation about z moves all cells of a column alike; R is orthogonal, so x @ R applies its inverse.
    ijk, inside = grid.index(grid.centers(columns).astype(np.float64) @ rotation[:3, :3])
    result = np.full((len(columns), *truth.shape[2:]), IGNORE, np.uint8)
    result[inside] = truth[ijk[inside, 0], ijk[inside, 1]]
    return result.reshape(truth.shape)


def _move_image(
    image: NDArray[np.uint8], camera: Camera, config: AugmentConfig, rng: Generator
) -> tuple[NDArray[np.uint8], Camera]:
    """The image shifted, scaled and rotated about its centre, black beyond its border, and the camera that would have taken it."""
    size = np.array([camera.width, camera.height])
    middle = (size - 1) / 2
    linear = (1 + rng.uniform(-config.max_image_scale, config.max_image_scale)) * _about_z(
        math.radians(rng.uniform(-config.max_image_rotation, config.max_image_rotation))
    )[:2, :2]
    move = np.eye(3)
    move[:2, :2] = linear
    move[:2, 2] = middle - linear @ middle + rng.uniform(-config.max_image_shift, config.max_image_shift, 2) * size
    moved = cv2.warpAffine(image, move[:2], (camera.width, camera.height), flags=cv2.INTER_LINEAR)
    return np.asarray(moved, np.uint8), Camera(move @ camera.K, camera.T_camera_lidar, camera.width, camera.height)


def _disturb_image(image: NDArray[np.uint8], config: AugmentConfig, rng: Generator) -> NDArray[np.uint8]:
    value = image.astype(np.float32)
    gray = value @ np.array([0.299, 0.587, 0.114], np.float32)
    saturation = 0.0 if rng.random() < config.grayscale_prob else 1 + rng.uniform(-config.color_jitter, config.color_jitter)
    value = gray[..., None] + saturation * (value - gray[..., None])
    value = (value - value.mean()) * (1 + rng.uniform(-config.color_jitter, config.color_jitter)) + value.mean() * (
        1 + rng.uniform(-config.color_jitter, config.color_jitter)
    )
    value *= 1 + rng.uniform(-config.color_jitter / 3, config.color_jitter / 3, 3).astype(np.float32)
    if rng.random() < config.blur_prob:
        value = cv2.GaussianBlur(value, (0, 0), rng.uniform(0.3, 1.5))
    if rng.random() < config.blur_prob:
        value += rng.normal(0, rng.uniform(1, 10), value.shape).astype(np.float32)
    return np.asarray(value.clip(0, 255), np.uint8)


def _disturb_points(
    points: NDArray[np.float32], config: AugmentConfig, rng: Generator
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Disturbed points, and which of the given ones they are."""
    kept: NDArray[np.bool_] = rng.random(len(points)) >= rng.uniform(0, config.max_point_dropout)
    points = points[kept]
    intensity = points[:, 3] * np.float32(1 + rng.uniform(-config.intensity_jitter, config.intensity_jitter))
    if len(intensity) and rng.random() < config.intensity_dropout_prob:
        intensity = np.full_like(intensity, intensity.mean())
    return np.concatenate([points[:, :3], intensity.clip(0, 1)[:, None]], 1), kept
