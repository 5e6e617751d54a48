# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""A camera view of a training sample: labels, confidence and projection."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from occle_core.geometry.camera import Camera
from occle_train.data.samples import View


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
