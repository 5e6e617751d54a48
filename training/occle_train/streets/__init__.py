# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Procedural streets, halls and yards: ray-cast images, LiDAR scans and exact voxel truth, written as data set folders."""

from occle_train.streets.simulate import simulate

__all__ = ["simulate"]
