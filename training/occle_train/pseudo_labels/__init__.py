# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Pseudo-labels: 2D ones from images, 3D occupancy from several LiDAR scans."""
