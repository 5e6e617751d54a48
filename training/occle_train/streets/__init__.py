# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Procedural streets: ray-cast images, LiDAR scans and exact voxel truth, written as SemanticKITTI or nuScenes folders."""

from occle_train.streets.simulate import simulate

__all__ = ["simulate"]
