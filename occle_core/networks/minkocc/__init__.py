# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""MinkOcc: early fusion of images into LiDAR voxels and generative sparse completion."""
