"""Scores of predicted voxels, as the benchmarks define them."""

from __future__ import annotations

from training.metrics.completion import CompletionMetrics
from training.metrics.occ3d import Occ3DMetrics
from training.metrics.rayiou import RayIoU, lidar_rays, scene_origins

__all__ = ["CompletionMetrics", "Occ3DMetrics", "RayIoU", "lidar_rays", "scene_origins"]
