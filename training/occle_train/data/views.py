# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Camera views of a training sample: labels, confidence and projection."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from occle_core.geometry.camera import Camera
from occle_core.taxonomy import IGNORE
from occle_train.data.samples import View

PixelLabels = tuple[NDArray[np.uint8], NDArray[np.float32]]
"""Class ids (H, W) of an image's pixels, 255 unlabelled, and confidences (H, W) in 0..1."""


def follow_image(labels: View, image: NDArray[np.uint8] | None, camera: Camera) -> PixelLabels:
    """Labels of an image after its augmentation: moved as it was, and unlabelled where it was masked.

    Args:
        labels: of the image as it came in.
        image: what became of it; None if it is masked.
        camera: that would have taken it, at the image's size.

    Returns:
        class ids (H, W), 255 unlabelled, and confidences.
    """
    if image is None:
        return np.full_like(labels.labels, IGNORE), np.zeros_like(labels.confidence)
    size = (labels.camera.width, labels.camera.height)
    move = camera.resized(*size).K @ np.linalg.inv(labels.camera.K)
    if np.allclose(move, np.eye(3), atol=1e-9):
        return labels.labels, labels.confidence
    moved = cv2.warpAffine(labels.labels, move[:2], size, flags=cv2.INTER_NEAREST, borderValue=IGNORE)
    return np.asarray(moved, np.uint8), np.asarray(cv2.warpAffine(labels.confidence, move[:2], size, flags=cv2.INTER_NEAREST))


def stack_pixels(
    frames: Sequence[Sequence[PixelLabels | None]], cameras: int, size: tuple[int, int]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Labels of a batch's images as tensors (B, cameras, H, W); unlabelled where an image has none."""
    labels = np.full((len(frames), cameras, size[1], size[0]), IGNORE, np.uint8)
    confidence = np.zeros(labels.shape, np.float32)
    for number, images in enumerate(frames):
        for camera, found in enumerate(images):
            if found is not None:
                labels[number, camera], confidence[number, camera] = found
    return torch.from_numpy(labels), torch.from_numpy(confidence)


@dataclass
class BatchView:
    """Labels of one image of a batch.

    Attributes:
        frame: which frame of the batch.
        camera: maps from the frame's (augmented) grid.
        labels: (H, W) uint8 class ids, 255 unlabelled.
        confidence: (H, W) float32.
    """

    frame: int
    camera: Camera
    labels: Tensor
    confidence: Tensor


def batch_view(view: View, frame: int, T_grid_lidar: NDArray[np.float64]) -> BatchView:
    """A view of frame number `frame` with a camera that maps from the (augmented) grid.

    What augmentation does to the images themselves does not concern their labels.
    """
    T_camera_grid = view.camera.T_camera_lidar @ np.linalg.inv(T_grid_lidar)
    camera = Camera(view.camera.K, T_camera_grid, view.camera.width, view.camera.height)
    return BatchView(frame, camera, torch.from_numpy(view.labels), torch.from_numpy(view.confidence))
