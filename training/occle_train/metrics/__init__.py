# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Scores of predicted voxels, as the benchmarks define them."""

from __future__ import annotations

from occle_train.metrics.completion import CompletionMetrics
from occle_train.metrics.occ3d import Occ3DMetrics
from occle_train.metrics.rayiou import RayIoU, lidar_rays, scene_origins

__all__ = ["CompletionMetrics", "Occ3DMetrics", "RayIoU", "lidar_rays", "scene_origins"]
